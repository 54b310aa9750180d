"""Classification heads."""

from tailwise.models.heads.base import AffineForm, Head, RowHead
from tailwise.registry import Registry

__all__ = ["HEADS", "AffineForm", "Head", "RowHead"]

HEADS: Registry[type[Head]] = Registry(
    "head",
    "tailwise.models.heads.base:Head",
    {
        "linear": "tailwise.models.heads.linear:LinearHead",
        "cosine": "tailwise.models.heads.cosine:CosineHead",
        "linear-svm": "tailwise.models.heads.linear_svm:LinearSVMHead",
        "class-means": "tailwise.models.heads.class_means:ClassMeansHead",
        "crf": "tailwise.models.crf:CRF",
        "label-attention": "tailwise.models.label_attention:LabelAttention",
    },
    given=("num_features", "num_classes"),
)
