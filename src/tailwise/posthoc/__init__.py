"""Post-hoc steps: adjust the scores of a finished model (survey sections 3.5 and 4)."""

from tailwise.posthoc.base import AffineStep, FitContext, PostHoc, compose
from tailwise.posthoc.label_steps import LabelLogitAdjustment, LabelTauNorm, LabelTemperature, LabelThresholds
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
    "LabelLogitAdjustment",
    "LabelTauNorm",
    "LabelTemperature",
    "LabelThresholds",
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
        "label-thresholds": "tailwise.posthoc.label_steps:LabelThresholds",
        "label-temperature": "tailwise.posthoc.label_steps:LabelTemperature",
        "label-logit-adjustment": "tailwise.posthoc.label_steps:LabelLogitAdjustment",
        "label-tau-norm": "tailwise.posthoc.label_steps:LabelTauNorm",
    },
)
