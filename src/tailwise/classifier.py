"""`TextClassifier`: recipe, engine and model behind scikit-learn's estimator interface."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from tailwise.data.arrays import corpus_from_arrays, read_labels, read_texts
from tailwise.data.corpus import Corpus
from tailwise.errors import DataError, ModelError, SettingError
from tailwise.stages.recipe import Component, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from tailwise.benchmark.tuning import Candidate
    from tailwise.evaluation.base import ScoredSplit
    from tailwise.imbalance.diagnosis import Diagnosis
    from tailwise.models.encoder import Encoder, EncoderDtype
    from tailwise.models.fitted import FittedModel
    from tailwise.training.engine import Engine, Progress

__all__ = ["TextClassifier"]


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of texts, or pairs of texts, for skewed classes.

    A stratified part of the training data is put aside: it decides between methods and settings, fits post-hoc steps
    and calibrates the probabilities.

    Args:
        method: ``"auto"`` diagnoses the data, takes the trivial baselines and what `tailwise.recommend` names, and
            keeps the best on validation, each with the same tuning budget. Otherwise a name (``"ldam-drw"``), a
            composition (``"cas+focal"``), a YAML file, a mapping or a `Recipe`.
        encoder: name or folder of an encoder, an `Encoder`, or None for the default one.
        engine: ``"probe"`` (encoder frozen), ``"finetune"``, or an engine.
        features: what a probe trains on: ``"encoder"``, ``"tfidf"``, ``"encoder+tfidf"``, or None to choose on
            validation. A model on the encoder alone opens in sentence-transformers too.
        trials: configurations tried per method on validation; 0 or 1 takes the published defaults.
        metric: what is maximised on validation.
        calibrate: fit a temperature on validation as the last step, so that probabilities mean what they say.
        validation_size: share of the training data put aside.
        epochs: passes over the training data; None leaves it to the recipe and the engine.
        cache_dir: folder of the feature cache, or None for the default one.
        seed: of splits, tuning and training; equal seeds give equal models.

    Attributes:
        classes_: labels in the order of the columns of `predict_proba`, in their own dtype.
        model_: the fitted model.
        recipe_: the recipe that was trained, tuned settings included.
        diagnosis_: what is imbalanced in the training data (`tailwise.Diagnosis`); None after `from_pretrained`.
        scores_: the metric on validation of each method that was tried; empty where nothing was chosen or tuned.
        validation_: scores on the part that was put aside (`tailwise.Evaluation`); None after `from_pretrained`. What
            was tuned on it looks better on it than on new data.

    Example:
        >>> classifier = TextClassifier("logit-adjustment").fit(texts, labels)  # doctest: +SKIP
        >>> classifier.predict(["how do I reset my card?"])  # doctest: +SKIP
    """

    def __init__(
        self,
        method: str | Path | Mapping[str, Any] | Recipe = "auto",
        *,
        encoder: str | Path | Encoder | None = None,
        engine: str | Engine = "probe",
        features: str | None = None,
        trials: int = 8,
        metric: str = "macro_f1",
        calibrate: bool = True,
        validation_size: float = 0.1,
        epochs: float | None = None,
        cache_dir: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        self.method = method
        self.encoder = encoder
        self.engine = engine
        self.features = features
        self.trials = trials
        self.metric = metric
        self.calibrate = calibrate
        self.validation_size = validation_size
        self.epochs = epochs
        self.cache_dir = cache_dir
        self.seed = seed

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def fit(self, texts: Any, labels: Any = None, *, progress: Progress | None = None) -> TextClassifier:
        """Fit on texts and labels, or on a `Corpus`.

        Args:
            texts: texts ``(N,)`` or ``(N, 1)``, or pairs of texts ``(N, 2)``: list, array, Series or DataFrame. A
                `Corpus` brings its own labels and validation split; its test split is not touched.
            labels: one label per text, ``(N,)``.
            progress: told how far the work is.

        Raises:
            DataError: texts or labels that cannot be used; names the row.
            SettingError: a parameter out of range, or a recipe that the engine cannot run.
        """
        self._check_settings()
        corpus, classes = self._corpus(texts, labels)
        from tailwise.imbalance.diagnosis import diagnose

        diagnosis = diagnose(corpus)
        engine, encoder = self._engine(), self._encoder()
        recipe, scores = self._choose(self._candidates(diagnosis, engine), corpus, engine, encoder, progress)
        recipe = self._calibrated(recipe)
        model = engine.fit(recipe, corpus, encoder, int(self.seed), progress)
        self._predict_in_full_precision(model)
        model.info["classifier"] = {"classes": classes.tolist(), "dtype": str(classes.dtype)}
        self.model_: FittedModel = model
        # the engine's choice of features is part of what was trained
        self.recipe_ = recipe.with_features(Recipe.from_dict(model.recipe).features)
        self.classes_, self.scores_ = classes, scores
        self.diagnosis_: Diagnosis | None = diagnosis
        self.validation_: ScoredSplit | None = self._evaluate(model, corpus)
        return self

    def predict(self, texts: Any) -> NDArray[Any]:
        """The label of each text, ``(N,)``."""
        indices = self._logits(texts).argmax(axis=1)
        return np.asarray(self.classes_[indices])

    def predict_proba(self, texts: Any) -> NDArray[np.float64]:
        """Probabilities in the order of `classes_`, ``(N, C)``."""
        from scipy.special import softmax

        return np.asarray(softmax(self._logits(texts).astype(np.float64), axis=1))

    def decision_function(self, texts: Any) -> NDArray[np.float64]:
        """Adjusted logits ``(N, C)``; of two classes their difference ``(N,)``, positive for ``classes_[1]``."""
        logits = self._logits(texts).astype(np.float64)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def save_pretrained(
        self, folder: str | Path, *, evaluation: ScoredSplit | None = None, overwrite: bool = False
    ) -> Path:
        """Save the model with its card: safetensors and JSON, post-hoc steps folded into plain weights where possible.

        Args:
            folder: where to; an older tailwise model there is replaced.
            evaluation: scores on test data for the model card; without them the card shows the validation scores.
            overwrite: also replace a folder with other content.

        Raises:
            ModelError: the folder holds something else.
        """
        check_is_fitted(self)
        from tailwise.models.saving import save_model
        from tailwise.report.model_card import model_card

        shown = evaluation or self.validation_
        split: Literal["test", "validation"] = "test" if evaluation is not None else "validation"
        card = model_card(self.model_, evaluation=shown, split=split, diagnosis=self.diagnosis_)
        return save_model(self.model_, folder, card=card, overwrite=overwrite)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> TextClassifier:
        """The classifier that `save_pretrained` wrote, or one around any saved tailwise model.

        Raises:
            ModelError: not a tailwise model, damaged or unsafe.
        """
        from tailwise.models.saving import load_model

        model = load_model(folder)
        try:
            recipe = Recipe.from_dict(model.recipe)
        except (SettingError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder}: `recipe` in tailwise.json is no recipe ({error}).") from error
        classifier = cls(method=recipe, engine=model.engine, seed=model.seed)
        classifier.model_, classifier.recipe_, classifier.scores_ = model, recipe, {}
        classifier.classes_ = _saved_classes(model.info.get("classifier"), model.label_space.names, str(folder))
        classifier.diagnosis_ = classifier.validation_ = None
        return classifier

    def _check_settings(self) -> None:
        if not 0.0 < self.validation_size <= 0.5:
            raise SettingError(
                f"Expected `validation_size` to be above 0 and at most 0.5, but got {self.validation_size!r}."
            )
        if not isinstance(self.trials, int | np.integer) or self.trials < 0:
            raise SettingError(f"Expected `trials` to be 0 or a positive whole number, but got {self.trials!r}.")

    def _corpus(self, texts: Any, labels: Any) -> tuple[Corpus, NDArray[Any]]:
        if isinstance(texts, Corpus):
            if labels is not None:
                raise DataError("A corpus has its own labels; give either a corpus or texts and labels.")
            if texts.task.label_structure != "single" or texts.task.input_form == "relation":
                raise DataError(
                    f"TextClassifier is for one class per text, but {texts.name!r} is for {texts.task.name!r}. Take "
                    "`MultilabelTextClassifier` or `TokenClassifier`, or train through `tailwise.compare`."
                )
            return texts, np.asarray(texts.label_space.names, dtype=object)
        read = read_texts(texts)
        array = read_labels(labels, len(read.first))
        if not read.first:
            raise DataError("Found 0 sample(s): expected two or more texts of two or more classes.")
        classes, target = np.unique(array, return_inverse=True)
        names = [str(name) for name in classes.tolist()]
        corpus = corpus_from_arrays(
            read, target.astype(np.int64), names, validation_size=self.validation_size, seed=int(self.seed)
        )
        return corpus, classes

    def _encoder(self, dtype: EncoderDtype = "auto") -> Encoder:
        from tailwise.models.encoder import Encoder

        if isinstance(self.encoder, Encoder):
            return self.encoder
        return Encoder.from_pretrained(None if self.encoder is None else str(self.encoder), dtype=dtype)

    def _predict_in_full_precision(self, model: FittedModel) -> None:
        """A probe learns on features in the fastest type; it predicts in float32, as the saved model does."""
        from tailwise.models.label_attention_model import LabelAttentionModel
        from tailwise.models.probe import ProbeModel

        if isinstance(model, ProbeModel | LabelAttentionModel) and model.encoder is not None:
            model.encoder = self._encoder("float32")

    def _engine(self) -> Engine:
        if not isinstance(self.engine, str):
            if self.epochs is not None or self.cache_dir is not None or self.features is not None:
                raise SettingError(
                    "`epochs`, `features` and `cache_dir` belong to the engine; set them on the engine that you pass."
                )
            return self.engine
        from tailwise.benchmark.compare import ENGINES
        from tailwise.models.feature_cache import FeatureCache

        offered: dict[str, Any] = {"metric": self.metric}
        if self.epochs is not None:
            offered["epochs"] = self.epochs
        if self.cache_dir is not None:
            offered["cache"] = FeatureCache(self.cache_dir)
        known = ENGINES.parameters(self.engine)
        if self.features is not None:
            offered["features"] = self.features
            if "features" not in known:
                raise SettingError(
                    f"The engine {self.engine!r} takes no `features`; leave them out, or choose 'probe'."
                )
        return ENGINES[self.engine](**{name: value for name, value in offered.items() if name in known})

    def _candidates(self, diagnosis: Diagnosis, engine: Engine) -> list[Candidate]:
        """The one method that was asked for, or the baselines and what the advisor names for these data."""
        from tailwise.advisor.recommend import recommend
        from tailwise.benchmark.tuning import Candidate
        from tailwise.catalog import METHODS, resolve
        from tailwise.catalog.baseline_entries import baselines

        if self.method != "auto":
            recipe = resolve(self.method)
            if isinstance(self.method, str) and recipe.name == self.method:
                return [Candidate(self.method, self.method)]
            return [Candidate(recipe.name, recipe)]
        kind = "finetune" if engine.name == "finetune" else "probe"
        advised = [advice.method for advice in recommend(diagnosis, engine=kind) if advice.available]
        return [
            Candidate(name, name)
            for name in dict.fromkeys([*baselines(diagnosis.task, kind), *advised])
            if name in METHODS
        ]

    def _choose(
        self, candidates: list[Candidate], corpus: Corpus, engine: Engine, encoder: Encoder, progress: Progress | None
    ) -> tuple[Recipe, dict[str, float]]:
        """The best recipe on validation and every method's best score; the earlier of equals."""
        from tailwise.benchmark.store import ResultStore
        from tailwise.benchmark.tuning import Tuner, Workplace

        if len(candidates) == 1 and self.trials <= 1:
            return candidates[0].recipe(), {}
        scores: dict[str, float] = {}
        recipes: dict[str, Recipe] = {}
        with tempfile.TemporaryDirectory(prefix="tailwise-tuning-") as folder:
            work = Workplace(ResultStore(folder), engine, corpus, encoder, progress)
            tuner = Tuner(work, metric=self.metric, trials=max(int(self.trials), 1))
            for candidate in candidates:
                try:
                    tuning = tuner.tune([candidate])[candidate.name]
                except SettingError:
                    if self.method != "auto" or candidate.name == candidates[0].name:
                        raise
                    continue  # recommended, but not for this engine
                scores[candidate.name] = max(trial.value for trial in tuning.trials)
                recipes[candidate.name] = candidate.recipe(tuning.best)
        return recipes[max(scores, key=scores.__getitem__)], scores

    def _calibrated(self, recipe: Recipe) -> Recipe:
        temperature = Component("temperature")
        if not self.calibrate or any(step.name == temperature.name for step in recipe.posthoc):
            return recipe
        return replace(recipe, posthoc=(*recipe.posthoc, temperature))

    @staticmethod
    def _evaluate(model: FittedModel, corpus: Corpus) -> ScoredSplit:
        from tailwise.evaluation.scoring import evaluate_scores

        return evaluate_scores(corpus, "validation", model.validation_scores(corpus))

    def _logits(self, texts: Any) -> NDArray[np.float32]:
        check_is_fitted(self)
        read = read_texts(texts)
        expected = self.model_.task.input_form
        if (expected == "pair") != (read.second is not None):
            shape = "pairs of texts, (N, 2)" if expected == "pair" else "single texts, (N,)"
            raise DataError(f"The classifier was fitted on {shape}, but got texts of another form.")
        return self.model_.logits(read.first, read.second)


_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|<U[1-9][0-9]{0,6}")


def _saved_classes(saved: Any, names: tuple[str, ...], where: str) -> NDArray[Any]:
    """Labels in the dtype they had when the classifier was fitted; class names where the model came from elsewhere."""
    if saved is None:
        return np.asarray(names, dtype=object)
    classes, dtype = (saved.get(key) if isinstance(saved, dict) else None for key in ("classes", "dtype"))
    if not isinstance(classes, list) or tuple(str(label) for label in classes) != names:
        raise ModelError(
            f"{where}: `info.classifier.classes` in tailwise.json does not match the names of the classes."
        )
    return np.array(classes, dtype=dtype if isinstance(dtype, str) and _DTYPE.fullmatch(dtype) else object)
