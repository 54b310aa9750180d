"""The ground under the comparisons: plain cross-entropy and the choice of a run beside simple baselines, set by set.

    TAILWISE_DATA=... python docs/ground.py --out runs/tables [NAME ...]

Computes what is missing of the tables ``ground-NAME`` (see docs/tables.py) and writes ``docs/results/ground.md``. Every
method has eight tuning trials on validation and three seeds; the test split is scored once, by what was chosen there.
The column ``best`` picks on test and is there to show what a choice could have had, nothing else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tables import GROUND, HERE, run

if TYPE_CHECKING:
    from tailwise.benchmark.comparison import Comparison

SIMPLE = ("tfidf-svm", "logistic-regression", "crf")


def row(name: str, comparison: Comparison) -> list[str]:
    """One line of the table."""
    table, metric = comparison.table(), comparison.metric
    best, top = comparison.best(), str(table.index[0])
    simple = [table.loc[method, metric] if method in table.index else None for method in SIMPLE]
    strongest = max(value for value in simple if value is not None)
    chosen, features = table.loc[best], comparison.recipes[best].features
    where = "" if features is None else f" on {features.name}"
    figures = ["" if value is None else f"{value:.3f}" for value in simple]
    return [
        name,
        *figures,
        f"{table.loc['ce', metric]:.3f}",
        f"{best}{where}",
        f"{chosen[metric]:.3f} [{chosen[f'{metric}_low']:.3f}, {chosen[f'{metric}_high']:.3f}]",
        f"{chosen[metric] - strongest:+.3f}",
        f"{top} {table.loc[top, metric]:.3f}",
    ]


def main() -> None:
    """Compute and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(GROUND), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    options = parser.parse_args()
    heads = ["set", *SIMPLE, "ce", "chosen", "macro-F1 of the chosen", "over the best baseline", "best"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---|" * (len(heads) - 1)]
    gains = []
    for name in options.names:
        cells = row(name, run(f"ground-{name}", options.out))
        gains.append(float(cells[-2]))
        lines.append("| " + " | ".join(cells) + " |")
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
        text = [
            "# ground",
            "",
            f"`python docs/ground.py {' '.join(options.names)}`: macro-F1 on test (of span types for tags), engine",
            "probe on CPU, 8 tuning trials per method, seeds 0, 1, 2; 95% intervals.",
            "",
            *lines,
            "",
            f"Mean of the chosen over the best simple baseline (picked on test): {sum(gains) / len(gains):+.3f}.",
        ]
        (HERE / "ground.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
