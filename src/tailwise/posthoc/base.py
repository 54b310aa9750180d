"""What every post-hoc step is: fitted on validation scores, applied to the scores of a finished model.

Every step here is affine per class, z' = a * z + b, so a chain of them is one of them, and where the head is affine too
the chain folds into its weights: the model needs no tailwise to apply it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    #: metric(target, predicted) -> float, larger is better; class indices (N,), or truth values (N, L) over labels
    Metric = Callable[[NDArray[Any], NDArray[Any]], float]

__all__ = ["AffineStep", "FitContext", "PostHoc", "compose"]


@dataclass(frozen=True)
class AffineStep:
    """A fitted step, ``z' = scale * z + bias`` with `scale` and `bias` ``(C,)``; `details` is what was fitted."""

    name: str
    scale: NDArray[np.float64]
    bias: NDArray[np.float64]
    details: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, logits: NDArray[Any]) -> NDArray[Any]:
        """Adjusted logits ``(N, C)``, same dtype."""
        return (logits * self.scale + self.bias).astype(logits.dtype, copy=False)

    def fold(self, weight: NDArray[Any], bias: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """An affine head ``z = W f + b``, W ``(C, D)``, b ``(C,)``, with this step inside."""
        return (
            (weight * self.scale[:, None]).astype(weight.dtype, copy=False),
            (bias * self.scale + self.bias).astype(bias.dtype, copy=False),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name, "scale": self.scale.tolist(), "bias": self.bias.tolist(), "details": dict(self.details)
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AffineStep:
        """The inverse of `to_dict`."""
        scale, bias = (np.asarray(data[k], dtype=np.float64) for k in ("scale", "bias"))
        return cls(name=str(data["name"]), scale=scale, bias=bias, details=dict(data.get("details", {})))

    @classmethod
    def identity(cls, num_classes: int) -> AffineStep:
        """The step that changes nothing."""
        return cls("identity", np.ones(num_classes), np.zeros(num_classes))


@dataclass(frozen=True)
class FitContext:
    """What a post-hoc step may know beside the validation scores.

    Attributes:
        prior: the effective prior of the recipe, ``(C,)``: what the logits express, after sampling and weighting.
        metric: what tuned steps maximise on validation.
        weight: rows of an affine head, ``(C, D)``, or None.
        bias: its bias, ``(C,)``, or None.
    """

    prior: NDArray[np.float64]
    metric: Metric
    weight: NDArray[Any] | None = None
    bias: NDArray[Any] | None = None


class PostHoc(ABC):
    """A step to be fitted: `fit` takes validation logits ``(N, C)`` and targets ``(N,)``, returns an `AffineStep`."""

    @abstractmethod
    def fit(self, logits: NDArray[Any], target: NDArray[np.int64], context: FitContext) -> AffineStep:
        """Fit on validation scores; the scores are not changed."""

    def effective_prior(self, prior: NDArray[np.float64], step: AffineStep) -> NDArray[np.float64]:
        """The prior that the adjusted logits express; unchanged unless the step moves it."""
        del step
        return prior


def compose(steps: Sequence[AffineStep], num_classes: int) -> AffineStep:
    """The one affine step that equals applying `steps` in order."""
    scale, bias = np.ones(num_classes), np.zeros(num_classes)
    for step in steps:
        scale, bias = scale * step.scale, bias * step.scale + step.bias
    return AffineStep("+".join(s.name for s in steps) or "identity", scale, bias)
