"""A diagnosis in words: one row per finding, for the terminal and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailwise.imbalance.diagnosis import Diagnosis
    from tailwise.imbalance.overlap import Overlap

__all__ = ["Finding", "findings", "warnings_of"]

_SHIFT_LEVEL = 0.01


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what it means."""

    name: str
    value: str
    meaning: str


def findings(diagnosis: Diagnosis) -> list[Finding]:
    """The findings of a diagnosis, most important first."""
    rows = [*_size(diagnosis), *_imbalance(diagnosis), *_classes(diagnosis), *_hygiene(diagnosis)]
    if diagnosis.overlap is not None:
        rows += _overlap(diagnosis.class_names, diagnosis.overlap)
    return rows


def warnings_of(diagnosis: Diagnosis) -> list[str]:
    """What a reader of any result on this corpus must not overlook."""
    lines = []
    if diagnosis.hardly_learnt:
        lines.append(
            f"{len(diagnosis.hardly_learnt)} of {diagnosis.num_classes} classes have fewer than 25 training examples: "
            f"{names_of(diagnosis.hardly_learnt)}. Expect little from any method; more examples help most."
        )
    lines += [
        f"{leak.rows:,} texts of {leak.target} also occur in {leak.source} ({leak.share:.1%}): scores on {leak.target} "
        "are too good."
        for leak in diagnosis.leakage
        if leak.rows
    ]
    if diagnosis.conflicts.texts:
        lines.append(
            f"{diagnosis.conflicts.texts:,} training texts carry more than one label "
            f"({diagnosis.conflicts.rows:,} rows)."
        )
    if diagnosis.unseen:
        lines.append(
            f"{len(diagnosis.unseen)} classes have no training instance ({names_of(diagnosis.unseen)}): their "
            "instances count as errors and their F1 is not averaged."
        )
    lines += [
        f"The classes of {s.second} are distributed differently from {s.first} (p = {s.p_value:.1g})."
        for s in diagnosis.shifts
        if s.p_value is not None and s.p_value < _SHIFT_LEVEL
    ]
    return lines


def names_of(names: Sequence[str], most: int = 5) -> str:
    """Names joined by commas, cut after `most`."""
    shown = ", ".join(" ".join(name.split())[:40] for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _size(diagnosis: Diagnosis) -> Iterator[Finding]:
    sizes = ", ".join(f"{split} {int(counts.sum()):,}" for split, counts in diagnosis.counts.items())
    yield Finding("instances", sizes, f"{diagnosis.num_classes} classes")


def _imbalance(diagnosis: Diagnosis) -> Iterator[Finding]:
    m = diagnosis.measures
    meaning = f"{m.largest:,} instances of the largest class, {m.smallest:,} of the smallest"
    yield Finding("imbalance ratio rho", f"{m.rho:,.1f}", meaning)
    yield Finding("minority share mu", f"{m.mu:.2f}", "share of classes below the average size")
    yield Finding("shape", diagnosis.shape.name, diagnosis.shape.reason)
    meaning = f"as many equally large classes would be as mixed (of {m.num_classes})"
    yield Finding("effective classes", f"{m.effective_classes:.1f}", meaning)
    yield Finding("normalised entropy", f"{m.normalised_entropy:.3f}", "1 is balanced, 0 a single class")
    if diagnosis.catch_all is not None:
        c = diagnosis.catch_all
        rest = "" if c.rho_without is None else f" Without it rho is {c.rho_without:,.1f}."
        yield Finding("catch-all class", f"{names_of([c.name])} ({c.share:.0%})", f"{c.reason}{rest}")


def _classes(diagnosis: Diagnosis) -> Iterator[Finding]:
    sizes = {g: int((diagnosis.groups.names == g).sum()) for g in ("head", "medium", "tail")}
    yield Finding("head / medium / tail", " / ".join(map(str, sizes.values())), f"classes; {diagnosis.groups.rule}")
    few, some = len(diagnosis.hardly_learnt), len(diagnosis.poorly_learnt)
    yield Finding("classes under 25 examples", str(few), names_of(diagnosis.hardly_learnt) or "none")
    yield Finding("classes under 100 examples", str(some), "learnt poorly by transformers (survey, section 1)")


def _hygiene(diagnosis: Diagnosis) -> Iterator[Finding]:
    d = diagnosis.duplicates
    meaning = f"{d.rows_exact:,} of them to the letter, the others but for case and spaces"
    yield Finding("duplicates in train", f"{d.rows:,} ({d.share:.1%})", meaning if d.rows else "none")
    c = diagnosis.conflicts
    if c.texts:
        example = c.examples[0]
        labels = ", ".join(f"{label} {count}" for label, count in list(example.labels.items())[:4])
        yield Finding("label conflicts", f"{c.texts:,} texts", f"e.g. {_quote(example.text)}: {labels}")
    else:
        yield Finding("label conflicts", "0 texts", "no text of train has two labels")
    for leak in diagnosis.leakage:
        meaning = f"{leak.rows_other_label:,} of them under another label" if leak.rows else "no text in both"
        yield Finding(f"leakage {leak.source} to {leak.target}", f"{leak.rows:,} ({leak.share:.1%})", meaning)
    for shift in diagnosis.shifts:
        p_value = "not testable" if shift.p_value is None else f"chi-square p = {shift.p_value:.2g}"
        missing = f"; {len(shift.missing)} classes missing in {shift.second}" if shift.missing else ""
        meaning = f"total variation; {p_value}{missing}"
        yield Finding(f"shift {shift.first} to {shift.second}", f"{shift.total_variation:.3f}", meaning)


def _overlap(class_names: Sequence[str], overlap: Overlap) -> Iterator[Finding]:
    order = np.argsort(np.nan_to_num(overlap.relative_purity, nan=np.inf), kind="stable")[:3]
    worst = ", ".join(f"{names_of([class_names[i]])} {overlap.purity[i]:.2f}" for i in order)
    sample = "" if overlap.rows == overlap.total_rows else f"; on {overlap.rows:,} of {overlap.total_rows:,} instances"
    meaning = f"mean share of the {overlap.neighbours} nearest neighbours in the same class; lowest: {worst}{sample}"
    yield Finding("k-NN purity", f"{overlap.macro_purity:.2f}", meaning)
    if overlap.confused_pairs:
        mixed = overlap.confused_pairs[:3]
        pairs = "; ".join(f"{names_of([p.first])} in {names_of([p.second])} {p.share:.0%}" for p in mixed)
        yield Finding("most mixed classes", str(len(overlap.confused_pairs)), pairs)


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line[:60]}…"' if len(line) > 60 else f'"{line}"'
