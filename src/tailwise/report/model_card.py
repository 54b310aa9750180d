"""The model card: a README.md that says what a saved model is for, how good it is on each class, and where it fails.

Everything that comes from the data (class names, notes, names of corpora) is escaped, so that it can neither break the
tables nor smuggle markup into the page.
"""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, Any, Literal

import yaml

from tailwise.imbalance.diagnosis import HARDLY_LEARNT_BELOW, POORLY_LEARNT_BELOW
from tailwise.models.saving import folder_kind
from tailwise.models.saving_manifest import installed_version, plain
from tailwise.plain_yaml import write_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tailwise.evaluation.base import ScoredSplit
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
    "micro_f1": "micro-F1",
    "samples_f1": "F1 per text",
    "token_accuracy": "token accuracy",
    "las": "labelled attachment score",
    "uas": "unlabelled attachment score",
}
_LOADED = """\
from tailwise.models.saving import load_model

model = load_model("path/to/this/folder")
print(model.predict({inputs}))
"""
_TOKENS = """\
from transformers import pipeline

tag = pipeline("token-classification", model="path/to/this/folder")
print(tag("a text"))
"""
_TAILWISE = """\
from tailwise import TextClassifier

classifier = TextClassifier.from_pretrained("path/to/this/folder")
texts = {texts}
print(classifier.predict(texts))
print(classifier.predict_proba(texts))
"""
_TRANSFORMERS = """\
from transformers import pipeline

classify = pipeline("text-classification", model="path/to/this/folder", top_k=None)
print(classify([{text}], truncation=True))
"""
_SENTENCE_TRANSFORMERS = """\
import json
from pathlib import Path

from sentence_transformers import SentenceTransformer

folder = Path("path/to/this/folder")
labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
texts = {texts}
probabilities = SentenceTransformer(str(folder)).encode(texts, convert_to_tensor=True).softmax(dim=1)
print([labels[i] for i in probabilities.argmax(dim=1)])
"""
#: heading by task
_KINDS = {
    "text": "Text classifier", "pair": "Text classifier", "multilabel": "Multi-label text classifier",
    "multilabel-pair": "Multi-label text classifier", "relation": "Relation classifier", "tagging": "Tagger",
    "parsing": "Dependency parser",
}  # fmt: skip
_ONE = "with exactly one of these classes each"
#: what the classes are called, what the model does, what each input has
_WORDS = {
    "text": ("classes", "Sorts texts into", _ONE),
    "pair": ("classes", "Sorts pairs of texts into", _ONE),
    "multilabel": ("labels", "Gives texts any number of", "with any number of these labels each, or none"),
    "multilabel-pair": (
        "labels",
        "Gives pairs of texts any number of",
        "with any number of these labels each, or none",
    ),
    "relation": ("classes", "Sorts sentences with two marked entities into", "with one of these relations each"),
    "tagging": ("tags", "Gives every token of a sentence one of", "split into tokens as the training data were"),
    "parsing": ("relations", "Gives every token of a sentence its head and one of", "split into tokens as in training"),
}
_LISTED = 20
_LONGEST_NAME = 80
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~&$@])")
_UNSEEN_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


