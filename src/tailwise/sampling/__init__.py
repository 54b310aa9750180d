"""Samplers: which rows an epoch draws, in which order (survey section 3.1)."""

from tailwise.registry import Registry
from tailwise.sampling.base import LabelSampler
from tailwise.sampling.class_aware import ClassAwareSampler
from tailwise.sampling.natural import NaturalSampler
from tailwise.sampling.random_over import RandomOverSampler
from tailwise.sampling.random_under import RandomUnderSampler

__all__ = [
    "SAMPLERS",
    "ClassAwareSampler",
    "LabelSampler",
    "NaturalSampler",
    "RandomOverSampler",
    "RandomUnderSampler",
]

SAMPLERS: Registry[type[LabelSampler]] = Registry(
    "sampler",
    "tailwise.sampling.base:LabelSampler",
    {
        "natural": "tailwise.sampling.natural:NaturalSampler",
        "ros": "tailwise.sampling.random_over:RandomOverSampler",
        "rus": "tailwise.sampling.random_under:RandomUnderSampler",
        "cas": "tailwise.sampling.class_aware:ClassAwareSampler",
    },
)
