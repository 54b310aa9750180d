"""Training a conditional random field through CRFsuite.

L-BFGS on the likelihood of whole sentences with an elastic net; nothing is drawn at random, so jobs of equal settings
are one training, whatever their seeds. Attributes are told to CRFsuite by number, and its weights are read back in full
precision; see `tailwise.training.crfsuite_file`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pycrfsuite
from scipy.sparse import csr_array

from tailwise.errors import DataError, SettingError
from tailwise.evaluation.scoring import evaluate_scores, scores_are_finite
from tailwise.evaluation.unit_metrics import metric_names
from tailwise.models.crf import CRF, attribute_rows, words_in_context
from tailwise.models.crf_model import CRFModel
from tailwise.models.heads.building import build_head
from tailwise.training.corpus_parts import corpus_prior, fit_corpus_steps
from tailwise.training.crfsuite_file import read_crfsuite
from tailwise.training.loss_log import Ends, loss_facts
from tailwise.training.run_facts import run_facts
from tailwise.training.training_memory import TrainingMemory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tailwise.data.corpus import Corpus
    from tailwise.stages.recipe import Component
    from tailwise.training.engine import Job, Progress

_NOTE = "A conditional random field reads words, shapes and affixes; no encoder takes part."

__all__ = ["TrainedCRF", "fit_crfs", "train_crf"]


class TrainedCRF(NamedTuple):
    """Weights, the names of their rows, and the objective per token after the first and the last iteration."""

    head: CRF
    attributes: tuple[str, ...]
    iterations: int
    losses: Ends

    def num_bytes(self) -> int:
        """Bytes of weights and names, roughly."""
        return 16 * self.head.weight.nnz + sum(len(name) + 64 for name in self.attributes)


def fit_crfs(
    jobs: Sequence[Job],
    heads: Sequence[Component],
    corpus: Corpus,
    *,
    metric: str = "macro_f1",
    engine: str = "probe",
    memory: TrainingMemory[TrainedCRF] | None = None,
    progress: Progress | None = None,
) -> list[CRFModel]:
    """Train conditional random fields on the words of a corpus, those of equal settings once.

    Args:
        jobs: recipes and seeds.
        heads: the head of each.
        corpus: sentences whose tokens have tags.
        metric: what tuned post-hoc steps maximise on validation.
        engine: name under which results are filed.
        memory: of fields that were trained before.
        progress: told how far the work is.

    Raises:
        SettingError: a recipe that cannot be carried out.
        DataError: no training row.
    """
    if not corpus.num_rows("train"):
        raise DataError(f"The corpus {corpus.name!r} has no training row.")
    memory = TrainingMemory(size=TrainedCRF.num_bytes) if memory is None else memory
    settings = [_settings(head, corpus.label_space.num_classes) for head in heads]
    keys = [(corpus.fingerprint, field.c1, field.c2, field.max_iterations) for field in settings]

    def train(positions: list[int]) -> list[TrainedCRF]:
        words, tags, offsets = words_in_context(corpus.tokens("train")), corpus.labels("train"), corpus.offsets("train")
        trained = []
        for done, position in enumerate(positions):
            if progress is not None:
                progress("train", done, len(positions))
            trained.append(train_crf(settings[position], words, tags, offsets))
        return trained

    trained = memory.get_or_train(keys, train)
    validation = words_in_context(corpus.tokens("validation"))
    models = [
        _finished(job, field, corpus, validation, metric, engine) for job, field in zip(jobs, trained, strict=True)
    ]
    if progress is not None:
        progress("train", len(jobs), len(jobs))
    return models


def _settings(head: Component, num_tags: int) -> CRF:
    built = build_head(head.name, head.params, 0, num_tags)
    if not isinstance(built, CRF):
        raise SettingError(f"Expected a conditional random field, but got the head {head.name!r}.")
    return built


def train_crf(
    settings: CRF, words: Sequence[Sequence[str]], tags: NDArray[np.int64], offsets: NDArray[np.int64]
) -> TrainedCRF:
    """Train one; the result depends on nothing but the arguments.

    Args:
        settings: penalties, iterations and the number of tags.
        words: attributes of every token, M lists.
        tags: of every token, ``(M,)``.
        offsets: where every sentence starts, and M, ``(N + 1,)``.
    """
    names = sorted({attribute for attributes in words for attribute in attributes})
    numbers = {name: str(number) for number, name in enumerate(names)}
    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    rows = [[numbers[attribute] for attribute in attributes] for attributes in words]
    tag_names = tags.astype(str).tolist()
    for start, end in zip(offsets.tolist(), offsets[1:].tolist(), strict=False):
        if end > start:
            trainer.append(rows[start:end], tag_names[start:end])
    trainer.set_params({"c1": settings.c1, "c2": settings.c2, "max_iterations": settings.max_iterations})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.crfsuite"
        trainer.train(str(file))
        weights = read_crfsuite(file)
    log = [float(entry["loss"]) / max(1, len(words)) for entry in trainer.logparser.iterations if "loss" in entry]
    kept = np.array([int(name) for name in weights.attributes], dtype=np.int64)
    place = np.argsort(np.argsort(kept))  # rows of the weights are in the order of the names
    tag_of = np.array([int(name) for name in weights.labels], dtype=np.int64)
    head = CRF(len(kept), settings.num_classes, settings.c1, settings.c2, settings.max_iterations)
    state, transition = weights.state, weights.transition
    where = (place[state["source"]], tag_of[state["target"]])
    head.weight = csr_array((state["weight"], where), shape=(len(kept), settings.num_classes))
    head.transition[tag_of[transition["source"]], tag_of[transition["target"]]] = transition["weight"]
    attributes = tuple(names[number] for number in np.sort(kept).tolist())
    return TrainedCRF(head, attributes, len(log), (log[0], log[-1]))


def _finished(
    job: Job, trained: TrainedCRF, corpus: Corpus, validation: Sequence[Sequence[str]], metric: str, engine: str
) -> CRFModel:
    """The model with its post-hoc steps, and how good it is on validation."""
    index = {name: i for i, name in enumerate(trained.attributes)}
    scores = trained.head.scores(attribute_rows(validation, index), corpus.offsets("validation"))
    fitted = fit_corpus_steps(
        job.recipe,
        scores,
        corpus,
        prior=corpus_prior(job.recipe.stages[-1], corpus),
        metric=metric,
        weight=None,
        bias=None,
    )
    log: dict[str, Any] = {"steps": trained.iterations, **loss_facts([trained.losses])}
    if metric in metric_names(corpus.task.label_structure) and scores_are_finite(fitted.held_out):
        log[f"validation_{metric}"] = evaluate_scores(corpus, "validation", fitted.held_out).score(metric)
    head = trained.head
    settings = {"c1": head.c1, "c2": head.c2, "max_iterations": head.max_iterations, "optimiser": "l-bfgs"}
    model = CRFModel(
        head=head,
        attributes=trained.attributes,
        label_space=corpus.label_space,
        task=corpus.task,
        recipe=job.recipe.to_dict(),
        seed=job.seed,
        engine=engine,
        steps=fitted.steps,
        info={**run_facts(corpus, None, settings, log), "notes": [_NOTE]},
    )
    model.held_out = fitted.held_out if fitted.steps else None
    return model
