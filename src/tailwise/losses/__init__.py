"""Losses: usable alone in anybody's training loop (survey section 3.3)."""

from tailwise.losses.asymmetric import AsymmetricLoss, AsymmetricSoftmaxLoss
from tailwise.losses.balanced_softmax import BalancedSoftmaxLoss
from tailwise.losses.base import Loss
from tailwise.losses.batch_balanced_focal import BatchBalancedFocalLoss
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.binary_cross_entropy import (
    BinaryCrossEntropyLoss,
    PositiveWeightedBinaryCrossEntropyLoss,
    WeightedBinaryCrossEntropyLoss,
)
from tailwise.losses.bpmll import BPMLLLoss
from tailwise.losses.catch_all import CatchAllWeightedCrossEntropyLoss, MajorityOrMinorityLoss
from tailwise.losses.class_weights import class_weights
from tailwise.losses.confusion_aware import BalancedConfusionAwareLoss, ConfusionAwareLoss
from tailwise.losses.cross_entropy import CrossEntropyLoss, WeightedCrossEntropyLoss
from tailwise.losses.dice import BatchDiceLoss, DiceLoss
from tailwise.losses.dice_multilabel import MultiLabelBatchDiceLoss, MultiLabelDiceLoss
from tailwise.losses.distribution_balanced import DistributionBalancedLoss
from tailwise.losses.fairness import FairnessRegulariser
from tailwise.losses.focal import FocalLoss
from tailwise.losses.focal_multilabel import MultiLabelFocalLoss
from tailwise.losses.focal_sigmoid import SigmoidFocalLoss
from tailwise.losses.group_dro import ClassDROLoss, GroupDROLoss
from tailwise.losses.group_ldam import GroupLDAMLoss
from tailwise.losses.influence_balanced import InfluenceBalancedLoss, RescaledInfluenceBalancedLoss
from tailwise.losses.label_aware_contrastive import LabelAwareContrastiveLoss
from tailwise.losses.ldam import LDAMLoss
from tailwise.losses.ldam_multilabel import MultiLabelLDAMLoss
from tailwise.losses.lsep import LSEPLoss
from tailwise.losses.multilabel import LabelwiseLoss, MultiLabelLoss, RowwiseLoss
from tailwise.losses.poly import PolyLoss
from tailwise.losses.ranking import RankingLoss
from tailwise.losses.self_adjusting_dice import SelfAdjustingDiceLoss
from tailwise.losses.supervised_contrastive import SupervisedContrastiveLoss
from tailwise.losses.tilted import TiltedLoss
from tailwise.losses.tversky import TverskyLoss
from tailwise.losses.two_way import TwoWayLoss
from tailwise.losses.vector_scaling import VectorScalingLoss
from tailwise.losses.weighted_sum import WeightedSumLoss
from tailwise.losses.zlpr import ZLPRLoss
from tailwise.registry import Registry

__all__ = [
    "LOSSES",
    "SINGLE_LABEL_COUNTERPARTS",
    "AsymmetricLoss",
    "AsymmetricSoftmaxLoss",
    "BPMLLLoss",
    "BalancedConfusionAwareLoss",
    "BalancedSoftmaxLoss",
    "BatchBalancedFocalLoss",
    "BatchDiceLoss",
    "BatchLoss",
    "BinaryCrossEntropyLoss",
    "CatchAllWeightedCrossEntropyLoss",
    "ClassDROLoss",
    "ConfusionAwareLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "DistributionBalancedLoss",
    "FairnessRegulariser",
    "FocalLoss",
    "GroupDROLoss",
    "GroupLDAMLoss",
    "InfluenceBalancedLoss",
    "LDAMLoss",
    "LSEPLoss",
    "LabelAwareContrastiveLoss",
    "LabelwiseLoss",
    "Loss",
    "MajorityOrMinorityLoss",
    "MultiLabelBatchDiceLoss",
    "MultiLabelDiceLoss",
    "MultiLabelFocalLoss",
    "MultiLabelLDAMLoss",
    "MultiLabelLoss",
    "PolyLoss",
    "PositiveWeightedBinaryCrossEntropyLoss",
    "RankingLoss",
    "RescaledInfluenceBalancedLoss",
    "RowwiseLoss",
    "SelfAdjustingDiceLoss",
    "SigmoidFocalLoss",
    "SupervisedContrastiveLoss",
    "TiltedLoss",
    "TverskyLoss",
    "TwoWayLoss",
    "VectorScalingLoss",
    "WeightedBinaryCrossEntropyLoss",
    "WeightedCrossEntropyLoss",
    "WeightedSumLoss",
    "ZLPRLoss",
    "class_weights",
]

