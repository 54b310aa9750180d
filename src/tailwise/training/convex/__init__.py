"""Fits of affine heads on all rows at once: exact by losses that are convex in the logits, local by others."""

from tailwise.training.convex.fitting import ConvexProblem, fit_convex, objective
from tailwise.training.convex.local import LocalFit, LocalProblem, fit_local, stand_in

__all__ = ["ConvexProblem", "LocalFit", "LocalProblem", "fit_convex", "fit_local", "objective", "stand_in"]
