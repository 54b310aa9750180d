"""Performance-based re-sampling: classes that the model gets wrong are drawn more often in the epochs to come.

    d_j = 1 - EMA[F1_j] + floor,    P_j = b_j d_j^(1/T) / sum_k b_k d_k^(1/T)        b_j 1/C or n_j / N

Pouyanfar et al., Dynamic Sampling in Convolutional Neural Networks for Imbalanced Data Classification, IEEE MIPR 2018
(floor 0, T 1, no average, b uniform); Akhbardeh et al., Handling Extreme Class Imbalance in Technical Logbook Datasets,
ACL-IJCNLP 2021 (a feedback loop every few epochs). Survey section 3.1. Before the first scores P is b. Differs from
Pouyanfar et al. in the length of an epoch (`num_samples`; theirs is the average class size), in the floor and in the
average over time. Both papers score on validation data; here a slice of train is held out of the draw for it, so that
it is neither trained on nor used to choose the model (`feedback.stratified_slice`).

Scores given during epoch e count from epoch e + 1 on. So the plan of an epoch never changes while it is followed, and a
run that resumes in its middle, from `state_dict`, goes on with the same sequence. For a feedback period shorter than an
epoch make the epochs of the sampler that short (`num_samples`). The engines and `ImbalanceTrainer` predict the classes
of `rows_to_score` at the beginning of every epoch but the first and call `observe` themselves: all of the slice at
first, then half of it in turn, the other half counting with its last prediction. So the scores cost half of a pass over
a tenth of the rows, next to an average over time that lags behind by as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.checks import whole_number
from tailwise.sampling.class_mixture import ClassMixtureSampler
from tailwise.sampling.feedback import stratified_slice
from tailwise.sampling.power import power_shares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

__all__ = ["PerformanceBase", "PerformanceSampler", "per_class_f1", "performance_shares"]

PerformanceBase = Literal["uniform", "natural"]


def per_class_f1(gold: ArrayLike, predicted: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """F1 of every class on a feedback slice, NaN for a class without a gold row.

    Args:
        gold: class indices, ``(M,)``.
        predicted: class indices, ``(M,)``.
        num_classes: C.

    Returns:
        ``(C,)``.

    Raises:
        SettingError: different shapes, or a class index outside [0, C).
    """
    true, guess = np.asarray(gold), np.asarray(predicted)
    if true.shape != guess.shape or true.ndim != 1:
        raise SettingError(
            f"per_class_f1: expected gold and predicted classes of one shape (M,), but got {true.shape} and "
            f"{guess.shape}."
        )
    for name, array in (("gold", true), ("predicted", guess)):
        if array.size and not (array.min() >= 0 and array.max() < num_classes):
            raise SettingError(
                f"per_class_f1: expected `{name}` to lie in [0, {num_classes}), but got values from {array.min()} to "
                f"{array.max()}."
            )
    present = np.bincount(true.astype(np.int64), minlength=num_classes)
    both = present + np.bincount(guess.astype(np.int64), minlength=num_classes)
    hits = np.bincount(true[true == guess].astype(np.int64), minlength=num_classes)
    return np.where(present > 0, 2.0 * hits / np.maximum(both, 1), np.nan)


def performance_shares(
    base: NDArray[np.float64], scores: NDArray[np.float64], *, floor: float = 0.05, temperature: float = 1.0
) -> NDArray[np.float64]:
    """The class distribution b_j (1 - F1_j + floor)^(1/T), normalised.

    Args:
        base: b, ``(C,)``.
        scores: F1 in [0, 1], NaN where unknown (it gets the mean of the known d), ``(C,)``.
        floor: keeps a class of F1 = 1 in the draw.
        temperature: T > 0; larger is closer to `base`.

    Returns:
        ``(C,)``; `base` if nothing is known, or if every d is 0.
    """
    known = ~np.isnan(scores) & (base > 0)
    if not known.any():
        return base
    need = 1.0 - np.clip(scores, 0.0, 1.0) + floor
    need = np.where(known, need, need[known].mean())
    if need.max() == 0.0:
        return base
    weight = base * (need / need.max()) ** (1.0 / temperature)
    total = weight.sum()
    return weight / total if total > 0 else base


class PerformanceSampler(ClassMixtureSampler):
    """Classes are drawn by how badly they were recognised.

    After each period give the predicted classes of `rows_to_score` to `observe`, or scores of one's own to `update`.

    Args:
        labels: class index of every row, ``(N,)``.
        base: the class distribution before any scores, which they then tilt: "uniform" or "natural".
        floor: >= 0, added to 1 - F1.
        momentum: in [0, 1), weight of the earlier scores in the moving average; 0 takes the last scores alone.
        temperature: T > 0; larger is closer to `base`.
        feedback_share: share of the rows of every class, in [0, 1), that is held out of the draw to be scored; 0 holds
            none out and leaves both the rows to score and the scoring to the caller.
        feedback_parts: >= 1; of the rows held out, one in so many is predicted anew in a period, in turn.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes the number of rows that are not held out.
        num_classes: see `LabelSampler`. A class without a row is left out.

    Attributes:
        feedback_rows: the rows held out, ascending, ``(M,)``.
        feedback_labels: their class indices, ``(M,)``.
        labels: class indices of the rows that are drawn, ``(N - M,)``; `class_counts` counts them.

    Raises:
        SettingError: a parameter outside its range.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        base: PerformanceBase = "uniform",
        floor: float = 0.05,
        momentum: float = 0.5,
        temperature: float = 1.0,
        feedback_share: float = 0.1,
        feedback_parts: int = 2,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        if base not in get_args(PerformanceBase):
            raise SettingError(f"PerformanceSampler: expected `base` to be 'uniform' or 'natural', but got {base!r}.")
        if not 0.0 <= floor < np.inf:
            raise SettingError(f"PerformanceSampler: expected `floor` to be at least 0, but got {floor!r}.")
        if not 0.0 <= momentum < 1.0:
            raise SettingError(f"PerformanceSampler: expected `momentum` to lie in [0, 1), but got {momentum!r}.")
        if not temperature > 0.0:
            raise SettingError(f"PerformanceSampler: expected `temperature` to be positive, but got {temperature!r}.")
        if not 0.0 <= feedback_share < 1.0:
            raise SettingError(
                f"PerformanceSampler: expected `feedback_share` to lie in [0, 1), but got {feedback_share!r}."
            )
        if whole_number(feedback_parts, "feedback_parts", "PerformanceSampler") < 1:
            raise SettingError(
                f"PerformanceSampler: expected `feedback_parts` to be at least 1, but got {feedback_parts}."
            )
        self.base: PerformanceBase = base
        self.floor = floor
        self.momentum = momentum
        self.temperature = temperature
        self.feedback_parts = feedback_parts
        self._averages: dict[int, NDArray[np.float64]] = {}
        self._predicted: NDArray[np.int64] | None = None  # last predictions of `feedback_rows`
        self.feedback_rows: NDArray[np.int64] = stratified_slice(self.labels, feedback_share, seed=seed)
        self.feedback_labels: NDArray[np.int64] = self.labels[self.feedback_rows]
        drawn = np.ones(self.labels.size, dtype=bool)
        drawn[self.feedback_rows] = False
        self._drawn_rows = np.flatnonzero(drawn)
        self.labels = self.labels[drawn]
        self.class_counts = np.bincount(self.labels, minlength=self.class_counts.size)

    def row_rates(self) -> NDArray[np.float64] | None:
        """None: what is drawn changes in the course of a training."""
        return None

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``; never one of `feedback_rows`."""
        plan: NDArray[np.int64] = self._drawn_rows[super().plan(epoch)]
        return plan

    def rows_to_score(self, epoch: int) -> NDArray[np.int64]:
        """The rows whose classes are to be predicted before `epoch` is drawn; empty where none are, ``(K,)``."""
        return self.feedback_rows[self._places_to_score(epoch)]

    def observe(self, predicted: ArrayLike, *, from_epoch: int) -> None:
        """Take in predictions of a period.

        Args:
            predicted: class indices of ``rows_to_score(from_epoch)``, ``(K,)``; one that is not of the labels counts as
                an error.
            from_epoch: the epoch that is about to begin, the first to be drawn by them.

        Raises:
            SettingError: another number of predictions, or predictions that are no indices.
        """
        places, given = self._places_to_score(from_epoch), np.asarray(predicted)
        if given.shape != places.shape:
            raise SettingError(
                f"PerformanceSampler: expected one prediction for each of the {places.size} rows to score before epoch "
                f"{from_epoch}, but got shape {given.shape}."
            )
        if given.size and not np.issubdtype(given.dtype, np.integer):
            raise SettingError(f"PerformanceSampler: expected class indices as predictions, but got {given.dtype}.")
        num_classes = self.class_counts.size
        latest = np.full(self.feedback_rows.shape, num_classes) if self._predicted is None else self._predicted.copy()
        latest[places] = np.where((given >= 0) & (given < num_classes), given, num_classes)
        self._predicted = latest
        scores = per_class_f1(self.feedback_labels, latest, num_classes + 1)
        self.update(scores[:num_classes], from_epoch=from_epoch)

    def _places_to_score(self, epoch: int) -> NDArray[np.int64]:
        """Places among the rows held out: by class and then every so many, so that each part has its share of each."""
        if epoch <= max(self._averages, default=0):
            return np.empty(0, dtype=np.int64)
        order = np.argsort(self.feedback_labels, kind="stable")
        if self._predicted is None:
            return np.sort(order)
        parts = min(self.feedback_parts, order.size)
        return np.sort(order[len(self._averages) % parts :: parts])

    def update(self, scores: ArrayLike, *, from_epoch: int | None = None) -> None:
        """Take in the scores of a period.

        Args:
            scores: F1 per class on the feedback slice, in [0, 1], NaN for a class that is not in it, ``(C,)``.
            from_epoch: the first epoch drawn by them; None takes the one after the current epoch.

        Raises:
            SettingError: wrong shape, values outside [0, 1], or a `from_epoch` before one already given.
        """
        given = np.asarray(scores, dtype=np.float64)
        if given.shape != self.class_counts.shape:
            raise SettingError(
                f"PerformanceSampler: expected one score per class, ({self.class_counts.size},), but got shape "
                f"{given.shape}."
            )
        if np.nanmin(given, initial=0.0) < 0.0 or np.nanmax(given, initial=1.0) > 1.0:
            raise SettingError("PerformanceSampler: expected scores in [0, 1], or NaN for a class without a score.")
        start = self.epoch + 1 if from_epoch is None else from_epoch
        latest = max(self._averages, default=start)
        if start < latest:
            raise SettingError(
                f"PerformanceSampler: scores from epoch {latest} on are already in, so that scores from epoch {start} "
                "on come too late. Give them in the order of the epochs."
            )
        before = self._averages[latest] if self._averages else np.full(given.shape, np.nan)
        mixed = np.where(np.isnan(before), given, self.momentum * before + (1.0 - self.momentum) * given)
        self._averages[start] = np.where(np.isnan(given), before, mixed)

    def scores(self, epoch: int) -> NDArray[np.float64]:
        """The moving averages that an epoch is drawn by, NaN where there is none yet, ``(C,)``."""
        known = [start for start in self._averages if start <= epoch]
        return self._averages[max(known)] if known else np.full(self.class_counts.shape, np.nan)

    def shares(self, epoch: int) -> NDArray[np.float64]:
        """The class distribution of one epoch, ``(C,)``."""
        base = power_shares(self.class_counts, 0.0 if self.base == "uniform" else 1.0)
        return performance_shares(base, self.scores(epoch), floor=self.floor, temperature=self.temperature)

    def state_dict(self) -> dict[str, Any]:
        """All scores so far, and the last predictions, as plain data; an ``average`` is None where there is none."""
        averages = [[None if np.isnan(x) else float(x) for x in average] for average in self._averages.values()]
        predicted = None if self._predicted is None else self._predicted.tolist()
        return {"from_epoch": list(self._averages), "average": averages, "predicted": predicted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the scores of `state_dict`.

        Raises:
            SettingError: the state is of other classes, or of another number of rows held out.
        """
        averages = {}
        for start, average in zip(state["from_epoch"], state["average"], strict=True):
            averages[int(start)] = np.array([np.nan if x is None else x for x in average], dtype=np.float64)
            if averages[int(start)].shape != self.class_counts.shape:
                raise SettingError(
                    f"PerformanceSampler: the state has {len(average)} classes, but the labels "
                    f"{self.class_counts.size}."
                )
        predicted = state["predicted"]
        if predicted is not None and len(predicted) != self.feedback_rows.size:
            raise SettingError(
                f"PerformanceSampler: the state has predictions of {len(predicted)} rows held out, but here "
                f"{self.feedback_rows.size} are."
            )
        self._averages = averages
        self._predicted = None if predicted is None else np.array(predicted, dtype=np.int64)