#: what to take for one label per row in place of a loss over several; ``ce`` where nothing is nearer
SINGLE_LABEL_COUNTERPARTS = {
    "bce": "ce",
    "wbce": "wce",
    "pos-bce": "wce",
    "ml-focal": "focal",
    "batch-balanced-focal": "class-dro",
    "db": "balanced-softmax",
    "ml-ldam": "ldam",
    "asl": "asl-single",
    "zlpr": "ce",
    "bp-mll": "ranking",
    "lsep": "ranking",
    "two-way": "ce",
    "ml-dice": "dice",
    "ml-batch-dice": "batch-dice",
}

LOSSES: Registry[type[Loss]] = Registry(
    "loss",
    "tailwise.losses.base:Loss",
    {
        "ce": "tailwise.losses.cross_entropy:CrossEntropyLoss",
        "wce": "tailwise.losses.cross_entropy:WeightedCrossEntropyLoss",
        "focal": "tailwise.losses.focal:FocalLoss",
        "focal-sigmoid": "tailwise.losses.focal_sigmoid:SigmoidFocalLoss",
        "dice": "tailwise.losses.dice:DiceLoss",
        "batch-dice": "tailwise.losses.dice:BatchDiceLoss",
        "tversky": "tailwise.losses.tversky:TverskyLoss",
        "adl": "tailwise.losses.self_adjusting_dice:SelfAdjustingDiceLoss",
        "ldam": "tailwise.losses.ldam:LDAMLoss",
        "group-ldam": "tailwise.losses.group_ldam:GroupLDAMLoss",
        "fairness-regulariser": "tailwise.losses.fairness:FairnessRegulariser",
        "balanced-softmax": "tailwise.losses.balanced_softmax:BalancedSoftmaxLoss",
        "logit-adjusted": "tailwise.losses.balanced_softmax:BalancedSoftmaxLoss",
        "vs": "tailwise.losses.vector_scaling:VectorScalingLoss",
        "influence-balanced": "tailwise.losses.influence_balanced:InfluenceBalancedLoss",
        "influence-balanced-rescaled": "tailwise.losses.influence_balanced:RescaledInfluenceBalancedLoss",
        "poly-1": "tailwise.losses.poly:PolyLoss",
        "ranking": "tailwise.losses.ranking:RankingLoss",
        "catch-all-wce": "tailwise.losses.catch_all:CatchAllWeightedCrossEntropyLoss",
        "mom": "tailwise.losses.catch_all:MajorityOrMinorityLoss",
        "confusion-aware": "tailwise.losses.confusion_aware:ConfusionAwareLoss",
        "confusion-aware-f1": "tailwise.losses.confusion_aware:BalancedConfusionAwareLoss",
        "asl-single": "tailwise.losses.asymmetric:AsymmetricSoftmaxLoss",
        "supcon": "tailwise.losses.supervised_contrastive:SupervisedContrastiveLoss",
        "lcl": "tailwise.losses.label_aware_contrastive:LabelAwareContrastiveLoss",
        "class-dro": "tailwise.losses.group_dro:ClassDROLoss",
        "group-dro": "tailwise.losses.group_dro:GroupDROLoss",
        "term": "tailwise.losses.tilted:TiltedLoss",
        "weighted-sum": "tailwise.losses.weighted_sum:WeightedSumLoss",
        "bce": "tailwise.losses.binary_cross_entropy:BinaryCrossEntropyLoss",
        "wbce": "tailwise.losses.binary_cross_entropy:WeightedBinaryCrossEntropyLoss",
        "pos-bce": "tailwise.losses.binary_cross_entropy:PositiveWeightedBinaryCrossEntropyLoss",
        "ml-focal": "tailwise.losses.focal_multilabel:MultiLabelFocalLoss",
        "batch-balanced-focal": "tailwise.losses.batch_balanced_focal:BatchBalancedFocalLoss",
        "db": "tailwise.losses.distribution_balanced:DistributionBalancedLoss",
        "ml-ldam": "tailwise.losses.ldam_multilabel:MultiLabelLDAMLoss",
        "asl": "tailwise.losses.asymmetric:AsymmetricLoss",
        "bp-mll": "tailwise.losses.bpmll:BPMLLLoss",
        "lsep": "tailwise.losses.lsep:LSEPLoss",
        "zlpr": "tailwise.losses.zlpr:ZLPRLoss",
        "two-way": "tailwise.losses.two_way:TwoWayLoss",
        "ml-dice": "tailwise.losses.dice_multilabel:MultiLabelDiceLoss",
        "ml-batch-dice": "tailwise.losses.dice_multilabel:MultiLabelBatchDiceLoss",
    },
)
