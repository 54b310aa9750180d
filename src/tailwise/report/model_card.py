"""The model card: a README.md that says what a saved model is for, how good it is on each class, and where it fails.

Everything that comes from the data (class names, notes, names of corpora) is escaped, so that it can neither break the
tables nor smuggle markup into the page.
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

import yaml

import tailwise
from tailwise.imbalance.diagnosis import HARDLY_LEARNT_BELOW, POORLY_LEARNT_BELOW
from tailwise.models.saving import folder_kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tailwise.evaluation.evaluation import Evaluation
    from tailwise.imbalance.diagnosis import Diagnosis
    from tailwise.models.fitted import FittedModel
    from tailwise.models.saving_manifest import FolderKind

__all__ = ["escaped", "model_card"]

Split = Literal["test", "validation"]

_FIGURES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "worst_class_f1": "worst class F1",
    "accuracy": "accuracy",
    "ece": "expected calibration error",
    "nll": "negative log-likelihood",
}
_LISTED = 20
_LONGEST_NAME = 80
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~&$@])")
_UNSEEN_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


def model_card(
    model: FittedModel,
    *,
    evaluation: Evaluation | None = None,
    split: Split = "test",
    diagnosis: Diagnosis | None = None,
    title: str | None = None,
) -> str:
    """The card of a fitted model, Markdown with YAML front matter.

    Args:
        model: the model.
        evaluation: its scores on `split`; None leaves the figures out and says so.
        split: what was scored; figures on validation are marked as optimistic.
        diagnosis: of the training data.
        title: heading; None makes one from the recipe.

    Raises:
        ModelError: a kind of model that cannot be saved.
    """
    kind = folder_kind(model)
    sections = [
        _front_matter(model, kind),
        f"# {escaped(title or f'Text classifier ({model.recipe.get("name", "recipe")})')}",
        _summary(model),
        "## How to load\n\n" + _loading(model, kind),
        "## Figures\n\n" + _figures(evaluation, split),
        "## Classes\n\n" + _classes(model, evaluation, split),
        "## Training data\n\n" + _data(model, diagnosis),
        "## Recipe\n\n" + _fenced("yaml", yaml.safe_dump(_plain(model.recipe), sort_keys=False, allow_unicode=True)),
        "## Post-hoc steps and calibration\n\n" + _posthoc(model, kind),
        "## Limits\n\n" + _limits(model, evaluation),
        "## Versions\n\n" + _versions(),
    ]
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def escaped(text: str) -> str:
    """`text` as one line of inert Markdown, cut after 80 characters."""
    line = " ".join(_UNSEEN_CHARACTERS.sub(" ", text).split())
    if len(line) > _LONGEST_NAME:
        line = line[: _LONGEST_NAME - 1] + "…"
    return _MARKUP.sub(r"\\\1", line).replace("://", "\\://").replace("www.", "www\\.")


def _front_matter(model: FittedModel, kind: FolderKind) -> str:
    data: dict[str, Any] = {
        "library_name": kind,
        "pipeline_tag": "text-classification",
        "tags": ["text-classification", "class-imbalance", "tailwise"],
        "metrics": ["f1", "accuracy"],
    }
    encoder = model.info.get("encoder")
    if isinstance(encoder, dict) and re.fullmatch(r"[\w.-]+/[\w.-]+", str(encoder.get("name"))):
        data["base_model"] = encoder["name"]
    if isinstance(model.info.get("language"), str):
        data["language"] = model.info["language"]
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---"


def _summary(model: FittedModel) -> str:
    space, counts = model.label_space, model.label_space.counts
    inputs = "pairs of texts" if model.task.input_form == "pair" else "texts"
    return (
        f"Sorts {inputs} into {space.num_classes} classes of very different frequency: {int(counts.max()):,} training "
        f"examples in the largest, {int(counts.min()):,} in the smallest. Made with tailwise, engine `{model.engine}`, seed "
        f"{model.seed}.\n\n"
        "**Intended use:** texts like those it was trained on, in the same language, with exactly one of these classes each. "
        "Check the figures of the classes that matter before use; a good average hides bad classes."
    )


def _loading(model: FittedModel, kind: FolderKind) -> str:
    pair = model.task.input_form == "pair"
    parts = [f"With tailwise{' (no other library opens this kind of head)' if kind == 'tailwise' else ''}:"]
    example = '[("a text", "its second text")]' if pair else '["a text"]'
    own = (
        "from tailwise import TextClassifier\n\n"
        'classifier = TextClassifier.from_pretrained("path/to/this/folder")\n'
        f"texts = {example}\n"
        "print(classifier.predict(texts))\n"
        "print(classifier.predict_proba(texts))\n"
    )
    if kind == "transformers":
        inputs = '[{"text": "a text", "text_pair": "its second text"}]' if pair else '["a text"]'
        parts.insert(0, "With transformers alone:")
        parts.insert(
            1,
            _fenced(
                "python",
                "from transformers import pipeline\n\n"
                'classify = pipeline("text-classification", model="path/to/this/folder", top_k=None)\n'
                f"print(classify({inputs}, truncation=True))\n",
            ),
        )
    if kind == "sentence-transformers":
        parts.insert(0, "With sentence-transformers alone; what it calls embeddings are the logits:")
        parts.insert(
            1,
            _fenced(
                "python",
                "import json\n\n"
                "from sentence_transformers import SentenceTransformer\n\n"
                'folder = "path/to/this/folder"\n'
                'labels = json.load(open(f"{folder}/labels.json", encoding="utf-8"))\n'
                f"texts = {example}\n"
                "logits = SentenceTransformer(folder).encode(texts, convert_to_tensor=True)\n"
                "probabilities = logits.softmax(dim=1)\n"
                "print([labels[i] for i in probabilities.argmax(dim=1)])\n",
            ),
        )
    return "\n\n".join([*parts, _fenced("python", own)])


def _figures(evaluation: Evaluation | None, split: Split) -> str:
    if evaluation is None:
        return "This model was not evaluated when it was saved."
    summary = evaluation.summary()
    rows = [[label, f"{summary[name]:.3f}"] for name, label in _FIGURES.items() if name in summary]
    note = (
        ""
        if split == "test"
        else "\n\nValidation data also chose settings and fitted the post-hoc steps: expect less on new data."
    )
    return f"On {len(evaluation):,} {split} instances.{note}\n\n{_table(['figure', 'value'], rows)}"


def _classes(model: FittedModel, evaluation: Evaluation | None, split: Split) -> str:
    space = model.label_space
    if evaluation is None:
        rows = [[escaped(name), f"{count:,}"] for name, count in zip(space.names, space.counts.tolist(), strict=True)]
        return _table(["class", "train"], rows)
    rows = [
        [
            escaped(row["class"]),
            f"{row['train_count']:,}",
            *(f"{row[figure]:.3f}" for figure in ("precision", "recall", "f1")),
            f"{row['support']:,}",
        ]
        for row in evaluation.per_class().to_dict("records")
    ]
    table = _table(["class", "train", "precision", "recall", "F1", f"support ({split})"], rows)
    return f"Training examples, and figures on {split} data. A class without support there scores 0.\n\n{table}"


def _data(model: FittedModel, diagnosis: Diagnosis | None) -> str:
    lines = [f"- {int(model.label_space.counts.sum()):,} training examples in {model.label_space.num_classes} classes"]
    fingerprint = diagnosis.fingerprint if diagnosis is not None else model.info.get("data")
    if fingerprint:
        lines.append(f"- fingerprint of the data (sha256): `{re.sub('[^0-9a-zA-Z]', '', str(fingerprint))}`")
    if diagnosis is not None:
        measures = diagnosis.measures
        lines += [
            f"- corpus: {escaped(diagnosis.name)}",
            f"- shape: {escaped(diagnosis.shape.name)}, largest to smallest class {measures.rho:,.1f} : 1, "
            f"{measures.effective_classes:.1f} effective classes (exp of the entropy)",
        ]
    if model.label_space.catch_all is not None:
        lines.append(f"- catch-all class: {escaped(model.label_space.catch_all)}")
    return "\n".join(lines)


def _posthoc(model: FittedModel, kind: FolderKind) -> str:
    if not model.steps:
        return "No post-hoc step. The probabilities are not calibrated."
    where = "kept in `tailwise.json`" if kind == "tailwise" else "folded into the weights of the last layer"
    lines = [f"Fitted on validation data, applied in this order, {where}:", ""]
    for step in model.steps:
        details = ", ".join(f"{escaped(str(k))} = {_number(v)}" for k, v in step.details.items() if _is_number(v))
        lines.append(f"1. {escaped(step.name)}{f' ({details})' if details else ''}")
    calibrated = any(step.name == "temperature" for step in model.steps)
    lines += ["", f"The probabilities are {'' if calibrated else 'not '}calibrated by a temperature."]
    return "\n".join(lines)


def _limits(model: FittedModel, evaluation: Evaluation | None) -> str:
    space = model.label_space
    pairs = list(zip(space.names, space.counts.tolist(), strict=True))
    hardly = [name for name, count in pairs if count < HARDLY_LEARNT_BELOW]
    poorly = [name for name, count in pairs if HARDLY_LEARNT_BELOW <= count < POORLY_LEARNT_BELOW]
    lines = [
        "- The language of the encoder's training texts is the language it reads; other languages are untested.",
        *_named(f"Under {HARDLY_LEARNT_BELOW} training examples, hardly learnt at all", hardly),
        *_named(f"Under {POORLY_LEARNT_BELOW} training examples, learnt poorly", poorly),
        *_named("Classes that only occur outside the training data and are never predicted", space.unseen),
    ]
    if evaluation is not None:
        present = evaluation.counts.present
        absent = [name for name, there in zip(space.names, present, strict=True) if not there]
        lines += _named("Without an instance in the evaluation, so nothing is known about them", absent)
    length = model.info.get("max_length") or getattr(getattr(model, "encoder", model), "max_length", None)
    if length:
        lines.append(f"- Only the first {int(length):,} tokens of a text are read.")
    lines.append(
        "- Class frequencies are assumed to stay as they were; where they shift, decisions and probabilities are off."
    )
    return "\n".join(lines)


def _named(what: str, names: Iterable[str]) -> list[str]:
    listed = [escaped(name) for name in names]
    if not listed:
        return []
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return [f"- {what} ({len(listed)}): {', '.join(listed[:_LISTED])}{more}."]


def _versions() -> str:
    found = {"python": platform.python_version(), "tailwise": tailwise.__version__}
    for package in ("torch", "transformers", "scikit-learn", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # pragma: no cover
            continue
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _table(header: list[str], rows: list[list[str]]) -> str:
    align = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, align, *rows))


def _fenced(language: str, text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _plain(value: Any) -> Any:
    """`value` in types that YAML has."""
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float) -> str:
    return f"{value:.4g}"
