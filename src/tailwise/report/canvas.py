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
    from collections.abc import Iterator, Mapping

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
    "save_figures",
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
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
}

_DPI = 160


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches with our style; draw inside the block."""
    with mpl.rc_context(_RC):
        yield Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def svg_text(figure: Figure) -> str:
    """The figure as one ``<svg>`` element, without XML prologue, equal for equal content."""
    return _element(_rendered(figure, "svg"))


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
    path.write_bytes(_rendered(figure, suffix.removeprefix(".")))
    return path


def save_figures(figures: Mapping[str, Figure], folder: Path) -> dict[str, str]:
    """Write every figure as ``NAME.png`` and ``NAME.svg``, each drawn once; returns the ``<svg>`` element by name."""
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    return {name: _element(save_figure(f, folder / f"{name}.svg").read_bytes()) for name, f in figures.items()}


def _rendered(figure: Figure, form: str) -> bytes:
    """The content of a file. The layout is computed before the first drawing and kept for all further ones."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context(_RC):
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine(None)  # with one, every file would cost a second drawing and a new layout
        figure.savefig(buffer, format=form, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


def _element(svg: bytes) -> str:
    text = svg.decode("utf-8")
    return text[text.index("<svg") :]


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
