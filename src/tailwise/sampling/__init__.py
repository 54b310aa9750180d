"""Samplers: which rows an epoch draws, in which order (survey section 3.1)."""

from tailwise.registry import Registry
from tailwise.sampling.balance_policy import BalancePolicySampler
from tailwise.sampling.base import LabelSampler, PlannedSampler
from tailwise.sampling.class_aware import ClassAwareSampler
from tailwise.sampling.class_aware_multilabel import ClassAwareMultiLabelSampler
from tailwise.sampling.frequent import FrequentSubsampler
from tailwise.sampling.label_balanced import LabelBalancedSampler
from tailwise.sampling.label_matrix import LabelMatrix, as_label_matrix
from tailwise.sampling.label_powerset import LabelPowersetOverSampler, LabelPowersetUnderSampler
from tailwise.sampling.m_per_class import EpisodeSampler, MPerClassBatchSampler, MPerClassSampler
from tailwise.sampling.mixed import MixedSampler
from tailwise.sampling.multilabel_base import LabelMatrixSampler
from tailwise.sampling.multilabel_random import MultiLabelRandomOverSampler, MultiLabelRandomUnderSampler
from tailwise.sampling.natural import NaturalSampler
from tailwise.sampling.performance import PerformanceSampler, per_class_f1
from tailwise.sampling.power import PowerSampler
from tailwise.sampling.progressive import ProgressiveSampler
from tailwise.sampling.random_over import RandomOverSampler
from tailwise.sampling.random_under import RandomUnderSampler
from tailwise.sampling.remedial import remedial
from tailwise.sampling.repeat_factor import RepeatFactorSampler
from tailwise.sampling.resampling_report import ReSamplingReport
from tailwise.sampling.sequence_factors import SentenceRepeatFactorSampler, TokenFactorSampler
from tailwise.sampling.sequence_rarity import CatchAllSentenceSampler, SentenceFactorSampler, SentenceRaritySampler
from tailwise.sampling.stream import BalancedStream

__all__ = [
    "MULTILABEL_SAMPLERS",
    "SAMPLERS",
    "SENTENCE_SAMPLERS",
    "BalancePolicySampler",
    "BalancedStream",
    "CatchAllSentenceSampler",
    "ClassAwareMultiLabelSampler",
    "ClassAwareSampler",
    "EpisodeSampler",
    "FrequentSubsampler",
    "LabelBalancedSampler",
    "LabelMatrix",
    "LabelMatrixSampler",
    "LabelPowersetOverSampler",
    "LabelPowersetUnderSampler",
    "LabelSampler",
    "MPerClassBatchSampler",
    "MPerClassSampler",
    "MixedSampler",
    "MultiLabelRandomOverSampler",
    "MultiLabelRandomUnderSampler",
    "NaturalSampler",
    "PerformanceSampler",
    "PlannedSampler",
    "PowerSampler",
    "ProgressiveSampler",
    "RandomOverSampler",
    "RandomUnderSampler",
    "ReSamplingReport",
    "RepeatFactorSampler",
    "SentenceFactorSampler",
    "SentenceRaritySampler",
    "SentenceRepeatFactorSampler",
    "TokenFactorSampler",
    "as_label_matrix",
    "per_class_f1",
    "remedial",
]

SAMPLERS: Registry[type[LabelSampler]] = Registry(
    "sampler",
    "tailwise.sampling.base:LabelSampler",
    {
        "natural": "tailwise.sampling.natural:NaturalSampler",
        "ros": "tailwise.sampling.random_over:RandomOverSampler",
        "rus": "tailwise.sampling.random_under:RandomUnderSampler",
        "cas": "tailwise.sampling.class_aware:ClassAwareSampler",
        "power": "tailwise.sampling.power:PowerSampler",
        "policy": "tailwise.sampling.balance_policy:BalancePolicySampler",
        "progressive": "tailwise.sampling.progressive:ProgressiveSampler",
        "frequent": "tailwise.sampling.frequent:FrequentSubsampler",
        "performance": "tailwise.sampling.performance:PerformanceSampler",
        "mixed": "tailwise.sampling.mixed:MixedSampler",
        "m-per-class": "tailwise.sampling.m_per_class:MPerClassSampler",
    },
    given=("labels", "num_classes"),
)
"""Samplers over one label per row."""

MULTILABEL_SAMPLERS: Registry[type[LabelMatrixSampler]] = Registry(
    "multi-label sampler",
    "tailwise.sampling.multilabel_base:LabelMatrixSampler",
    {
        "lp-ros": "tailwise.sampling.label_powerset:LabelPowersetOverSampler",
        "lp-rus": "tailwise.sampling.label_powerset:LabelPowersetUnderSampler",
        "ml-ros": "tailwise.sampling.multilabel_random:MultiLabelRandomOverSampler",
        "ml-rus": "tailwise.sampling.multilabel_random:MultiLabelRandomUnderSampler",
        "ml-cas": "tailwise.sampling.class_aware_multilabel:ClassAwareMultiLabelSampler",
        "rfs": "tailwise.sampling.repeat_factor:RepeatFactorSampler",
        "label-balanced": "tailwise.sampling.label_balanced:LabelBalancedSampler",
    },
    given=("labels", "num_classes"),
)
"""Samplers over several labels per row."""

SENTENCE_SAMPLERS: Registry[type[SentenceFactorSampler]] = Registry(
    "sentence sampler",
    "tailwise.sampling.sequence_rarity:SentenceFactorSampler",
    {
        "sentence-rarity": "tailwise.sampling.sequence_rarity:SentenceRaritySampler",
        "sentence-rfs": "tailwise.sampling.sequence_factors:SentenceRepeatFactorSampler",
        "catch-all-sentences": "tailwise.sampling.sequence_rarity:CatchAllSentenceSampler",
    },
    given=("sequences", "offsets", "num_classes"),
)
"""Samplers over sentences with a tag per token."""
