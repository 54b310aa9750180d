"""Compute the tables in docs/results: one comparison per table, written as it comes out.

    TAILWISE_DATA=... python docs/tables.py --out runs/tables losses-trec50 tasks-atis_slots
    python docs/tables.py --list

A table is a data set, methods and an engine. Every method has the same budget of tuning trials on validation and the
same seeds; fine-tuned tables take the published defaults. Results are stored below ``--out``, so a table that was
stopped goes on; the per-class figures of every method and seed lie beside them as ``per_class.csv``.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import torch
from datasets import Dataset

import tailwise
from tailwise.benchmark.compare import compare, make_engine
from tailwise.benchmark.reporting import write_tables
from tailwise.data.identity import fingerprint_of
from tailwise.sampling import remedial
from tailwise.stages.recipe import Component, Recipe, Stage
from tailwise.training import FinetuneEngine

if TYPE_CHECKING:
    from tailwise.benchmark.comparison import Comparison
    from tailwise.data.corpus import Corpus

HERE = Path(__file__).parent / "results"
NAMES = {
    "macro_f1": "macro-F1", "micro_f1": "micro-F1", "tail_f1": "tail F1", "worst_class_f1": "worst class", "ece": "ECE",
    "balanced_accuracy": "balanced accuracy", "samples_f1": "samples F1", "token_accuracy": "token accuracy",
    "las": "LAS", "uas": "UAS", "accuracy": "accuracy", "relation_macro_f1": "official macro-F1",
}  # fmt: skip
SINGLE_LOSSES = (
    "ce", "wce", "focal", "focal-sigmoid", "dice", "ce-dice", "batch-dice", "tversky", "adl", "ldam", "ldam-drw",
    "balanced-softmax", "logit-adjusted", "vs", "influence-balanced", "influence-balanced-rescaled", "poly-1",
    "ranking", "csr", "csr-wce", "asl-single", "class-dro", "term", "drw",
)  # fmt: skip
LABEL_LOSSES = (
    "ce", "wbce", "pos-weight", "uniform-pos-weight", "ml-focal", "batch-balanced-focal", "r-fl", "ntr-fl", "db-0fl",
    "cb-fl", "cb-ntr", "db", "ml-ldam", "asl", "bp-mll", "lsep", "zlpr", "two-way", "ml-dice", "ml-batch-dice",
    "thresholds", "logit-adjustment", "tau-norm",
)  # fmt: skip
CATCH_ALL_LOSSES = ("ce", "wce", "catch-all-wce", "mom", "csr", "csr-f1", "ranking", "focal")
NOT_AMONG_LOSSES = (
    "Not in this table: supcon and lcl, which train the encoder (see contrastive-trec50 and contrastive-atis_intent); "
    "catch-all-wce, mom and csr-f1, which need a catch-all class (see losses-semeval2010_task8); group-dro, fair-ldam "
    "and fair-ce, which need groups."
)
SINGLE_SAMPLERS = (
    "ce", "ros", "rus", "cas", "square-root-sampling", "flexible-band", "partial-balancing", "frequent-subsampling",
    "drs", "dynamic-sampling", "feedback-loop", "progressive-sampling",
    Recipe("mixed", (Stage(Component("mixed", {"samplers": ["natural", "cas"], "shares": [0.5, 0.5]})),)),
    Recipe("m-per-class", (Stage(Component("m-per-class", {"samples_per_class": 4})),)),
)  # fmt: skip
LABEL_SAMPLERS = ("lp-ros", "lp-rus", "ml-ros", "ml-rus", "ml-cas", "rfs", "label-balanced")
SENTENCE_SAMPLERS = ("ce", "sentence-rarity", "sentence-rfs", "catch-all-sentences", "square-root-sampling", "cas")
CONTRASTIVE = ("ce", "supcon", "lcl")
#: simple baselines, the plain loss, and what changes least to it; see docs/ground.py
_ALWAYS = ("ce", "wce", "logit-adjustment", "thresholds", "logistic-regression")
_TEXTS = (
    "trec50", "atis_intent", "tweet_emotion", "covidq_category", "sms_spam", "olid", "tweet_stance", "germeval2018",
    "meld_emotion", "banking77", "scicite", "hate_offensive_tweets", "clinc150_imbalanced", "chatterbot-topics",
)  # fmt: skip
_PAIRS = ("discourse_scidtb", "discourse_stac", "sick")
_RELATIONS = ("scierc_relations", "semeval2010_task8", "ddi2013")
_LABEL_SETS = ("mulms_az", "unfair_tos_en", "reuters21578", "goemotions")
_TAGS = ("wnut17", "atis_slots", "bc5cdr", "phee_arguments")
GROUND: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*_TEXTS, *_PAIRS, *_RELATIONS), (*_ALWAYS, "tfidf-svm", "balanced-softmax", "tau-norm", "focal")),
    **dict.fromkeys(_LABEL_SETS, (*_ALWAYS, "tfidf-svm", "pos-weight", "db")),
    **dict.fromkeys(_TAGS, (*_ALWAYS, "crf")),
}


@dataclass(frozen=True)
class Table:
    """A comparison: data set, methods, engine and settings, and what its page says of methods it does not have."""

    corpus: str
    methods: tuple[str | Recipe, ...]
    engine: str = "probe"
    metric: str = "macro_f1"
    trials: int = 4
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: float | None = None
    head_learning_rate: float | None = None
    remedial: bool = False
    note: str = ""


def _finetuned(
    corpus: str,
    *methods: str,
    epochs: float,
    metric: str = "macro_f1",
    seeds: int = 3,
    head_learning_rate: float | None = None,
) -> Table:
    return Table(corpus, methods, "finetune", metric, 0, tuple(range(seeds)), epochs, head_learning_rate)


TABLES: dict[str, Table] = {
    **{f"ground-{name}": Table(name, methods, trials=8) for name, methods in GROUND.items()},
    **{f"losses-{name}": Table(name, SINGLE_LOSSES, note=NOT_AMONG_LOSSES) for name in ("trec50", "atis_intent")},
    "losses-semeval2010_task8": Table("semeval2010_task8", CATCH_ALL_LOSSES),
    "losses-reuters21578": Table("reuters21578", LABEL_LOSSES),
    **{f"contrastive-{name}": _finetuned(name, *CONTRASTIVE, epochs=5) for name in ("trec50", "atis_intent")},
    "samplers-trec50": Table("trec50", SINGLE_SAMPLERS),
    "samplers-atis_intent": Table("atis_intent", SINGLE_SAMPLERS),
    "samplers-olid": Table("olid", SINGLE_SAMPLERS),
    "samplers-reuters21578": Table("reuters21578", ("ce", *LABEL_SAMPLERS)),
    "samplers-goemotions": Table("goemotions", ("ce", *LABEL_SAMPLERS), trials=2, epochs=5),
    **{f"samplers-{name}": Table(name, SENTENCE_SAMPLERS, trials=2) for name in ("wnut17", "atis_slots")},
    "samplers-reuters21578-remedial": Table("reuters21578", ("ce",), remedial=True),
    "samplers-goemotions-remedial": Table("goemotions", ("ce",), trials=2, epochs=5, remedial=True),
    "tasks-goemotions": Table("goemotions", ("ce", "wce", "focal", "db", "thresholds"), trials=2, epochs=5),
    "tasks-debian-tags": Table("debian-tags", ("ce", "wce", "focal", "db", "thresholds"), trials=1, epochs=5),
    **{
        f"tasks-{name}": Table(
            name, ("ce", "wce", "focal", "db", "thresholds", *(("caml",) if name == "unfair_tos_en" else ()))
        )
        for name in ("reuters21578", "unfair_tos_en", "mulms_az")
    },
    **{
        f"tasks-{name}": Table(name, ("ce", "wce", "focal", "balanced-softmax", "tau-norm", "thresholds"))
        for name in ("sick", "discourse_scidtb", "discourse_stac")
    },
    **{
        f"tasks-{name}": Table(name, ("ce", "wce", "focal", "ranking", "tau-norm", "thresholds"))
        for name in ("semeval2010_task8", "ddi2013", "scierc_relations")
    },
    **{
        f"tasks-{name}": Table(name, ("ce", "wce", "focal", "dice", "crt"), trials=2)
        for name in ("wnut17", "bc5cdr", "atis_slots", "phee_arguments")
    },
    "tasks-ud_english_lines": Table("ud_english_lines", ("ce", "wce", "focal"), metric="las", trials=0, epochs=4),
    "tasks-ud_english_ewt": Table("ud_english_ewt", ("ce", "wce", "focal"), metric="las", trials=0, epochs=4),
    "finetuned-atis_slots": _finetuned("atis_slots", "ce", "focal", "dice", epochs=10),
    "finetuned-semeval2010_task8": _finetuned("semeval2010_task8", "ce", "ranking", "tau-norm", epochs=5),
    "finetuned-reuters21578": _finetuned("reuters21578", "ce", "db", epochs=5),
    "contrastive-trec50-fast-head": _finetuned("trec50", *CONTRASTIVE, epochs=3, seeds=1, head_learning_rate=5e-3),
    "finetuned-reuters21578-fast-head": _finetuned("reuters21578", "ce", epochs=3, seeds=1, head_learning_rate=5e-3),
    "finetuned-sick": _finetuned("sick", "ce", "wce", "focal", epochs=4),
    "finetuned-ud_english_ewt": _finetuned("ud_english_ewt", "ce", "wce", "focal", epochs=2, metric="las", seeds=1),
}


def decoupled(corpus: Corpus) -> Corpus:
    """The corpus with the training rows of REMEDIAL: rare and frequent labels of a row in two rows of their own.

    A corpus knows no unknown labels, so that a row does not have what was taken out of it, as in the paper.
    """
    found = remedial(corpus.label_matrix("train"), mask=False)
    table = corpus.splits["train"].with_format("arrow")[:].take(pa.array(found.rows))
    ids = [f"{name}-{row}" for row, name in enumerate(table["id"].to_pylist())]
    sets = [found.labels.indices[a:b] for a, b in pairwise(found.labels.indptr)]
    columns = {"id": pa.array(ids), "labels": pa.array(sets, pa.list_(pa.int64()))}
    for column, values in columns.items():
        table = table.set_column(table.schema.get_field_index(column), column, values)
    tables = {split: corpus.splits[split].with_format("arrow")[:] for split in corpus.splits} | {"train": table}
    space = replace(corpus.label_space, num_rows=table.num_rows)
    fingerprint = fingerprint_of(tables, space.all_names)
    splits = {split: Dataset(rows, fingerprint=f"{fingerprint[:48]}-{split}") for split, rows in tables.items()}
    return replace(corpus, name=f"{corpus.name}-remedial", splits=splits, label_space=space, fingerprint=fingerprint)


def run(name: str, out: Path) -> Comparison:
    """Compute one table, or what is still missing of it."""
    table = TABLES[name]
    corpus = tailwise.load(table.corpus)
    corpus = decoupled(corpus) if table.remedial else corpus
    folder = out / name
    engine = make_engine(table.engine, table.metric, None, folder / "checkpoints", table.epochs)
    if isinstance(engine, FinetuneEngine):
        engine = replace(engine, head_learning_rate=table.head_learning_rate)
    return compare(
        corpus,
        table.methods,
        engine=engine,
        seeds=table.seeds,
        trials=table.trials,
        metric=table.metric,
        out=folder,
    )


def markdown(name: str, comparison: Comparison) -> str:
    """The table, with the command that repeats it."""
    table, spec = comparison.table(), TABLES[name]
    shown = [m for m in comparison.metrics if m in table and table[m].notna().any()]
    seeds = ", ".join(map(str, spec.seeds))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    facts = f"{spec.corpus}, engine {spec.engine} on {device}, {spec.trials} tuning trials per method, seeds {seeds}"
    if spec.remedial:
        facts += ", training rows decoupled by REMEDIAL"
    if spec.head_learning_rate is not None:
        facts += f", learning rate of the head {spec.head_learning_rate}"
    heads = [*(NAMES.get(m, m) for m in shown), "against ce (Holm)", "validation", "s per model"]
    lines = [
        f"# {name}",
        "",
        f"`python docs/tables.py {name}`: {facts}; test split, mean over seeds, 95% intervals.",
        "",
        "| method | " + " | ".join(heads) + " |",
        "|---|" + "---|" * len(heads),
    ]
    for method, row in table.iterrows():
        cells = [f"{row[m]:.3f}" for m in shown]
        cells[0] += f" [{row[f'{shown[0]}_low']:.3f}, {row[f'{shown[0]}_high']:.3f}]"
        gain = "" if row["p_value"] != row["p_value"] else f"{row['gain']:+.3f}, p = {row['p_value']:.3f}"
        cells += [gain, f"{row['validation']:.3f}", f"{row['seconds']:.1f}"]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    twins = ", ".join(f"{twin} = {first}" for twin, first in comparison.twins.items())
    lines += ["", f"One computation, counted once in the tests: {twins}."] if twins else []
    lines += ["", f"Chosen on validation: {comparison.best()}."]
    lines += [f"Left out: {left}: {reason}" for left, reason in comparison.skipped.items()]
    lines += ["", spec.note] if spec.note else []
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compute the tables that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *TABLES], metavar="TABLE")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list or not options.names:
        sys.stdout.write("\n".join(TABLES) + "\n")
        return
    for name in options.names:
        started = time.perf_counter()
        comparison = run(name, options.out)
        HERE.mkdir(exist_ok=True)
        (HERE / f"{name}.md").write_text(markdown(name, comparison), encoding="utf-8")
        write_tables(comparison, options.out / name)
        sys.stdout.write(f"{name}: {time.perf_counter() - started:.0f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
