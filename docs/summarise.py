"""Print the table of the README from the folders of finished runs.

    python docs/summarise.py runs/sms_spam runs/trec50 ...

Each row is a data set: the baseline, the method chosen on validation, and what the difference is worth on test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd


def row(folder: Path) -> str:
    """One line of the table, from ``comparison.csv`` of a run."""
    table = pd.read_csv(folder / "comparison.csv").set_index("method")
    best = json.loads((folder / "model" / "tailwise.json").read_text(encoding="utf-8"))["recipe"]["name"]
    cells = [folder.name, *(interval(table.loc[name]) for name in ("ce", best))]
    test = table.loc[best]
    p_value = "" if best == "ce" else f"{test['gain']:+.3f}, p = {test['p_value']:.3f}"
    top = table["macro_f1"].idxmax()
    return (
        "| "
        + " | ".join([cells[0], cells[1], best, cells[2], p_value, f"{top} {table.loc[top, 'macro_f1']:.3f}"])
        + " |"
    )


def interval(values: pd.Series) -> str:
    """Macro-F1 with its interval."""
    return f"{values['macro_f1']:.3f} [{values['macro_f1_low']:.3f}, {values['macro_f1_high']:.3f}]"


if __name__ == "__main__":
    sys.stdout.write(
        "| data set | ce, macro-F1 | chosen on validation | its macro-F1 | against ce (Holm) | highest on test |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for name in sys.argv[1:]:
        sys.stdout.write(row(Path(name)) + "\n")
