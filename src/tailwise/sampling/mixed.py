"""Mixed sampling: several samplers in one epoch, by shares.

    draw t comes from sampler k(t),   k interleaved so that every stretch of draws has the shares s_k

Survey section 3.1 (mixed strategies; for example half natural, half class-aware). The prior of the draws is the mixture
of the priors, sum_k s_k P_k. The number of draws of a sampler in an epoch is L s_k in expectation and within one of it
(`class_mixture.apportion`); the interleaving then is that of evenly spaced draws and takes no chance. A sampler that
changes in the course of a run changes with the epochs of the mixture, so its own may not be shorter than its part of
one, nor longer if it changes within them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tailwise.errors import SettingError
from tailwise.sampling.base import LabelSampler
from tailwise.sampling.class_mixture import apportion, largest_remainders
from tailwise.sampling.performance import PerformanceSampler
from tailwise.sampling.progressive import ProgressiveSampler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["MixedSampler", "interleave"]


def interleave(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Spread ``counts[k]`` draws of every source k evenly over all draws.

    Args:
        counts: at least 0, ``(K,)``.

    Returns:
        The source of every draw, ``(sum of counts,)``.
    """
    sources = np.repeat(np.arange(counts.size), counts)
    number = np.arange(sources.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return sources[np.argsort((number + 0.5) / counts[sources], kind="stable")]


class MixedSampler(LabelSampler):
    """Draws from several samplers by shares.

    Args:
        labels: class index of every row, ``(N,)``.
        samplers: two or more: a registered name, a mapping with ``name`` and parameters, or a sampler over the same
            labels. A sampler that is too short for its part of an epoch goes through several of its own epochs.
        shares: s_k > 0, one per sampler, of any sum; None takes equal shares.
        seed: see `LabelSampler`; every sampler given by name gets one of its own from it.
        num_samples: length of an epoch; None takes N.
        num_classes: see `LabelSampler`.

    Raises:
        SettingError: fewer than two samplers, shares that do not fit them, a sampler over other labels, or one that
            changes in the course of a run with epochs that do not fit its part.
        UnknownNameError: a name that is not registered.
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        samplers: Sequence[str | Mapping[str, Any] | LabelSampler] = ("natural", "cas"),
        shares: Sequence[float] | None = None,
        seed: int = 0,
        num_samples: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(labels, seed=seed, num_samples=num_samples, num_classes=num_classes)
        if isinstance(samplers, str) or len(samplers) < 2:
            raise SettingError(f"MixedSampler: expected `samplers` to be at least two samplers, but got {samplers!r}.")
        weight = np.asarray([1.0] * len(samplers) if shares is None else shares, dtype=np.float64)
        if weight.shape != (len(samplers),) or not (weight > 0).all() or not np.isfinite(weight).all():
            raise SettingError(
                f"MixedSampler: expected `shares` to be {len(samplers)} positive numbers, one per sampler, but got "
                f"{shares!r}."
            )
        self.mixture: NDArray[np.float64] = weight / weight.sum()
        self.samplers = [self._built(sampler, position) for position, sampler in enumerate(samplers)]
        for position, built in enumerate(self.samplers):
            if getattr(built, "feedback_rows", np.empty(0)).size:
                raise SettingError(
                    f"MixedSampler: sampler {position + 1}, {type(built).__name__}, holds rows out that the other "
                    "samplers would draw. Use it alone, or set `feedback_share` to 0 and give it scores yourself."
                )
            self._require_same_pace(built, position)

    def _built(self, sampler: str | Mapping[str, Any] | LabelSampler, position: int) -> LabelSampler:
        if isinstance(sampler, LabelSampler):
            if sampler.class_counts.size != self.class_counts.size or not np.array_equal(sampler.labels, self.labels):
                raise SettingError(
                    f"MixedSampler: sampler {position + 1}, {type(sampler).__name__}, is over other labels or another "
                    "number of classes."
                )
            return sampler
        from tailwise.sampling import SAMPLERS

        given: dict[str, Any] = {"name": sampler} if isinstance(sampler, str) else dict(sampler)
        if not isinstance(given.get("name"), str):
            raise SettingError(f"MixedSampler: sampler {position + 1} needs a `name`, but got {sampler!r}.")
        seed = int(np.random.SeedSequence([self.seed, position]).generate_state(1)[0])
        name = given.pop("name")
        SAMPLERS.check_parameters(name, given)
        size = self._part(float(self.mixture[position]))
        given = {"seed": seed, "num_samples": size, "num_classes": self.class_counts.size, **given}
        for key, parameter in SAMPLERS.parameters(name).items():
            if parameter.default is parameter.empty and key not in {"labels", *given}:
                raise SettingError(f"MixedSampler: sampler {position + 1}, {name!r}, needs `{key}`.")
        return SAMPLERS[name](self.labels, **given)

    def _require_same_pace(self, sampler: LabelSampler, position: int) -> None:
        """Refuse a sampler that would go through its changes faster than the mixture through its epochs, or skip some.

        Raises:
            SettingError: epochs that do not fit.
        """
        size, needed = len(sampler), self._part(float(self.mixture[position]))
        changing = [own for own in _single(sampler) if isinstance(own, ProgressiveSampler | PerformanceSampler)]
        within = any(isinstance(own, ProgressiveSampler) and own.stepwise for own in changing)
        if changing and (size < needed or (within and size > needed)):
            raise SettingError(
                f"MixedSampler: sampler {position + 1}, {type(sampler).__name__}, changes in the course of a run, so "
                f"that its epochs need {'' if within else 'at least '}{needed} draws, its part of an epoch of "
                f"{len(self)}, but got {size}. Set its `num_samples` to {needed}, or give it by name without."
            )

    def row_rates(self) -> NDArray[np.float64] | None:
        """See `PlannedSampler.row_rates`; None if those of some part are not known."""
        return None if any(own.row_rates() is None for own in self.samplers) else super().row_rates()

    def effective_prior(self) -> NDArray[np.float64]:
        """The mixture of the priors of the samplers, ``(C,)``.

        With progressive samplers in it that of a run of as many epochs of the mixture as the largest of their
        `num_epochs`. A mixture within it counts by its shares, which hold for its draws up to one per epoch.
        """
        progressive = [own for own in _single(self) if isinstance(own, ProgressiveSampler)]
        return self.prior_of_run(max((own.run_epochs for own in progressive), default=1.0), len(self))

    def prior_of_run(self, num_epochs: float, draws: float) -> NDArray[np.float64]:
        """The class distribution of the first draws of every epoch of a run together; see `ProgressiveSampler`."""
        priors = [
            own.prior_of_run(num_epochs, draws * float(share))
            if isinstance(own, ProgressiveSampler | MixedSampler)
            else own.effective_prior()
            for own, share in zip(self.samplers, self.mixture, strict=True)
        ]
        prior: NDArray[np.float64] = self.mixture @ np.stack(priors)
        return prior

    def drawn_counts(self) -> NDArray[np.int64]:
        """Expected draws per class of an epoch, to whole draws by largest remainders, ``(C,)``."""
        return largest_remainders(self.effective_prior(), len(self))

    def default_num_samples(self) -> int:
        """N, the number of rows."""
        return self.labels.size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration lays out, here and in the samplers."""
        super().set_epoch(epoch)
        for sampler in self.samplers:
            sampler.set_epoch(epoch)

    def plan(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of one epoch, in order, ``(len(self),)``."""
        counts = apportion(self.random_stream(epoch), self.mixture, len(self))
        plan = np.empty(len(self), dtype=np.int64)
        order = np.argsort(interleave(counts), kind="stable")
        drawn = zip(self.samplers, counts, self.mixture, strict=True)
        plan[order] = np.concatenate([self._drawn(k, epoch, int(n), share) for k, n, share in drawn])
        return plan

    def _part(self, share: float) -> int:
        """Draws of a sampler in an epoch, at most."""
        return int(len(self) * share) + 1

    def state_dict(self) -> dict[str, Any]:
        """The states of the samplers that have one, None for the others."""
        return {"samplers": [s.state_dict() if hasattr(s, "state_dict") else None for s in self.samplers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand the states of `state_dict` back to the samplers."""
        for sampler, own in zip(self.samplers, state["samplers"], strict=True):
            if own is not None and hasattr(sampler, "load_state_dict"):
                sampler.load_state_dict(own)

    def _drawn(self, sampler: LabelSampler, epoch: int, draws: int, share: float) -> NDArray[np.int64]:
        """The first `draws` rows of as many epochs of a sampler as this epoch may need."""
        epochs = -(-self._part(share) // len(sampler))
        plans = [sampler.plan(epoch * epochs + i) for i in range(epochs)]
        return np.concatenate(plans)[:draws]


def _single(sampler: LabelSampler) -> list[LabelSampler]:
    """The samplers that a mixture draws from, those of mixtures within it too; of another sampler itself."""
    if not isinstance(sampler, MixedSampler):
        return [sampler]
    return [single for own in sampler.samplers for single in _single(own)]
