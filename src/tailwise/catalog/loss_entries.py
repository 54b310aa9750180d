"""The methods that are losses, as data (survey section 3.3 and later work)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailwise.catalog.method import Fragment, Method
from tailwise.catalog.settings import ANYWHERE, LABEL_PER_ROW, MULTILABEL
from tailwise.stages.recipe import Component

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailwise.catalog.method import Setting, State

__all__ = ["LDAM_FRAGMENT", "LOSS_METHODS"]

_CAO = "Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019"
_LI = "Li et al., Dice Loss for Data-imbalanced NLP Tasks, ACL 2020"
_LIN = "Lin et al., Cost-sensitive Regularization for Label Confusion-aware Event Detection, ACL 2019"
_HUANG = "Huang et al., Balancing Methods for Multi-label Text Classification, EMNLP 2021"
_SUBRAMANIAN = "Subramanian et al., Fairness-aware Class Imbalanced Learning, EMNLP 2021"
_ALONE = "Made for use through `tailwise.losses`: "
_NO_GROUPS = _ALONE + "a corpus has no groups; `ImbalanceTrainer` reads them from a column `group`."

#: the ablations of Huang et al.; `tailwise.losses.distribution_balanced.DB_VARIANTS` says the same
_CLASS_BALANCED: dict[str, Any] = {"reweighting": "effective_number", "beta": 0.9, "loss_weight": 10.0}
_TOLERANT: dict[str, Any] = {"logit_bias": 0.05, "negative_scale": 2.0}
_NOT_TOLERANT: dict[str, Any] = {"logit_bias": 0.0, "negative_scale": 1.0}
_REBALANCED: dict[str, Any] = {"reweighting": "rebalance"}
_ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "r-fl": ("re-balanced focal", {**_REBALANCED, **_NOT_TOLERANT}),
    "ntr-fl": ("negative-tolerant focal", {"reweighting": None, **_TOLERANT}),
    "db-0fl": (
        "re-balanced and negative-tolerant, without focus",
        {**_REBALANCED, **_TOLERANT, "focus": 0.0, "alpha": None, "loss_weight": 0.5},
    ),
    "cb-fl": ("class-balanced focal", {**_CLASS_BALANCED, **_NOT_TOLERANT}),
    "cb-ntr": ("class-balanced and negative-tolerant focal", {**_CLASS_BALANCED, **_TOLERANT}),
    "db": ("re-balanced and negative-tolerant focal", {**_REBALANCED, **_TOLERANT}),
}

LDAM_FRAGMENT = Fragment(loss=Component("ldam"), head=Component("cosine"))


def _loss(
    name: str,
    title: str,
    citation: str,
    *,
    component: Component | None = None,
    settings: Mapping[Setting, State] = LABEL_PER_ROW,
    section: str = "3.3",
    space: Mapping[str, tuple[Any, ...]] | None = None,
    notes: str = "",
    engines: tuple[str, ...] = ("probe", "finetune"),
) -> Method:
    """A method that sets the loss and nothing else."""
    return Method(
        name=name,
        title=title,
        family="loss",
        section=section,
        citation=citation,
        tier="T2",
        settings=settings,
        fragment=Fragment(loss=component or Component(name)),
        space=space or {},
        notes=notes,
        engines=engines,
    )


_SINGLE_LABEL = (
    Method(
        name="wce",
        title="Weighted cross-entropy: a weight per class from the training counts",
        family="loss",
        section="3.3",
        citation="Adel et al., EACL 2017; Tayyar Madabushi et al., NLP4IF 2019; Cui et al., CVPR 2019",
        tier="T2",
        settings={**LABEL_PER_ROW, "binary": "applied", "multiclass": "applied"},
        fragment=Fragment(loss=Component("wce", {"class_weights": "inverse"})),
        space={"loss.class_weights": ("inverse", "inverse_sqrt", "effective_number")},
        notes="Up-weighting is absorbed late in training on separable data; defer it (drw) or stop early.",
    ),
    Method(
        name="focal",
        title="Focal loss: easy examples weigh less",
        family="loss",
        section="3.3",
        citation="Lin et al., Focal Loss for Dense Object Detection, ICCV 2017",
        tier="T2",
        settings={**ANYWHERE, "multiclass": "applied"},
        fragment=Fragment(loss=Component("focal", {"focus": 2.0})),
        space={"loss.focus": (2.0, 0.5, 1.0, 3.0)},
        notes="Not aware of classes by itself; lowers confidence.",
    ),
    _loss(
        "focal-sigmoid",
        "Focal loss over one sigmoid per class, weighted by the class of the row",
        "Lin et al., ICCV 2017; Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019",
        component=Component("focal-sigmoid", {"focus": 2.0}),
        space={"loss.focus": (2.0, 1.0, 0.5)},
    ),
    _loss(
        "dice",
        "Dice loss: the overlap of probabilities and targets, row by row",
        _LI,
        space={"loss.smooth": (1.0, 0.01, 1e-4)},
        settings={**ANYWHERE, "multiclass": "applied", "sequence": "applied"},
        notes="Confidently wrong rows get next to no gradient; see ce-dice.",
    ),
    _loss(
        "ce-dice",
        "Cross-entropy plus dice loss",
        _LI,
        component=Component("weighted-sum", {"losses": ["ce", "dice"], "weights": [1.0, 0.5]}),
        space={"loss.weights": ([1.0, 0.5], [1.0, 1.0], [0.5, 1.0])},
    ),
    _loss(
        "batch-dice",
        "Soft macro-F1: one minus the dice coefficient of every class over the batch",
        "Milletari et al., V-Net, 3DV 2016; " + _LI,
        space={"loss.smooth": (1.0, 0.1)},
        notes="Not additive over rows: no gradient accumulation. Needs large batches.",
    ),
    _loss(
        "tversky",
        "Tversky loss: dice with a price of its own for false positives and false negatives",
        "Salehi et al., MLMI 2017; " + _LI,
        space={"loss.false_negative_weight": (0.7, 0.5, 0.6)},
        notes="Not additive over rows: no gradient accumulation. Needs large batches.",
    ),
    _loss(
        "adl",
        "Self-adjusting dice loss: dice in which easy rows weigh less",
        _LI,
        settings={**ANYWHERE, "multiclass": "applied", "sequence": "applied"},
        space={"loss.focus": (0.01, 0.5, 1.0)},
        notes="As printed (focus 1) the minimum lies at p = 0.5; here the factor is then kept out of the gradient.",
    ),
    Method(
        name="ldam",
        title="Label-distribution-aware margins on a cosine head: rarer classes get larger margins",
        family="loss",
        section="3.3",
        citation=_CAO,
        tier="T2",
        settings={**LABEL_PER_ROW, "binary": "applied", "multilabel": "applied"},
        fragment=LDAM_FRAGMENT,
        space={"loss.max_margin": (0.5, 0.3, 0.8)},
    ),
    Method(
        name="balanced-softmax",
        title="Balanced softmax: training corrects the logits by the class prior",
        family="loss",
        section="3.3 (later work)",
        citation="Ren et al., Balanced Meta-Softmax, NeurIPS 2020; Menon et al., ICLR 2021 (logit-adjusted loss)",
        tier="T2",
        settings=LABEL_PER_ROW,
        fragment=Fragment(loss=Component("balanced-softmax", {"strength": 1.0})),
        space={"loss.strength": (1.0, 0.5, 1.5)},
    ),
    _loss(
        "logit-adjusted",
        "Logit-adjusted loss: training adds the log prior to the logits, tau times",
        "Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021",
        component=Component("logit-adjusted", {"strength": 1.0}),
        section="3.3 (later work)",
        space={"loss.strength": (1.0, 0.5, 1.5, 2.0, 2.5)},
        notes="At tau (`strength`) 1 the same as balanced-softmax; here tau is tuned up to 2.5. Post hoc: "
        "logit-adjustment.",
    ),
    _loss(
        "vs",
        "Vector scaling: logits shifted by the log prior and scaled by class size",
        "Kini et al., Label-Imbalanced and Group-Sensitive Classification under Overparameterization, NeurIPS 2021",
        section="3.3 (later work)",
        space={"loss.scaling_power": (0.3, 0.1, 0.2), "loss.strength": (1.0, 0.5)},
    ),
    _loss(
        "influence-balanced",
        "Influence-balanced loss: rows that pull hardest on the boundary weigh less",
        "Park et al., Influence-Balanced Loss for Imbalanced Visual Classification, ICCV 2021",
        section="3.3 (later work)",
        notes="The authors train with cross-entropy first.",
    ),
    _loss(
        "influence-balanced-rescaled",
        "Influence-balanced loss with factors of mean 1 in a batch, whatever the norm of the features",
        "After Park et al., Influence-Balanced Loss for Imbalanced Visual Classification, ICCV 2021; the scale is ours",
        section="3.3 (later work)",
        space={"loss.focus": (0.0, 1.0)},
        notes="Has no alpha to fit to the encoder. Not additive over rows: no gradient accumulation.",
    ),
    _loss(
        "poly-1",
        "Poly-1: cross-entropy plus a share of its first polynomial term",
        "Leng et al., PolyLoss, ICLR 2022",
        section="3.3 (later work)",
        space={"loss.epsilon": (1.0, 2.0, -0.5)},
        notes="Not aware of classes by itself.",
    ),
    _loss(
        "ranking",
        "Ranking loss: the right class above a margin, the best wrong one below; the catch-all class has no score",
        "dos Santos et al., Classifying Relations by Ranking with CNNs, ACL 2015; Adel et al., EACL 2017",
        settings={**LABEL_PER_ROW, "multiclass": "applied", "relation": "applied", "sequence": "applicable"},
        space={"loss.positive_margin": (2.5, 1.0)},
        notes="Scores are not calibrated.",
    ),
    _loss(
        "catch-all-wce",
        "Class weights among the classes other than the catch-all, which keeps its own",
        "Hu et al., 2022 (event detection; weights as in tailwise.losses.catch_all)",
        settings={**LABEL_PER_ROW, "multiclass": "applied"},
        space={"loss.catch_all_weight": (1.0, 0.5)},
        notes="Needs a catch-all class.",
    ),
    _loss(
        "mom",
        "Majority or minority: cross-entropy plus cross-entropy on the catch-all rows once more",
        "Nemoto et al., arXiv 2401.11431",
        section="3.3 (later work)",
        space={"loss.strength": (1.0, 0.5)},
        notes="Needs a catch-all class.",
    ),
    _loss(
        "csr",
        "Confusion-aware cost: probability given to wrong classes costs what it is worth to confuse them",
        _LIN,
        component=Component("confusion-aware", {"reg_weight": 1.0}),
        settings={**LABEL_PER_ROW, "multiclass": "applied"},
        space={"loss.reg_weight": (1.0, 0.5, 2.0)},
    ),
    _loss(
        "csr-wce",
        "Confusion-aware cost with class weights: confusable and rare",
        _LIN + "; Henning et al., EACL 2023, section 3.3 (combination)",
        component=Component("confusion-aware", {"class_weights": "inverse_sqrt", "reg_weight": 1.0}),
        space={"loss.class_weights": ("inverse_sqrt", "inverse")},
    ),
    _loss(
        "csr-f1",
        "Confusion-aware cost in which the catch-all rows weigh as much as F1 gives them",
        _LIN + "; Lin et al., Adaptive Scaling for Sparse Detection in Information Extraction, ACL 2018",
        component=Component("confusion-aware-f1", {"reg_weight": 1.0}),
        settings={**LABEL_PER_ROW, "multiclass": "applied"},
        space={"loss.reg_weight": (1.0, 0.5, 2.0)},
        notes="Needs a catch-all class. Not additive over rows: no gradient accumulation.",
    ),
    _loss(
        "asl-single",
        "Asymmetric loss over a softmax: easy negatives weigh less than easy positives",
        "Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021 (single-label form of the code)",
        section="3.3 (later work)",
        space={"loss.negative_focus": (4.0, 2.0)},
    ),
    _loss(
        "class-dro",
        "Class-wise group DRO: the classes with the highest loss weigh most",
        "Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, ICLR 2020",
        section="4",
        space={"loss.step_size": (0.01, 0.1)},
        notes="Not additive over rows: no gradient accumulation.",
    ),
    _loss(
        "term",
        "Tilted empirical risk: the rows, or classes, with the highest loss weigh most",
        "Li et al., Tilted Empirical Risk Minimization, ICLR 2021",
        section="4 (later work)",
        space={"loss.tilt": (1.0, 5.0), "loss.by_class": (False, True)},
        notes="Not additive over rows: no gradient accumulation.",
    ),
    _loss(
        "supcon",
        "Cross-entropy plus supervised contrastive loss",
        "Khosla et al., Supervised Contrastive Learning, NeurIPS 2020",
        component=Component(
            "weighted-sum", {"losses": ["ce", {"name": "supcon", "temperature": 0.3}], "weights": [0.5, 0.5]}
        ),
        space={"loss.weights": ([0.5, 0.5], [0.9, 0.1])},
        notes="Shapes the encoder; batches should hold several rows of a class.",
        engines=("finetune",),
    ),
    _loss(
        "lcl",
        "Cross-entropy plus label-aware contrastive loss: confusable negatives push harder",
        "Suresh and Ong, Not All Negatives are Equal, EMNLP 2021",
        component=Component("weighted-sum", {"losses": ["ce", "lcl"], "weights": [0.5, 0.5]}),
        settings={**LABEL_PER_ROW, "multiclass": "applied"},
        space={"loss.weights": ([0.5, 0.5], [0.9, 0.1])},
        notes="The classifier itself is the weighting network; the authors train a second encoder for it.",
        engines=("finetune",),
    ),
    _loss(
        "group-dro",
        "Group DRO: the groups with the highest loss weigh most",
        "Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, ICLR 2020",
        section="4",
        notes=_NO_GROUPS,
        engines=(),
    ),
    Method(
        name="fair-ldam",
        title="LDAM with margins for classes and groups",
        family="loss",
        section="3.3",
        citation=_SUBRAMANIAN,
        tier="T2",
        settings={**LABEL_PER_ROW, "binary": "applied", "multiclass": "applied"},
        fragment=Fragment(loss=Component("group-ldam"), head=Component("cosine")),
        notes=_NO_GROUPS,
        engines=(),
    ),
    _loss(
        "fair-ce",
        "Cross-entropy plus a penalty on how differently the groups of a class are recognised",
        _SUBRAMANIAN,
        component=Component("weighted-sum", {"losses": ["ce", "fairness-regulariser"], "weights": [1.0, 1.0]}),
        settings={**LABEL_PER_ROW, "binary": "applied", "multiclass": "applied"},
        space={"loss.weights": ([1.0, 1.0], [1.0, 0.3], [1.0, 3.0])},
        notes=_NO_GROUPS + " Not additive over rows: no gradient accumulation.",
        engines=(),
    ),
)


def _multilabel(
    name: str, title: str, citation: str, component: Component | None = None, section: str = "3.3", **params: Any
) -> Method:
    """A loss over several labels per row."""
    return _loss(
        name,
        title,
        citation,
        component=component,
        settings={**MULTILABEL, "multilabel": "applied"},
        section=section,
        **params,
    )


_MULTI_LABEL = (
    _multilabel(
        "bce", "Binary cross-entropy, the plain baseline of several labels per row", "Standard maximum likelihood"
    ),
    _multilabel(
        "wbce",
        "Binary cross-entropy weighted per label, negatives included",
        "Yang et al., HSCNN, EMNLP 2020",
        space={"loss.class_weights": ("inverse_sqrt", "inverse")},
        component=Component("wbce", {"class_weights": "inverse_sqrt"}),
    ),
    _multilabel(
        "pos-weight",
        "Binary cross-entropy with weights on positives alone",
        "Kumar et al., Boosted Cascaded Convnets, ICIAR 2018",
        component=Component("pos-bce", {"power": 0.5}),
        space={"loss.power": (0.5, 0.25, 1.0)},
    ),
    _multilabel(
        "uniform-pos-weight",
        "Binary cross-entropy with one weight on the positives of all labels",
        "Rathnayaka et al., Gated Recurrent Neural Network Approach for Multilabel Emotion Detection, 2019",
        component=Component("pos-bce", {"positive_weights": 2.0}),
        space={"loss.positive_weights": (2.0, 5.0, 10.0)},
        notes="Not aware of classes by itself; moves all decisions towards more labels.",
    ),
    _multilabel(
        "ml-focal",
        "Focal loss over several labels per row",
        "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017",
        component=Component("ml-focal", {"focus": 2.0}),
        space={"loss.focus": (2.0, 1.0)},
    ),
    _multilabel(
        "batch-balanced-focal",
        "Focal loss in which every label contributes the same in a batch",
        "Yilmaz et al., Multi-Label Sentiment Analysis on 100 Languages, TNNLS 2021",
    ),
    *(
        _multilabel(
            name,
            f"Distribution-balanced loss: {what}",
            _HUANG if name != "db" else "Wu et al., Distribution-Balanced Loss, ECCV 2020; " + _HUANG,
            component=Component("db", params),
        )
        for name, (what, params) in _ABLATIONS.items()
    ),
    _multilabel(
        "ml-ldam",
        "LDAM margins on the positives of every label",
        "Biswas et al., TransICD, AIME 2021",
    ),
    _multilabel(
        "asl",
        "Asymmetric loss: easy negatives weigh less, the easiest nothing",
        "Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021",
        section="3.3 (later work)",
        space={"loss.negative_focus": (4.0, 2.0)},
    ),
    _multilabel(
        "bp-mll",
        "Cross-label dependency: every positive above every negative, in exponential loss",
        "Zhang and Zhou, TKDE 2006; Ferreira and Vlachos, EMNLP 2019",
    ),
    _multilabel(
        "lsep",
        "Log-sum-exp pairwise: every positive above every negative",
        "Li et al., CVPR 2017",
        section="3.3 (later work)",
    ),
    _multilabel(
        "zlpr",
        "Positives above zero, negatives below, as one softmax each",
        "Su et al., arXiv 2208.02955",
        section="3.3 (later work)",
    ),
    _multilabel(
        "two-way",
        "Softmax over labels within a row and over rows within a label",
        "Kobayashi, Two-way Multi-Label Loss, CVPR 2023",
        section="3.3 (later work)",
    ),
    _multilabel(
        "ml-dice",
        "Dice of every label of every row",
        "Li et al., Dice Loss for Data-imbalanced NLP Tasks, ACL 2020",
    ),
    _multilabel(
        "ml-batch-dice",
        "Dice of every label over the batch: soft macro-F1",
        "Milletari et al., V-Net, 3DV 2016",
    ),
)

LOSS_METHODS = (*_SINGLE_LABEL, *_MULTI_LABEL)
