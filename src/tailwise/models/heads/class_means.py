"""Nearest class mean (NCM) as a head, fitted in closed form.

    mu_j = mean of phi(f) over the training rows of class j
    z_j  = s (2 mu_j . phi(f) - |mu_j|^2)  =  s (|phi(f)|^2 - |phi(f) - mu_j|^2)

phi is the identity (``raw``), division by the length (``l2``), or subtraction of the mean of all training features and
then division by the length (``centre-l2``). The term |phi(f)|^2 is the same for every class, so decisions and
probabilities are those of the negative squared distance.
Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020 (``un``, ``l2n`` and
``cl2n`` of the authors' code with squared Euclidean distance). Survey section 3.4. Differs from the authors' code in
the scale s, a temperature for the probabilities that leaves decisions alone.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.models.heads.affine import affine_scores
from tailwise.models.heads.base import AffineForm, Head

__all__ = ["NEVER", "ClassMeansHead", "Transform", "class_means"]

Transform = Literal["raw", "l2", "centre-l2"]

#: The score of a class without a training row: finite, and below that of every other class.
NEVER = -1e9


def class_means(features: Tensor, target: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature vector of each class.

    Args:
        features: ``(N, D)``.
        target: class indices, ``(N,)``.
        num_classes: C.

    Returns:
        Means ``(C, D)``, zero for a class without a row, and counts ``(C,)``, both in the type of `features`.
    """
    counts = torch.bincount(target, minlength=num_classes).to(features.dtype)
    sums = features.new_zeros(num_classes, features.shape[1]).index_add_(0, target, features)
    return sums / counts.clamp(min=1.0)[:, None], counts


class ClassMeansHead(Head):
    """Scores by the distance to the class means.

    Args:
        num_features: D.
        num_classes: C.
        transform: phi, one of ``"raw"``, ``"l2"``, ``"centre-l2"``.
        scale: s > 0.

    Raises:
        SettingError: an unknown `transform`, or a `scale` that is not positive.

    A class without a training row scores `NEVER`.
    """

    closed_form = True
    centre: Tensor
    means: Tensor
    counts: Tensor

    def __init__(
        self, num_features: int, num_classes: int, *, transform: Transform = "centre-l2", scale: float = 10.0
    ) -> None:
        super().__init__(num_features, num_classes)
        if transform not in get_args(Transform):
            raise SettingError(
                f"Expected `transform` to be one of {', '.join(get_args(Transform))}, got {transform!r}."
            )
        if not 0.0 < scale < float("inf"):
            raise SettingError(f"Expected `scale` to be a finite number larger than 0, but got {scale!r}.")
        self.transform = transform
        self.scale = float(scale)
        self.register_buffer("centre", torch.zeros(num_features))
        self.register_buffer("means", torch.zeros(num_classes, num_features))
        self.register_buffer("counts", torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(M, C)`` of features ``(M, D)``."""
        return affine_scores(self.affine(), features)

    @torch.no_grad()
    def fit(self, features: Tensor, target: Tensor) -> None:
        """Take centre and class means from training features ``(N, D)`` and class indices ``(N,)``; float64 inside.

        Raises:
            SettingError: no row, shapes that do not fit, or a class index outside ``[0, C)``.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features or target.shape != features.shape[:1]:
            raise SettingError(
                f"Expected features (N, {self.num_features}) and target (N,), but got {tuple(features.shape)} and "
                f"{tuple(target.shape)}."
            )
        if not len(target) or int(target.min()) < 0 or int(target.max()) >= self.num_classes:
            raise SettingError(f"Expected class indices from 0 to {self.num_classes - 1} for at least one row.")
        exact = features.double()
        if self.transform == "centre-l2":
            self.centre.copy_(exact.mean(dim=0))
            exact = exact - exact.mean(dim=0)
        if self.transform != "raw":
            exact = functional.normalize(exact, dim=-1)
        means, counts = class_means(exact, target.to(exact.device), self.num_classes)
        self.means.copy_(means)
        self.counts.copy_(counts)

    def affine(self) -> AffineForm:
        """Weights ``2 s mu_j`` and biases ``-s |mu_j|^2`` on transformed features."""
        bias = -self.scale * self.means.square().sum(dim=1)
        bias = bias.where(self.counts > 0, torch.full_like(bias, NEVER))
        centre = self.centre.clone() if self.transform == "centre-l2" else None
        return AffineForm(2 * self.scale * self.means, bias, centre, normalise=self.transform != "raw")