def model_card(
    model: FittedModel,
    *,
    evaluation: ScoredSplit | None = None,
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
    heading = title or f"{_KINDS[model.task.name]} ({model.recipe.get('name', 'recipe')})"
    sections = [
        _front_matter(model, kind),
        f"# {escaped(heading)}",
        _summary(model),
        "## How to load\n\n" + _loading(model, kind),
        "## Figures\n\n" + _figures(evaluation, split),
        "## Classes\n\n" + _classes(model, evaluation, split),
        "## Training data\n\n" + _data(model, diagnosis),
        "## Recipe\n\n" + _recipe(model),
        "## Post-hoc steps and calibration\n\n" + _posthoc(model, kind),
        "## Limits\n\n" + _limits(model, evaluation),
        "## Versions\n\n" + _versions(),
    ]
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def escaped(text: str, *, limit: int = _LONGEST_NAME) -> str:
    """`text` as one line of inert Markdown, cut after `limit` characters."""
    line = " ".join(_UNSEEN_CHARACTERS.sub(" ", text).split())
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return _MARKUP.sub(r"\\\1", line).replace("://", "\\://").replace("www.", "www\\.")


def _front_matter(model: FittedModel, kind: FolderKind) -> str:
    what = "token-classification" if model.task.by_token else "text-classification"
    data: dict[str, Any] = {
        "library_name": kind,
        "pipeline_tag": what,
        "tags": [what, "class-imbalance", "tailwise"],
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
    inputs, does, each = _WORDS[model.task.name]
    return (
        f"{does} {space.num_classes} {inputs} of very different frequency: {int(counts.max()):,} training "
        f"{_counted(model)} in the largest, {int(counts.min()):,} in the smallest. Made with tailwise, engine "
        f"`{model.engine}`, seed {model.seed}.\n\n"
        f"**Intended use:** texts like those it was trained on, in the same language, {each}. "
        "Check the figures of the classes that matter before use; a good average hides bad classes."
    )


def _counted(model: FittedModel) -> str:
    """What the training counts of the classes are counts of."""
    return "tokens" if model.task.by_token else "examples"


def _loading(model: FittedModel, kind: FolderKind) -> str:
    pair = model.task.input_form == "pair"
    texts = '[("a text", "its second text")]' if pair else '["a text"]'
    if model.task.name not in {"text", "pair", "multilabel"}:
        return _loading_by_name(model, kind)
    alone = " (no other library opens this kind of head)" if kind == "tailwise" else ""
    several = model.task.label_structure == "multi"
    ours = _TAILWISE.replace("TextClassifier", "MultilabelTextClassifier") if several else _TAILWISE
    parts = [f"With tailwise{alone}:", _fenced("python", ours.format(texts=texts))]
    if kind == "transformers":
        text = '{"text": "a text", "text_pair": "its second text"}' if pair else '"a text"'
        parts = ["With transformers alone:", _fenced("python", _TRANSFORMERS.format(text=text)), *parts]
    if kind == "sentence-transformers":
        told = "With sentence-transformers alone; what it calls embeddings are the logits:"
        theirs = _SENTENCE_TRANSFORMERS
        if several:
            theirs = theirs.replace(".softmax(dim=1)", ".sigmoid()").replace(
                "print([labels[i] for i in probabilities.argmax(dim=1)])",
                "print([[labels[i] for i in (row > 0.5).nonzero()] for row in probabilities])",
            )
        parts = [told, _fenced("python", theirs.format(texts=texts)), *parts]
    return "\n\n".join(parts)


def _loading_by_name(model: FittedModel, kind: FolderKind) -> str:
    """How to load what has no estimator: relations, tags, trees."""
    inputs = {
        "relation": '[RelationInput(("Smoke", "causes", "coughs"), (0, 1), (2, 3))]',
        "multilabel-pair": '["a text"], ["its second text"]',
    }.get(model.task.name, '[["A", "sentence", "as", "tokens"]]')
    code = _LOADED.format(inputs=inputs)
    if model.task.name == "relation":
        code = "from tailwise.data.corpus import RelationInput\n" + code
    parts = ["With tailwise:", _fenced("python", code)]
    if kind == "transformers" and model.task.by_token:
        parts += ["With transformers alone, which tags sub-words:", _fenced("python", _TOKENS)]
    return "\n\n".join(parts)


def _figures(evaluation: ScoredSplit | None, split: Split) -> str:
    if evaluation is None:
        return "This model was not evaluated when it was saved."
    summary = evaluation.summary()
    rows = [[label, f"{summary[name]:.3f}"] for name, label in _FIGURES.items() if name in summary]
    note = (
        ""
        if split == "test"
        else "\n\nValidation data also chose settings and fitted the post-hoc steps: expect less on new data."
    )
    units = "sentences" if evaluation.structure in {"tags", "arcs"} else "instances"
    return f"On {len(evaluation):,} {split} {units}.{note}\n\n{_table(['figure', 'value'], rows)}"


def _classes(model: FittedModel, evaluation: ScoredSplit | None, split: Split) -> str:
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
    space, kinds = model.label_space, _WORDS[model.task.name][0]
    if model.task.label_structure == "multi":
        rows = "an unknown number of" if space.num_rows is None else f"{space.num_rows:,}"
        lines = [
            f"- {rows} training examples with {int(space.counts.sum()):,} labels given, {space.num_classes} different"
        ]
    else:
        lines = [f"- {int(space.counts.sum()):,} training {_counted(model)} in {space.num_classes} {kinds}"]
    facts = model.info.get("data")
    fingerprint = facts.get("fingerprint") if isinstance(facts, dict) else facts
    if diagnosis is not None:
        fingerprint = diagnosis.fingerprint
    if fingerprint:
        lines.append(f"- fingerprint of the data (sha256): `{re.sub('[^0-9a-zA-Z]', '', str(fingerprint))}`")
    if diagnosis is not None:
        measures = diagnosis.measures
        lines.append(f"- corpus: {escaped(diagnosis.name)}")
        lines.append(
            f"- shape: {escaped(diagnosis.shape.name)}, largest to smallest class {measures.rho:,.1f} : 1, "
            f"{measures.effective_classes:.1f} effective classes (exp of the entropy)"
        )
    if model.label_space.catch_all is not None:
        lines.append(f"- catch-all class: {escaped(model.label_space.catch_all)}")
    return "\n".join(lines)


def _recipe(model: FittedModel) -> str:
    parts = [_yaml(model.recipe)]
    keys = ("encoder", "settings", "notes", "head_start")
    encoder, settings, notes, head_start = (model.info.get(key) for key in keys)
    if isinstance(encoder, dict):
        parts += ["Encoder:", _yaml(encoder)]
    if isinstance(settings, dict):
        parts += [f"Settings of the engine `{model.engine}`:", _yaml(settings)]
    if isinstance(head_start, dict):
        parts += ["Where the final layer started:", _yaml(head_start)]
    if isinstance(notes, list) and notes:
        parts.append("\n".join(f"- {escaped(str(note), limit=400)}" for note in notes))
    return "\n\n".join(parts)


def _yaml(data: Mapping[str, Any]) -> str:
    return _fenced("yaml", write_yaml(plain(data)))


def _posthoc(model: FittedModel, kind: FolderKind) -> str:
    if not model.steps:
        return "No post-hoc step. The probabilities are not calibrated."
    where = "kept in `tailwise.json`" if kind == "tailwise" else "folded into the weights of the last layer"
    lines = [f"Fitted on validation data, applied in this order, {where}:", ""]
    for step in model.steps:
        details = ", ".join(f"{escaped(str(k))} = {_number(v)}" for k, v in step.details.items() if _is_number(v))
        lines.append(f"1. {escaped(step.name)}{f' ({details})' if details else ''}")
    calibrated = any(step.name in {"temperature", "label-temperature"} for step in model.steps)
    lines += ["", f"The probabilities are {'' if calibrated else 'not '}calibrated by a temperature."]
    return "\n".join(lines)


def _limits(model: FittedModel, evaluation: ScoredSplit | None) -> str:
    space = model.label_space
    pairs = list(zip(space.names, space.counts.tolist(), strict=True))
    hardly = [name for name, count in pairs if count < HARDLY_LEARNT_BELOW]
    poorly = [name for name, count in pairs if HARDLY_LEARNT_BELOW <= count < POORLY_LEARNT_BELOW]
    source = "encoder's training" if "encoder" in model.info else "training"
    lines = [
        f"- The language of the {source} texts is the language it reads; other languages are untested.",
        *_named(f"Under {HARDLY_LEARNT_BELOW} training {_counted(model)}, hardly learnt at all", hardly),
        *_named(f"Under {POORLY_LEARNT_BELOW} training {_counted(model)}, learnt poorly", poorly),
        *_named("Classes that only occur outside the training data and are never predicted", space.unseen),
    ]
    if evaluation is not None:
        present = evaluation.counts.present
        absent = [n for n, there in zip(evaluation.label_space.names, present, strict=True) if not there]
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
    packages = {
        name: installed_version(name) for name in ("tailwise", "torch", "transformers", "scikit-learn", "numpy")
    }
    found = {"python": platform.python_version(), **packages}
    return ", ".join(f"{name} {number}" for name, number in found.items() if number)


def _table(header: list[str], rows: list[list[str]]) -> str:
    align = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, align, *rows))


def _fenced(language: str, text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float) -> str:
    return f"{value:.4g}"
