"""A diagnosis in words: one row per finding, for the terminal and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tailwise.imbalance.diagnosis import HARDLY_LEARNT_BELOW, POORLY_LEARNT_BELOW
from tailwise.report.task_words import words_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailwise.imbalance.diagnosis import Diagnosis
    from tailwise.imbalance.label_profile import LabelProfile
    from tailwise.imbalance.overlap import Overlap
    from tailwise.report.task_words import TaskWords

__all__ = ["Finding", "findings", "warnings_of"]

_CONCURRENT_ABOVE = 0.1
_SHIFT_LEVEL = 0.01


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what it means."""

    name: str
    value: str
    meaning: str


def findings(diagnosis: Diagnosis) -> list[Finding]:
    """The findings of a diagnosis, most important first."""
    words = words_for(diagnosis)
    rows = [*_size(diagnosis, words), *_imbalance(diagnosis, words), *_classes(diagnosis, words)]
    if diagnosis.labels is not None:
        rows += _label_sets(diagnosis, diagnosis.labels)
    rows += _hygiene(diagnosis, words)
    if diagnosis.overlap is not None:
        rows += _overlap(diagnosis.class_names, diagnosis.overlap)
    return rows


def warnings_of(diagnosis: Diagnosis) -> list[str]:
    """What a reader of any result on this corpus must not overlook."""
    words = words_for(diagnosis)
    lines = []
    if diagnosis.hardly_learnt:
        lines.append(
            f"{len(diagnosis.hardly_learnt)} of {diagnosis.num_classes} {words.kinds} have fewer than "
            f"{HARDLY_LEARNT_BELOW} training {words.instances}: {names_of(diagnosis.hardly_learnt)}. Expect little "
            "from any method; more examples help most."
        )
    lines += [
        f"{_number(leak.rows, words.row, words.rows)} of {leak.target} also in {leak.source} ({leak.share:.1%}): "
        f"scores on {leak.target} are too good."
        for leak in diagnosis.leakage
        if leak.rows
    ]
    if diagnosis.conflicts.texts:
        lines.append(
            f"Training has {_number(diagnosis.conflicts.texts, words.row, words.rows)} with more than one "
            f"{words.annotation} ({diagnosis.conflicts.rows:,} rows)."
        )
    if diagnosis.unseen:
        lines.append(
            f"{len(diagnosis.unseen)} {words.kinds} have no training instance ({names_of(diagnosis.unseen)}): their "
            "instances count as errors and their F1 is not averaged."
        )
    lines += [
        f"The {words.kinds} of {s.second} are distributed differently from {s.first} (p = {s.p_value:.1g})."
        for s in diagnosis.shifts
        if s.p_value is not None and s.p_value < _SHIFT_LEVEL
    ]
    return lines


