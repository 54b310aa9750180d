"""The report: one HTML file, readable offline, on a phone and by keyboard, that escapes every text from the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Column", "Picture", "ReportContent", "Table", "render_report"]


@dataclass(frozen=True)
class Column:
    """A column of a table: key of the row, heading, and how a value is shown."""

    key: str
    heading: str
    form: str = "text"


@dataclass(frozen=True)
class Table:
    """A table of the report; `rows` are mappings by column key, `strong` names rows to set in bold by position."""

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    caption: str = ""
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A figure as SVG text, with the sentence a screen reader says."""

    svg: str
    description: str


@dataclass(frozen=True)
class ReportContent:
    """Everything the page shows.

    Attributes:
        title: heading.
        summary: sentences of the result, plain text.
        facts: short facts about corpus, encoder and engine, by name.
        warnings: what a reader must not overlook.
        tables: by name: ``comparison``, ``recommendations``, ``per_class``, ``groups``, ``confusion``, ``diagnosis``,
            ``calibration``, ``methods``; a missing one is left out.
        pictures: by name: ``f1_by_count``, ``change``, ``reliability``, ``confusion``, ``cost``, ``diagnosis``.
        recipe: the best recipe as YAML.
        repeat: commands that repeat the run and use the model.
        notes: how the numbers were made, plain text.
        versions: versions of the packages used.
    """

    title: str
    summary: Sequence[str]
    facts: Mapping[str, str]
    warnings: Sequence[str] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    recipe: str = ""
    repeat: Sequence[str] = ()
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def render_report(content: ReportContent) -> str:
    """The page as HTML text; equal for equal content."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["show"] = show
    environment.filters["svg"] = _labelled_svg
    template = files("tailwise.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(content=content)


def show(value: Any, form: str = "text") -> str:
    """A value as text.

    Args:
        value: what to show; None and NaN become a dash.
        form: ``text``, ``count`` (thousands), ``score`` (3 decimals), ``signed``, ``percent``, ``seconds``, ``p`` (a
            p-value) or ``interval`` (low and high of a pair).
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if form == "interval":
        low, high = value
        return f"{low:.3f} to {high:.3f}"
    if form == "p":
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    styles = {"count": "{:,.0f}", "score": "{:.3f}", "signed": "{:+.3f}", "percent": "{:.1%}", "seconds": "{:.1f}"}
    return styles[form].format(value) if form in styles else str(value)


def _labelled_svg(picture: Picture) -> Markup:
    """The SVG with a role and an escaped label; its own text was escaped by the drawing library."""
    label = Markup(' role="img" aria-label="{}" ').format(picture.description)
    head, _, rest = picture.svg.partition("<svg ")
    return Markup(head) + Markup("<svg") + label + Markup(rest)  # noqa: S704 - drawn by us, text escaped by matplotlib
