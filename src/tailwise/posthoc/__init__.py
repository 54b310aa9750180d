"""Post-hoc steps: adjust the scores of a finished model (survey sections 3.5 and 4)."""

from tailwise.posthoc.base import AffineStep, FitContext, PostHoc, compose
from tailwise.posthoc.logit_adjustment import LogitAdjustment
from tailwise.posthoc.tau_norm import TauNorm
from tailwise.posthoc.temperature import TemperatureScaling
from tailwise.posthoc.thresholds import ClassThresholds
from tailwise.registry import Registry

__all__ = [
    "POSTHOC",
    "AffineStep",
    "ClassThresholds",
    "FitContext",
    "LogitAdjustment",
    "PostHoc",
    "TauNorm",
    "TemperatureScaling",
    "compose",
]

POSTHOC: Registry[type[PostHoc]] = Registry(
    "post-hoc step",
    "tailwise.posthoc.base:PostHoc",
    {
        "tau-norm": "tailwise.posthoc.tau_norm:TauNorm",
        "logit-adjustment": "tailwise.posthoc.logit_adjustment:LogitAdjustment",
        "thresholds": "tailwise.posthoc.thresholds:ClassThresholds",
        "temperature": "tailwise.posthoc.temperature:TemperatureScaling",
    },
)