def names_of(names: Sequence[str], most: int = 5) -> str:
    """Names joined by commas, cut after `most`."""
    shown = ", ".join(" ".join(name.split())[:40] for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _size(diagnosis: Diagnosis, words: TaskWords) -> Iterator[Finding]:
    sizes = ", ".join(f"{split} {rows:,}" for split, rows in diagnosis.num_rows.items())
    yield Finding(words.rows, sizes, f"{diagnosis.num_classes} {words.kinds}")
    if diagnosis.unit != "row":
        name = "labels given" if diagnosis.unit == "label" else words.instances
        sizes = ", ".join(f"{split} {int(counts.sum()):,}" for split, counts in diagnosis.counts.items())
        yield Finding(name, sizes, f"what is counted per {words.kind}")
    found = diagnosis.sentences
    if found is not None:
        meaning = f"the median is {found.median_length:g}, the longest sentence of train has {found.longest:,}"
        yield Finding("tokens per sentence", f"{found.mean_length:.1f}", meaning)
    if found is not None and found.spans is not None and found.without_span is not None:
        meaning = f"{found.without_span:,} sentences of train ({found.without_span / found.sentences:.1%}) have none"
        yield Finding("spans per sentence", f"{found.spans / found.sentences:.2f}", meaning)


def _imbalance(diagnosis: Diagnosis, words: TaskWords) -> Iterator[Finding]:
    m = diagnosis.measures
    meaning = f"{m.largest:,} {words.instances} of the largest {words.kind}, {m.smallest:,} of the smallest"
    yield Finding("imbalance ratio rho", f"{m.rho:,.1f}", meaning)
    yield Finding("minority share mu", f"{m.mu:.2f}", f"share of {words.kinds} below the average size")
    yield Finding("shape", diagnosis.shape.name, diagnosis.shape.reason)
    meaning = f"as many equally large {words.kinds} would be as mixed (of {m.num_classes})"
    yield Finding(f"effective {words.kinds}", f"{m.effective_classes:.1f}", meaning)
    yield Finding("normalised entropy", f"{m.normalised_entropy:.3f}", f"1 is balanced, 0 a single {words.kind}")
    if diagnosis.catch_all is not None:
        c = diagnosis.catch_all
        if c.index is None:
            yield Finding("catch-all tag", f"{names_of([c.name])} ({c.share:.0%} of tokens)", c.reason)
            return
        rest = "" if c.rho_without is None else f" Without it rho is {c.rho_without:,.1f}."
        yield Finding(f"catch-all {words.kind}", f"{names_of([c.name])} ({c.share:.0%})", f"{c.reason}{rest}")


def _classes(diagnosis: Diagnosis, words: TaskWords) -> Iterator[Finding]:
    sizes = {g: int((diagnosis.groups.names == g).sum()) for g in ("head", "medium", "tail")}
    rule = diagnosis.groups.rule.replace("examples", words.instances).replace("classes", words.kinds)
    meaning = f"{words.kinds}; {rule}"
    yield Finding("head / medium / tail", " / ".join(map(str, sizes.values())), meaning)
    few, some = len(diagnosis.hardly_learnt), len(diagnosis.poorly_learnt)
    under = f"{words.kinds} under {HARDLY_LEARNT_BELOW} {words.instances}"
    yield Finding(under, str(few), names_of(diagnosis.hardly_learnt) or "none")
    under = f"{words.kinds} under {POORLY_LEARNT_BELOW} {words.instances}"
    yield Finding(under, str(some), "learnt poorly by transformers (survey, section 1)")


def _label_sets(diagnosis: Diagnosis, labels: LabelProfile) -> Iterator[Finding]:
    m = labels.measures
    without = f"{m.unlabelled_rows:,} of {m.num_rows:,} rows of train ({m.unlabelled_rows / m.num_rows:.1%}) have none"
    yield Finding("labels per row (Card)", f"{m.cardinality:.2f}", without)
    yield Finding("density (Dens)", f"{m.density:.4f}", f"labels per row, over the {m.num_classes} labels")
    rarest = np.argsort(-labels.irlbl, kind="stable")[:3]
    names = ", ".join(f"{names_of([diagnosis.class_names[i]])} {labels.irlbl[i]:,.1f}" for i in rarest)
    meaning = f"the most frequent label over each label, in the mean; highest IRLbl: {names}"
    yield Finding("MeanIR", f"{m.mean_ir:,.1f}", meaning)
    yield Finding("CVIR", f"{m.cvir:.2f}", "spread of IRLbl over its mean")
    if m.scumble > _CONCURRENT_ABOVE:
        meaning = "above 0.1: rare and frequent labels come together, so repeating rows repeats both"
    else:
        meaning = "up to 0.1: rare labels seldom come with frequent ones, so repeating rows can balance them"
    yield Finding("SCUMBLE", f"{m.scumble:.3f}", meaning)
    meaning = f"{m.single_label_sets:,} of them on one row only; the largest has {m.largest_label_set:,} rows"
    yield Finding("label sets", f"{m.label_sets:,}", meaning)


def _hygiene(diagnosis: Diagnosis, words: TaskWords) -> Iterator[Finding]:
    d = diagnosis.duplicates
    meaning = f"{d.rows_exact:,} of them to the letter, the others but for case and spaces"
    yield Finding("duplicates in train", f"{d.rows:,} ({d.share:.1%})", meaning if d.rows else "none")
    c = diagnosis.conflicts
    if c.examples:
        example = c.examples[0]
        labels = ", ".join(f"{_cut(label)} {count}" for label, count in list(example.labels.items())[:4])
        yield Finding(
            "label conflicts", _number(c.texts, words.row, words.rows), f"e.g. {_quote(example.text)}: {labels}"
        )
    else:
        meaning = f"no {words.row} of train has two {words.annotation}s"
        yield Finding("label conflicts", _number(c.texts, words.row, words.rows), meaning)
    for leak in diagnosis.leakage:
        meaning = f"{leak.rows_other_label:,} of them under another label" if leak.rows else f"no {words.row} in both"
        yield Finding(f"leakage {leak.source} to {leak.target}", f"{leak.rows:,} ({leak.share:.1%})", meaning)
    for shift in diagnosis.shifts:
        untested = "not testable" if diagnosis.unit == "row" else f"{diagnosis.unit}s of one row are not independent"
        p_value = untested if shift.p_value is None else f"chi-square p = {shift.p_value:.2g}"
        number = len(shift.missing)
        missing = f"; {_number(number, words.kind, words.kinds)} missing in {shift.second}" if number else ""
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


def _number(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _quote(text: str) -> str:
    return f'"{_cut(" ".join(text.split()))}"'


def _cut(line: str) -> str:
    return f"{line[:60]}…" if len(line) > 60 else line
