"""Exact fits of affine heads by losses that are convex in the logits."""

from tailwise.training.convex.fitting import ConvexProblem, fit_convex, objective

__all__ = ["ConvexProblem", "fit_convex", "objective"]
