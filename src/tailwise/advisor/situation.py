"""What the rules look at: facts from the diagnosis, and wishes of the user.

None means unknown; a rule that needs an unknown input does not fire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from tailwise.catalog.method import Setting
from tailwise.errors import SettingError
from tailwise.imbalance.measures import minority_classes
from tailwise.imbalance.shape import ShapeName
from tailwise.registry import did_you_mean

if TYPE_CHECKING:
    from tailwise.imbalance.diagnosis import Diagnosis

__all__ = ["INPUTS", "Budget", "Goal", "InputKind", "Situation", "TestPrior"]

Goal = Literal["macro", "minority_f1", "all", "calibrated_probabilities"]
Budget = Literal["head_only", "one_finetune", "few_finetunes", "large"]
TestPrior = Literal["same", "uniform", "known"]


class InputKind(NamedTuple):
    """The values an input takes (a type, or the words allowed) and where it comes from."""

    kind: type | tuple[str, ...]
    source: str


_WISH = "say so to recommend()"
_COUNTS = "from the training counts"
_FEATURES = "give features to diagnose()"

INPUTS: dict[str, InputKind] = {
    "task": InputKind(get_args(Setting), _WISH),
    "num_classes": InputKind(int, _COUNTS),
    "num_rows": InputKind(int, _COUNTS),
    "n_min": InputKind(int, _COUNTS),
    "rho": InputKind(float, _COUNTS),
    "shape": InputKind(get_args(ShapeName), _COUNTS),
    "minority_classes": InputKind(int, _COUNTS),
    "catch_all": InputKind(bool, "name the class when loading"),
    "minority_purity": InputKind(float, _FEATURES),
    "spectral_similarity": InputKind(float, f"{_FEATURES}; minority classes need five examples"),
    "goal": InputKind(get_args(Goal), _WISH),
    "budget": InputKind(get_args(Budget), _WISH),
    "test_prior": InputKind(get_args(TestPrior), _WISH),
    "groups": InputKind(bool, _WISH),
    "unlabelled_pool": InputKind(bool, _WISH),
    "annotation_budget": InputKind(bool, _WISH),
    "related_data": InputKind(bool, _WISH),
    "generation": InputKind(bool, _WISH),
    "encoder_trained": InputKind(bool, _WISH),
}


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The inputs of the rules.

    Attributes:
        task: setting of the survey's Table 3.
        num_classes: classes of training.
        num_rows: training examples.
        n_min: training examples of the rarest class, the catch-all class aside.
        rho: imbalance ratio of the training counts.
        shape: balanced, step, linear or long-tailed.
        minority_classes: classes rarer than the mean.
        catch_all: whether there is a catch-all class, configured or named like one. A structural candidate alone leaves
            it unknown.
        minority_purity: mean over minority classes of the k-NN purity relative to its ceiling.
        spectral_similarity: how far rare classes look like shifted copies of frequent ones.
        goal: what counts: macro-F1, F1 of minority classes, all classes alike, calibrated probabilities.
        budget: what can be paid: heads on cached features, one fine-tuning, a few, many.
        test_prior: the class distribution at test time: as in training, uniform, or another known one.
        groups: whether groups of instances matter besides classes (fairness).
        unlabelled_pool: whether there is plenty of unlabelled text of the domain.
        annotation_budget: whether more can be annotated.
        related_data: whether there are related labelled data sets.
        generation: whether a text generator or machine translation may be used.
        encoder_trained: whether the encoder is trained already and stays as it is.
    """

    task: Setting
    num_classes: int
    num_rows: int
    n_min: int
    rho: float
    shape: ShapeName
    minority_classes: int
    catch_all: bool | None = False
    minority_purity: float | None = None
    spectral_similarity: float | None = None
    goal: Goal = "macro"
    budget: Budget = "few_finetunes"
    test_prior: TestPrior = "same"
    groups: bool = False
    unlabelled_pool: bool = False
    annotation_budget: bool = False
    related_data: bool = False
    generation: bool = False
    encoder_trained: bool = False

    def __post_init__(self) -> None:
        for name, (kind, _) in INPUTS.items():
            value = getattr(self, name)
            if isinstance(kind, tuple) and value not in kind:
                raise SettingError(
                    f"Expected argument `{name}` to be one of {', '.join(kind)}, but got {value!r}. "
                    f"{did_you_mean(str(value), kind)}"
                )

    @classmethod
    def of(cls, diagnosis: Diagnosis, *, task: Setting | None = None, **wishes: Any) -> Situation:
        """The situation of a diagnosed corpus.

        Args:
            diagnosis: of the corpus.
            task: setting; by default that of the data: multilabel, sequence, relation, else binary or multiclass.
            **wishes: the attributes from `goal` on.

        Raises:
            SettingError: a value that the attribute cannot take.
        """
        counts = diagnosis.train_counts
        found = diagnosis.catch_all
        certain = found is not None and found.basis != "structural"
        catch_all = found.index if found is not None and certain else None
        real = np.delete(counts, catch_all) if catch_all is not None and counts.size > 1 else counts
        return cls(
            task=task if task is not None else _setting_of(diagnosis),
            num_classes=diagnosis.num_classes,
            num_rows=diagnosis.num_rows["train"],
            n_min=int(real.min()),
            rho=diagnosis.measures.rho,
            shape=diagnosis.shape.name,
            minority_classes=int(minority_classes(counts).sum()),
            catch_all=None if found is not None and not certain else certain,
            minority_purity=_minority_purity(diagnosis),
            spectral_similarity=diagnosis.spectral_similarity,
            **wishes,
        )


def _setting_of(diagnosis: Diagnosis) -> Setting:
    """The setting of the survey's Table 3 that the task of the data belongs to."""
    task = diagnosis.task
    if task.label_structure == "multi":
        return "multilabel"
    if task.by_token:
        return "sequence"
    if task.input_form == "relation":
        return "relation"
    return "binary" if diagnosis.num_classes == 2 else "multiclass"


def _minority_purity(diagnosis: Diagnosis) -> float | None:
    if diagnosis.overlap is None:
        return None
    purity = diagnosis.overlap.relative_purity[minority_classes(diagnosis.train_counts)]
    purity = purity[~np.isnan(purity)]
    return float(purity.mean()) if purity.size else None
