"""What `tailwise predict` writes: one row per input, as plain data, as a table, or as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from tailwise.cli.prediction_inputs import Inputs
    from tailwise.models.fitted import FittedModel
    from tailwise.models.parsing.model import ParserModel

__all__ = ["as_line", "as_table", "predicted_rows"]

_DIGITS = 6


def predicted_rows(model: FittedModel, inputs: Inputs) -> list[dict[str, Any]]:
    """The decisions of a model and their probabilities, with the inputs, one mapping per input.

    Returns:
        Beside the input: ``label`` and ``probability``; where rows may have several labels, ``labels`` and
        ``probabilities`` of all labels by name; ``tags`` and the ``probabilities`` of those; or ``heads`` (1-based, 0
        for the root) and ``relations``.
    """
    if model.task.label_structure == "arcs":
        parsed = cast("ParserModel", model).parse(inputs.texts)
        return [{"tokens": list(p.tokens), "heads": list(p.heads), "relations": list(p.relations)} for p in parsed]
    probabilities = model.predict_proba(inputs.texts, inputs.pairs)
    decide = {"multi": _several, "tags": _tags, "single": _one}[model.task.label_structure]
    decisions = decide(model.label_space.names, probabilities, inputs)
    return [{**given, **found} for given, found in zip(_given(model, inputs), decisions, strict=True)]


def _given(model: FittedModel, inputs: Inputs) -> list[dict[str, Any]]:
    form = model.task.input_form
    if form == "relation":
        return [{"tokens": list(r.tokens), "head": list(r.head), "tail": list(r.tail)} for r in inputs.texts]
    if form == "tokens":
        return [{"tokens": list(tokens)} for tokens in inputs.texts]
    if inputs.pairs is None:
        return [{"text": text} for text in inputs.texts]
    return [{"text": a, "text_pair": b} for a, b in zip(inputs.texts, inputs.pairs, strict=True)]


def _one(names: Sequence[str], probabilities: NDArray[np.float64], _: Inputs) -> list[dict[str, Any]]:
    best, values = probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).round(_DIGITS).tolist()
    return [{"label": names[j], "probability": p} for j, p in zip(best, values, strict=True)]


def _several(names: Sequence[str], probabilities: NDArray[np.float64], _: Inputs) -> list[dict[str, Any]]:
    return [
        {
            "labels": [names[j] for j in np.flatnonzero(row > 0.5).tolist()],
            "probabilities": dict(zip(names, row.round(_DIGITS).tolist(), strict=True)),
        }
        for row in probabilities
    ]


def _tags(names: Sequence[str], probabilities: NDArray[np.float64], inputs: Inputs) -> list[dict[str, Any]]:
    rows = _one(names, probabilities, inputs)
    ends = np.cumsum([len(tokens) for tokens in inputs.texts]).tolist()
    return [
        {"tags": [r["label"] for r in rows[a:b]], "probabilities": [r["probability"] for r in rows[a:b]]}
        for a, b in zip([0, *ends], ends, strict=False)
    ]


def as_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows about texts, pairs or relations as a table: labels joined by ``|``, one column per label's probability."""
    import pandas as pd

    return pd.DataFrame([_flat(row) for row in rows])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(row)
    if "tokens" in row:
        flat = {"text": " ".join(row["tokens"])} | {k: v for k, v in flat.items() if k != "tokens"}
        flat |= {role: " ".join(row["tokens"][slice(*row[role])]) for role in ("head", "tail")}
    if "labels" in row:
        flat["labels"] = "|".join(row["labels"])
        flat |= {f"probability of {name}": p for name, p in flat.pop("probabilities").items()}
    return flat


def as_line(row: Mapping[str, Any]) -> str:
    """A row for people; of tags and trees, one line per token and an empty one."""
    if "tags" in row:
        return "\n".join([*map("\t".join, zip(row["tokens"], row["tags"], strict=True)), ""])
    if "heads" in row:
        columns = zip(row["tokens"], row["heads"], row["relations"], strict=True)
        return "\n".join([*(f"{i}\t{t}\t{h}\t{r}" for i, (t, h, r) in enumerate(columns, start=1)), ""])
    shown = _flat(row)
    words = " ".join(" ".join(shown[key] for key in ("text", "text_pair") if key in shown).split())
    if "labels" in row:
        found = ", ".join(f"{name} {row['probabilities'][name]:.4f}" for name in row["labels"])
        return f"{found or '(none)'}\t{words}"
    entities = f"\t{shown['head']} → {shown['tail']}" if "head" in shown else ""
    return f"{row['probability']:.4f}\t{row['label']}{entities}\t{words}"
