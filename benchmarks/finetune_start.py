"""Where the final layer of a fine-tuning starts: fresh or at the probe's solution, at the encoder's rate or at 5e-3.

    OMP_NUM_THREADS=1 python benchmarks/finetune_start.py [--sets trec50 sick] [--methods ce ldam] [--seeds 1]

Cuts of real data sets, short texts, three epochs of batches of 32, encoder rate 1e-4; macro-F1 on validation (over
spans where tokens are tagged). The test split is not looked at. Prints a table in Markdown, one row per set and method;
the seconds are processor time of the whole run, the start included. `--part` keeps finished runs in a file, so that a
run that was stopped goes on.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from datasets import Dataset, disable_progress_bars

from tailwise.catalog import resolve
from tailwise.data import load
from tailwise.data.corpus import SPLITS, Corpus
from tailwise.data.labels import LabelSpace
from tailwise.evaluation.scoring import evaluate_scores
from tailwise.models.encoder import Encoder
from tailwise.training.finetune import FinetuneEngine

#: name, training rows, tokens per text
CUTS = {
    "trec50": (600, 18),
    "scierc_relations": (400, 40),
    "wnut17": (300, 24),
    "reuters21578": (300, 24),
    "sick": (300, 28),
    "atis_intent": (300, 18),
    "sms_spam": (200, 24),
}
VALIDATION_ROWS = 300
COLUMN = {"single": "label", "multi": "labels", "tags": "tags"}

#: column of the table: start and rate of the head
VARIANTS = {
    "fresh": ("fresh", None),
    "fresh, 5e-3": ("fresh", 5e-3),
    "probe": ("probe", None),
    "probe, 5e-3": ("probe", 5e-3),
}


def cut(corpus: Corpus, rows: int) -> Corpus:
    """The first rows of a shuffled corpus; classes that its training rows lack follow the others."""
    column = COLUMN[corpus.task.label_structure]
    sizes = {"train": rows, "validation": VALIDATION_ROWS, "test": 1}
    parts = {name: corpus.splits[name].shuffle(seed=0).select(range(min(sizes[name], corpus.num_rows(name))))
             for name in SPLITS}  # fmt: skip
    space, old = corpus.label_space, np.concatenate([np.atleast_1d(row) for row in parts["train"][column]]).astype(int)
    counts = np.bincount(old, minlength=len(space.all_names))
    order = np.argsort(counts == 0, kind="stable")
    place, kept = np.argsort(order), int((counts > 0).sum())
    names = [space.all_names[i] for i in order]

    def renamed(split: Dataset) -> Dataset:
        labels = [place[row].tolist() if np.ndim(row) == 0 else [int(place[i]) for i in row] for row in split[column]]
        if column == "labels":
            labels = [sorted(row) for row in labels]
        return split.remove_columns(column).add_column(column, labels)

    several = parts["train"].num_rows if space.num_rows is not None else None
    catch_all = space.catch_all if space.catch_all in names[:kept] else None
    smaller = LabelSpace(tuple(names[:kept]), counts[order][:kept], catch_all, tuple(names[kept:]), several)
    splits = {name: renamed(split) for name, split in parts.items()}
    return Corpus(f"{corpus.name}-{rows}", splits, corpus.task, smaller, fingerprint=f"{corpus.fingerprint}-{rows}")


def one_run(corpus: Corpus, encoder: Encoder, method: str, variant: str, seed: int, length: int) -> tuple[float, float]:
    """Macro-F1 on validation and processor seconds of one training."""
    start, rate = VARIANTS[variant]
    engine = FinetuneEngine(head_init=start, head_learning_rate=rate, max_length=length)
    begin = time.process_time()
    model = engine.fit(resolve(method), corpus, encoder, seed)
    seconds = time.process_time() - begin
    return evaluate_scores(corpus, "validation", model.split_scores(corpus, "validation")).score("macro_f1"), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(CUTS), choices=list(CUTS))
    parser.add_argument("--methods", nargs="+", default=["ce"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--part", type=Path, help="JSON lines with the runs that are done")
    options = parser.parse_args()
    disable_progress_bars()
    done = {}
    if options.part is not None and options.part.exists():
        done = {tuple(run[:4]): tuple(run[4:]) for run in map(json.loads, options.part.read_text().splitlines())}
    print(f"| cut (rows, classes, steps), method | {' | '.join(options.variants)} | seconds |")
    print("|---|" + "---|" * (len(options.variants) + 1))
    for name in options.sets:
        rows, length = CUTS[name]
        corpus, encoder = cut(load(name), rows), Encoder.from_pretrained(max_length=length)
        for method in options.methods:
            cells, times = [], []
            for variant in options.variants:
                values = []
                for seed in range(options.seeds):
                    key = (name, method, variant, seed)
                    if key not in done:
                        done[key] = one_run(corpus, encoder, method, variant, seed, length)
                        if options.part is not None:
                            with options.part.open("a") as file:
                                file.write(json.dumps([*key, *done[key]]) + "\n")
                    values.append(done[key])
                cells.append(f"{np.mean([value for value, _ in values]):.3f}")
                times.append(f"{np.mean([seconds for _, seconds in values]):.0f}")
            steps = -(-3 * corpus.num_rows("train") // 32)
            what = f"{name} ({corpus.num_rows('train'):,}; {corpus.label_space.num_classes}; {steps}), {method}"
            print(f"| {what} | {' | '.join(cells)} | {' / '.join(times)} |", flush=True)


if __name__ == "__main__":
    main()
