"""The parts of a probe: the rows that a head is trained on, the head as it predicts, and heads added up.

Linear heads see the states of the encoder as rows of unit length; for pairs and relations, whose rows join several
vectors, every vector has the same share of that length. Heads that normalise by themselves see them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch

from tailwise.errors import DataError, SettingError
from tailwise.models.heads.affine import mean_form, scaled, unit_rows
from tailwise.models.heads.base import AffineForm
from tailwise.models.heads.cosine import CosineHead
from tailwise.models.lexical import LexicalFeatures
from tailwise.models.lexical.rows import split_lexical_rows
from tailwise.models.probe import LexicalPart, head_scores
from tailwise.models.row_features import row_blocks, split_row_features
from tailwise.training.mixture import cross_fitted_mixture, fit_mixture
from tailwise.training.multilabel_components import trained_labels
from tailwise.training.probe_passes import TrainingRows

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus, SplitName
    from tailwise.models.encoder import Encoder
    from tailwise.models.feature_cache import FeatureCache
    from tailwise.models.feature_sources import Source
    from tailwise.models.heads.base import Head
    from tailwise.stages.recipe import Component
    from tailwise.training.engine import Progress
    from tailwise.training.probe_passes import TrainedHead
    from tailwise.training.probe_plan import ProbePlan

__all__ = ["JoinedParts", "ProbePart", "ProbeRows", "RowKind", "join_parts", "mean_part"]


class RowKind(NamedTuple):
    """What decides the rows of a training: corpus, source, whether they have unit length, and what made them.

    The corpus is the object itself, so that heads are remembered for the very rows they were trained on.
    """

    corpus: Corpus
    source: Source
    unit: bool
    made_by: str


@dataclass(frozen=True, eq=False)
class ProbePart:
    """A trained head and what it scores.

    Attributes:
        trained: the head as it was trained.
        form: as it predicts, on the states of the encoder or on lexical rows.
        validation: its scores on validation, ``(M, C)``.
        lexical: the features it is on; None for the states of the encoder.
    """

    trained: TrainedHead
    form: AffineForm | Head
    validation: NDArray[np.float32]
    lexical: LexicalFeatures | None = None


class ProbeRows:
    """Training and validation rows of a corpus by source.

    Args:
        corpus: the data.
        encoder: whose states are rows.
        cache: where those are kept.
        progress: told how far the encoding is.
    """

    def __init__(self, corpus: Corpus, encoder: Encoder, cache: FeatureCache, progress: Progress | None) -> None:
        if not corpus.num_rows("train"):
            raise DataError(f"The corpus {corpus.name!r} has no training row.")
        self._corpus, self._encoder, self._cache, self._progress = corpus, encoder, cache, progress
        self._lexical: dict[str, LexicalFeatures] = {}
        self._scored: dict[int, NDArray[np.float32]] = {}

    def kind(self, source: Source, plan: ProbePlan, features: Component) -> RowKind:
        """Which rows a plan trains on."""
        encoder = self._encoder
        made_by = f"{encoder.fingerprint} {encoder.pooling} {encoder.max_length} {encoder.dtype}"
        if source == "tfidf":
            made_by = self._fitted(features).fingerprint
        return RowKind(self._corpus, source, source == "encoder" and plan.head.name == "linear", made_by)

    def training(self, kind: RowKind) -> TrainingRows:
        """The training rows of a kind."""
        corpus = self._corpus
        if kind.source == "tfidf":
            features: Any = split_lexical_rows(self._lexical[kind.made_by], corpus, "train")
        else:
            states = self._states("train")
            self._states("validation")  # all texts are encoded before the first training
            features = torch.from_numpy(np.array(states, dtype=np.float32))
            features = unit_rows(features, self._blocks) if kind.unit else features
        if corpus.task.label_structure == "multi":
            space = corpus.label_space
            return TrainingRows(features, trained_labels(corpus.label_matrix("train"), space), space)
        offsets = corpus.offsets("train") if corpus.task.by_token else None
        return TrainingRows(features, corpus.labels("train"), corpus.label_space, offsets)

    def part(self, kind: RowKind, trained: TrainedHead) -> ProbePart:
        """A head that was trained on rows of a kind, with its scores on validation."""
        form = _for_prediction(trained)
        if kind.source == "tfidf":
            lexical = self._lexical[kind.made_by]
            if not isinstance(form, AffineForm):
                raise SettingError(f"Expected a linear head on lexical features, but got {type(form).__name__}.")
            if id(trained) not in self._scored:
                rows = split_lexical_rows(lexical, self._corpus, "validation")
                self._scored[id(trained)] = LexicalPart(lexical, form).scores(rows)
            return ProbePart(trained, form, self._scored[id(trained)], lexical)
        if kind.unit and isinstance(form, AffineForm):
            form = replace(form, normalise=True, blocks=self._blocks)
        if id(trained) not in self._scored:
            self._scored[id(trained)] = head_scores(form, self._states("validation"))
        return ProbePart(trained, form, self._scored[id(trained)])

    def _states(self, split: SplitName) -> NDArray[Any]:
        return split_row_features(self._encoder, self._corpus, split, cache=self._cache, progress=self._progress)

    @property
    def _blocks(self) -> int:
        return row_blocks(self._corpus.task.input_form)

    def _fitted(self, features: Component) -> LexicalFeatures:
        corpus = self._corpus
        found = fitted_lexical(corpus, features)
        self._lexical[found.fingerprint] = found
        return found


_fitted: MutableMapping[Corpus, dict[str, LexicalFeatures]] = WeakKeyDictionary()


def fitted_lexical(corpus: Corpus, features: Component) -> LexicalFeatures:
    """Lexical features fitted on the training split, kept as long as the corpus lives."""
    known = _fitted.setdefault(corpus, {})
    key = repr(features.params)
    if key not in known:
        inputs, second = corpus.inputs("train"), corpus.text_pairs("train")
        known[key] = LexicalFeatures.fit(corpus.task.input_form, inputs, second, **features.params)
    return known[key]


@dataclass(frozen=True, eq=False)
class JoinedParts:
    """One head, or two whose scores are added.

    Attributes:
        head: on the states of the encoder, or None.
        lexical: on lexical features, or None.
        scores: on validation, ``(M, C)``.
        held_out: the same, added with weights that were fitted without the row; None where nothing was fitted.
        weight: rows of the head ``(C, D)`` for post-hoc steps that look at their norms, or None.
        bias: its bias ``(C,)``, or None.
        facts: for the model card.
        notes: in words.
    """

    head: AffineForm | Head | None
    lexical: LexicalPart | None
    scores: NDArray[np.float32]
    held_out: NDArray[np.float32] | None
    weight: NDArray[Any] | None
    bias: NDArray[Any] | None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def join_parts(parts: Sequence[ProbePart], corpus: Corpus, prior: NDArray[np.float64]) -> JoinedParts:
    """Add up the scores of the parts, with weights fitted on validation where there are two.

    Args:
        parts: one or two.
        corpus: gives the validation targets.
        prior: what the scores express, ``(C,)``.
    """
    forms: list[AffineForm | Head] = [part.form for part in parts]
    scores, held_out, facts = parts[0].validation, None, dict[str, Any]()
    if len(parts) > 1:
        given = [part.validation for part in parts]
        target, shift = _validation_targets(corpus), _shift(prior, corpus)
        weights = fit_mixture(given, target, shift)
        forms = [_weighted(form, float(weight)) for form, weight in zip(forms, weights, strict=True)]
        scores = _added(given, weights)
        held_out = cross_fitted_mixture(given, target, shift).astype(np.float32)
        names = ["encoder" if part.lexical is None else "tfidf" for part in parts]
        facts["weights_of_features"] = dict(zip(names, weights.tolist(), strict=True))
    head = next((form for form, part in zip(forms, parts, strict=True) if part.lexical is None), None)
    lexical = next(
        (
            LexicalPart(part.lexical, form)
            for form, part in zip(forms, parts, strict=True)
            if part.lexical is not None and isinstance(form, AffineForm)
        ),
        None,
    )
    return JoinedParts(head, lexical, scores, held_out, *_norms(forms), facts)


def mean_part(parts: Sequence[ProbePart]) -> ProbePart | None:
    """The part whose head is the mean of those of `parts`, on the same features; None where they cannot be averaged."""
    forms = [part.form for part in parts if isinstance(part.form, AffineForm)]
    form = mean_form(forms) if len(forms) == len(parts) else None
    if form is None:
        return None
    validation = np.stack([part.validation for part in parts]).mean(axis=0, dtype=np.float64)
    return ProbePart(parts[0].trained, form, np.asarray(validation, dtype=np.float32), parts[0].lexical)


def _weighted(form: AffineForm | Head, weight: float) -> AffineForm:
    if not isinstance(form, AffineForm):
        raise SettingError(f"Heads are added as plain weights, but {type(form).__name__} has none.")
    return scaled(form, weight)


def _added(scores: Sequence[NDArray[np.float32]], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    added = sum(float(weight) * own for weight, own in zip(weights, scores, strict=True))
    return np.asarray(added, dtype=np.float32)


def _validation_targets(corpus: Corpus) -> NDArray[Any]:
    if corpus.task.label_structure == "multi":
        labels = trained_labels(corpus.label_matrix("validation"), corpus.label_space)
        return np.asarray(labels.todense(), dtype=np.float64)
    return corpus.labels("validation")


def _shift(prior: NDArray[np.float64], corpus: Corpus) -> NDArray[np.float64]:
    """From scores that express `prior` to those of the natural distribution, ``(C,)``."""
    natural, tiny = np.asarray(corpus.label_space.prior, dtype=np.float64), 1e-6
    expressed = np.clip(prior, tiny, 1.0 - tiny)
    natural = np.clip(natural, tiny, 1.0 - tiny)
    if corpus.task.label_structure == "multi":
        return np.asarray(np.log(natural / (1 - natural)) - np.log(expressed / (1 - expressed)))
    return np.asarray(np.log(natural) - np.log(expressed))


def _norms(forms: Sequence[AffineForm | Head]) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Weights ``(C, D)`` whose rows have the norms of the joined head, and its bias; None where a head has none."""
    plain = [form for form in forms if isinstance(form, AffineForm)]
    if len(plain) < len(forms):
        return None, None
    first = plain[0].weight.numpy()
    rest = [np.linalg.norm(form.weight.numpy(), axis=1, keepdims=True) for form in plain[1:]]
    bias = sum(form.bias.numpy() for form in plain)
    return np.hstack([first, *rest]), np.asarray(bias)


def _for_prediction(trained: TrainedHead) -> AffineForm | Head:
    """The head whose scores are those that softmax of the loss was fitted on."""
    head, loss = trained.head, trained.loss
    factor = 1.0 if loss is None else loss.inference_scale
    if isinstance(head, CosineHead) and loss is not None and loss.requires_cosine:
        head.scale, factor = loss.inference_scale, 1.0
    form = head.affine()
    if loss is None or loss.scoreless_class is None:
        return head if form is None else scaled(form, factor)
    if form is None or isinstance(head, CosineHead):
        raise SettingError(
            f"{type(loss).__name__} leaves a class without a score of its own, which needs a linear head, but the head "
            f"is {type(head).__name__}."
        )
    form.weight[loss.scoreless_class] = 0.0
    form.bias[loss.scoreless_class] = 0.0
    return scaled(form, factor)
