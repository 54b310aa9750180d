"""The methods that sample by the course of training, as data (survey section 3.1)."""

from __future__ import annotations

from tailwise.catalog.method import Fragment, Method
from tailwise.catalog.settings import SAMPLING, SENTENCES
from tailwise.stages.recipe import Component

__all__ = ["SAMPLING_METHODS"]

_TOKENS = "A probe, whose rows are tokens, draws every token as often as its sentence."
_HELD_OUT = "Holds a tenth of the training rows of every class out of the draw to score the classes on."

SAMPLING_METHODS = (
    Method(
        name="dynamic-sampling",
        title="Classes drawn by one minus their F1 in the epoch before",
        family="sampling",
        section="3.1",
        citation="Pouyanfar et al., Dynamic Sampling in Convolutional Neural Networks for Imbalanced Data "
        "Classification, IEEE MIPR 2018",
        tier="T2",
        settings=SAMPLING,
        fragment=Fragment(sampler=Component("performance", {"base": "uniform", "floor": 0.0, "momentum": 0.0})),
        space={"sampler.floor": (0.0, 0.05, 0.2)},
        notes=_HELD_OUT + " The paper scores on validation and makes an epoch as long as the average class.",
    ),
    Method(
        name="feedback-loop",
        title="Feedback loop: class sizes tilted towards the classes that score worst, averaged over the epochs",
        family="sampling",
        section="3.1",
        citation="Akhbardeh et al., Handling Extreme Class Imbalance in Technical Logbook Datasets, ACL-IJCNLP 2021",
        tier="T2",
        settings={**SAMPLING, "multiclass": "applied"},
        fragment=Fragment(sampler=Component("performance", {"base": "natural", "temperature": 1.0})),
        space={"sampler.base": ("natural", "uniform"), "sampler.temperature": (1.0, 0.5, 2.0)},
        notes=_HELD_OUT,
    ),
    Method(
        name="progressive-sampling",
        title="Progressively balanced sampling: natural at the beginning, class-balanced at the end",
        family="sampling",
        section="3.1",
        citation="Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020",
        tier="T2",
        settings=SAMPLING,
        fragment=Fragment(sampler=Component("progressive", {"stepwise": True})),
        notes="The share of balanced draws grows within the epochs too, since fine-tuning has few of them.",
    ),
    Method(
        name="sentence-rarity",
        title="Sentences with many and rare entities drawn more often",
        family="sampling",
        section="3.1",
        citation="Wang and Wang, Sentence-Level Resampling for Named Entity Recognition, NAACL 2022",
        tier="T2",
        settings=SENTENCES,
        fragment=Fragment(sampler=Component("sentence-rarity", {"form": "sCR"})),
        space={"sampler.form": ("sCR", "nsCRD", "sCRD", "sC")},
        notes=_TOKENS,
    ),
    Method(
        name="sentence-rfs",
        title="Repeat-factor sampling of sentences by their rarest entity type",
        family="sampling",
        section="3.1",
        citation="Gupta et al., LVIS: A Dataset for Large Vocabulary Instance Segmentation, CVPR 2019",
        tier="T2",
        settings=SENTENCES,
        fragment=Fragment(sampler=Component("sentence-rfs", {"power": 0.5})),
        space={"sampler.power": (0.5, 1.0)},
        notes="By default three types in ten lie below the threshold. " + _TOKENS,
    ),
    Method(
        name="catch-all-sentences",
        title="Sentences without an entity discarded at random, anew in every epoch",
        family="sampling",
        section="3.1",
        citation="Mikolov et al., Distributed Representations of Words and Phrases, NeurIPS 2013",
        tier="T2",
        settings=SENTENCES,
        fragment=Fragment(sampler=Component("catch-all-sentences", {"threshold": 0.25})),
        space={"sampler.threshold": (0.25, 0.1, 0.5)},
        notes="The formula for frequent words, applied to sentences without an entity. " + _TOKENS,
    ),
)
