"""Sub-sampling of frequent classes.

    paper      keep_j = min(1, sqrt(t / f_j))                      f_j = n_j / N
    word2vec   keep_j = min(1, (sqrt(f_j / t) + 1) t / f_j)

Mikolov et al., Distributed Representations of Words and Phrases and their Compositionality, NeurIPS 2013, eq. 5, there
over words with t = 1e-5; the released tool uses the second form. With t = 1/C, our default, a class of uniform share is
kept whole and the head shrinks to its square root. Survey section 3.1. Differs from the paper in that a class keeps
exactly n_j keep_j rows, rounded, at least one, instead of a random number; which ones changes from epoch to epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.base import LabelSampler

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["FrequentSubsampler", "KeepForm", "keep_probability"]

KeepForm = Literal["paper", "word2vec"]


def keep_probability(
    frequency: NDArray[np.float64], threshold: float, *, form: KeepForm = "paper"
) -> NDArray[np.float64]:
    """How likely an item of relative frequency f is kept.

    Args:
        frequency: f >= 0, any shape.
        threshold: t > 0.
        form: the formula of the paper or that of the word2vec tool.

    Returns:
        The same shape, 1 where f is 0.
    """
    ratio = threshold / np.where(frequency > 0, frequency, threshold)
    keep = np.sqrt(ratio) if form == "paper" else np.sqrt(ratio) + ratio
    kept: NDArray[np.float64] = np.minimum(keep, 1.0)
    return kept


class FrequentSubsampler(LabelSampler):
    """Frequent classes are cut down, rare ones are kept whole.

    Args:
        labels: class index of every row, ``(N,)``.
        threshold: t > 0, the share of the rows up to which a class is kept whole; None takes 1 / (classes with a row).
        form: the formula of the paper or that of the word2vec tool.
        seed: see `LabelSampler`.
        num_samples: length of an epoch; None takes the sum of the rows kept. A smaller one takes a random part, a
            larger one goes on with further lists, which go through rows not drawn yet first.
        num_classes: see `LabelSampler`.

    Raises:
        SettingError: `threshold` not positive, or an unknown `form`.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        threshold: float | None = None,
        form: KeepForm = "paper",
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        if threshold is not None and not threshold > 0.0:
            raise SettingError(f"FrequentSubsampler: expected `threshold` to be positive, but got {threshold!r}.")
        if form not in get_args(KeepForm):
            raise SettingError(f"FrequentSubsampler: expected `form` to be 'paper' or 'word2vec', but got {form!r}.")
        self.threshold = 1.0 / int(np.count_nonzero(self.class_counts)) if threshold is None else threshold
        self.form = form

    def drawn_counts(self) -> NDArray[np.int64]:
        """Rows kept per class, ``(C,)``."""
        keep = keep_probability(self.class_counts / self.labels.size, self.threshold, form=self.form)
        kept = np.rint(self.class_counts * keep).astype(np.int64)
        return np.maximum(kept, np.minimum(self.class_counts, 1))

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        number = -(-len(self) // self.default_num_samples())
        drawn = self.lists(self.random_stream(epoch), self.drawn_counts(), number)
        return drawn.reshape(-1)[: len(self)].astype(np.int64, copy=False)
