"""The sheet every figure is drawn on: sizes, colours, and files that are equal for equal content.

Colours are Okabe and Ito's, which people with a colour-vision deficiency can tell apart. No global matplotlib state is
touched: figures are made as objects and drawn inside a context.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tailwise.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "GREY",
    "GROUP_COLOURS",
    "ORANGE",
    "SKY",
    "VERMILION",
    "canvas",
    "save_figure",
    "shorten",
    "svg_text",
    "zero_line",
]

BLUE, SKY, ORANGE, VERMILION, GREY = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#6B7280"
GROUP_COLOURS = {"head": BLUE, "medium": ORANGE, "tail": VERMILION}

_RC: dict[str, Any] = {
    "font.size": 9.0,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#E5E7EB",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "tailwise",
    "text.parse_math": False,
}


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches with our style; draw inside the block."""
    with mpl.rc_context(_RC):
        yield Figure(figsize=(width, height), layout="constrained")


def svg_text(figure: Figure) -> str:
    """The figure as one ``<svg>`` element, without XML prologue, equal for equal content."""
    buffer = io.StringIO()
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write the figure as PNG (160 dpi) or SVG, by suffix.

    Raises:
        SettingError: another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in {".png", ".svg"}:
        raise SettingError(f"Expected a figure file ending in .png or .svg, but got {path.name!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_RC):
        metadata: dict[str, Any] = {"Software": None} if suffix == ".png" else {"Date": None, "Creator": None}
        figure.savefig(path, dpi=160, metadata=metadata)
    return path


def shorten(name: str, length: int = 28) -> str:
    """A class name on one line, cut in the middle when it is long."""
    line = " ".join(name.split())
    if len(line) <= length:
        return line
    half = (length - 1) // 2
    return f"{line[: length - 1 - half]}…{line[-half:]}"


def zero_line(axes: Axes, *, vertical: bool = True) -> None:
    """A thin line at zero."""
    draw = axes.axvline if vertical else axes.axhline
    draw(0.0, color=GREY, linewidth=0.8)
