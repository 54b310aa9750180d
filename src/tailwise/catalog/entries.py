"""The methods, as data. Names, citations and survey sections; `settings` is the survey's Table 3.

Where Table 3 has no row for a method, its state is ``applicable`` where the method works by construction.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from tailwise.catalog.baseline_entries import BASELINE_METHODS
from tailwise.catalog.label_sampling_entries import LABEL_SAMPLING_METHODS
from tailwise.catalog.loss_entries import LDAM_FRAGMENT, LOSS_METHODS
from tailwise.catalog.method import Fragment, Method
from tailwise.catalog.model_entries import MODEL_METHODS
from tailwise.catalog.sampling_entries import SAMPLING_METHODS
from tailwise.catalog.settings import ANYWHERE, LABEL_PER_ROW, SAMPLING
from tailwise.stages.recipe import Component

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["METHODS"]

_KANG = "Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR 2020"
_CAO = "Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019"

_DRW = Component("drw")

_ENTRIES = (
    Method(
        name="ce",
        title="Cross-entropy, the plain baseline",
        family="baseline",
        section="3.3",
        citation="Standard maximum likelihood",
        tier="T2",
        settings=LABEL_PER_ROW,
        fragment=Fragment(loss=Component("ce")),
    ),
    Method(
        name="drw",
        title="Deferred re-weighting: natural training first, class weights for the last part",
        family="staged",
        section="3.4",
        citation=_CAO,
        tier="T2",
        settings=LABEL_PER_ROW,
        fragment=Fragment(schedule=_DRW),
        space={"schedule.start": (0.6, 0.5, 0.8)},
    ),
    Method(
        name="ldam-drw",
        title="LDAM with deferred re-weighting",
        family="staged",
        section="3.3, 3.4",
        citation=_CAO,
        tier="T2",
        settings={**LABEL_PER_ROW, "binary": "applied"},
        fragment=Fragment(loss=LDAM_FRAGMENT.loss, head=LDAM_FRAGMENT.head, schedule=_DRW),
        space={"loss.max_margin": (0.5, 0.3, 0.8), "schedule.start": (0.6, 0.8)},
    ),
    Method(
        name="ros",
        title="Random over-sampling: rare classes repeated up to the largest one",
        family="sampling",
        section="3.1",
        citation="Buda et al., A Systematic Study of the Class Imbalance Problem in CNNs, Neural Networks 2018",
        tier="T2",
        settings=SAMPLING,
        fragment=Fragment(sampler=Component("ros")),
    ),
    Method(
        name="rus",
        title="Random under-sampling: large classes cut down, drawn anew each epoch",
        family="sampling",
        section="3.1",
        citation="Buda et al., Neural Networks 2018; Mikolov et al., NeurIPS 2013",
        tier="T2",
        settings=SAMPLING,
        fragment=Fragment(sampler=Component("rus", {"ratio": 1.0})),
        space={"sampler.ratio": (1.0, 2.0, 5.0)},
        notes="Discards data; in deep learning over-sampling is usually better (survey 3.1).",
    ),
    Method(
        name="cas",
        title="Class-aware sampling: first a class, then an instance of it",
        family="sampling",
        section="3.1",
        citation="Shen et al., Relay Backpropagation for Effective Learning of Deep CNNs, ECCV 2016",
        tier="T2",
        settings=SAMPLING,
        fragment=Fragment(sampler=Component("cas")),
    ),
    Method(
        name="square-root-sampling",
        title="Classes drawn by the square root of their size, or another power of it",
        family="sampling",
        section="3.1",
        citation="Mahajan et al., ECCV 2018; Kang et al., ICLR 2020; Arivazhagan et al., arXiv 1907.05019",
        tier="T2",
        settings=SAMPLING,
        fragment=Fragment(sampler=Component("power", {"power": 0.5})),
        space={"sampler.power": (0.5, 0.2, 0.75)},
        notes="Between natural (power 1) and class-balanced sampling (0); a power of 1/5 is temperature 5.",
    ),
    Method(
        name="flexible-band",
        title="A band of class sizes: small classes repeated up to its lower end, large ones cut down to its upper end",
        family="sampling",
        section="3.1",
        citation="Tepper et al., Balancing via Generation for Multi-Class Text Classification, Findings of EMNLP 2020",
        tier="T2",
        settings={**SAMPLING, "multiclass": "applied"},
        fragment=Fragment(sampler=Component("policy", {"base": 0.75, "over": 0.9})),
        space={"sampler.base": (0.75, 0.5, 0.25)},
    ),
    Method(
        name="partial-balancing",
        title="The smaller half of the classes repeated up to the mean size; the rest as it is",
        family="sampling",
        section="3.1",
        citation="Tepper et al., Balancing via Generation for Multi-Class Text Classification, Findings of EMNLP 2020",
        tier="T2",
        settings={**SAMPLING, "multiclass": "applied"},
        fragment=Fragment(sampler=Component("policy", {"base": "mean", "share": 0.5})),
        space={"sampler.share": (0.5, 0.25, 0.75)},
    ),
    Method(
        name="frequent-subsampling",
        title="Frequent classes thinned out, as frequent words are in word2vec",
        family="sampling",
        section="3.1",
        citation="Mikolov et al., Distributed Representations of Words and Phrases, NeurIPS 2013",
        tier="T2",
        settings=SAMPLING,
        fragment=Fragment(sampler=Component("frequent")),
        notes="Drawn anew in each epoch, so nothing is lost for good.",
    ),
    Method(
        name="drs",
        title="Deferred re-sampling: natural training first, class-balanced batches for the last part",
        family="staged",
        section="3.1, 3.4",
        citation=_CAO,
        tier="T2",
        settings=SAMPLING,
        fragment=Fragment(schedule=Component("drs")),
        space={"schedule.start": (0.6, 0.5, 0.8)},
    ),
    Method(
        name="crt",
        title="Classifier re-training: natural representation, then a fresh head on balanced batches",
        family="staged",
        section="3.4",
        citation=_KANG,
        tier="T1",
        settings={**ANYWHERE, "multiclass": "applied"},
        fragment=Fragment(schedule=Component("crt")),
        space={"schedule.share": (0.3, 0.5)},
    ),
    Method(
        name="tau-norm",
        title="Tau-normalisation: classifier weights divided by a power of their norm",
        family="model",
        section="3.5",
        citation=_KANG,
        tier="T0",
        settings={**ANYWHERE, "multiclass": "applied"},
        fragment=Fragment(posthoc=(Component("tau-norm"),)),
        notes="The strength is tuned on validation. Without effect where the norms hardly differ.",
    ),
    Method(
        name="ncm",
        title="Nearest class mean in the space of the encoder",
        family="model",
        section="3.5",
        citation=_KANG,
        tier="T0",
        settings=LABEL_PER_ROW,
        fragment=Fragment(schedule=Component("ncm")),
        space={"schedule.transform": ("centre-l2", "l2")},
        notes="Needs no training and works from one example per class.",
    ),
    Method(
        name="logit-adjustment",
        title="Post-hoc logit adjustment: scores minus strength times the log prior",
        family="posthoc",
        section="4 (later work)",
        citation="Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021",
        tier="T0",
        settings=ANYWHERE,
        fragment=Fragment(posthoc=(Component("logit-adjustment"),)),
        notes="The strength is tuned on validation. Starts from the effective prior, so nothing is corrected twice.",
    ),
    Method(
        name="thresholds",
        title="Per-class thresholds tuned on validation",
        family="posthoc",
        section="4",
        citation="Buda et al., Neural Networks 2018; Lipton et al., Optimal Thresholding of Classifiers, ECML 2014",
        tier="T0",
        settings=ANYWHERE,
        fragment=Fragment(posthoc=(Component("thresholds"),)),
    ),
    Method(
        name="temperature",
        title="Temperature scaling: calibrated probabilities, unchanged decisions",
        family="posthoc",
        section="4",
        citation="Guo et al., On Calibration of Modern Neural Networks, ICML 2017",
        tier="T0",
        settings=ANYWHERE,
        fragment=Fragment(posthoc=(Component("temperature"),)),
    ),
)

#: every method by name
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            *_ENTRIES[:1],
            *BASELINE_METHODS,
            *LOSS_METHODS,
            *_ENTRIES[1:],
            *SAMPLING_METHODS,
            *LABEL_SAMPLING_METHODS,
            *MODEL_METHODS,
        )
    }
)
