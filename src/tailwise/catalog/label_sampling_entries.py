"""The methods that re-sample rows with several labels, as data (survey section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailwise.catalog.method import Fragment, Method
from tailwise.catalog.settings import MULTILABEL
from tailwise.stages.recipe import Component

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LABEL_SAMPLING_METHODS"]

_CHARTE = (
    "Charte et al., Addressing Imbalance in Multilabel Classification: Measures and Random Resampling Algorithms, "
)
_COMPANIONS = "A row brings all its labels along; `before_after` of the sampler shows what happens to each of them."


def _sampling(name: str, title: str, citation: str, space: Mapping[str, tuple[Any, ...]] | None = None) -> Method:
    return Method(
        name=name,
        title=title,
        family="sampling",
        section="3.1",
        citation=citation,
        tier="T2",
        settings=MULTILABEL,
        fragment=Fragment(sampler=Component(name, {path.partition(".")[2]: v[0] for path, v in (space or {}).items()})),
        space=space or {},
        notes=_COMPANIONS,
    )


_SHARE = {"sampler.share": (0.25, 0.1)}

LABEL_SAMPLING_METHODS = (
    _sampling("lp-ros", "Random over-sampling of rare label sets", _CHARTE + "Neurocomputing 163, 2015", _SHARE),
    _sampling("lp-rus", "Random under-sampling of frequent label sets", _CHARTE + "Neurocomputing 163, 2015", _SHARE),
    _sampling("ml-ros", "Random over-sampling of rows with rare labels", _CHARTE + "Neurocomputing 163, 2015", _SHARE),
    _sampling(
        "ml-rus",
        "Random under-sampling of rows with frequent labels alone",
        _CHARTE + "Neurocomputing 163, 2015",
        _SHARE,
    ),
    _sampling(
        "ml-cas",
        "Class-aware sampling over labels: a label at random, then one of its rows",
        "Shen et al., Relay Backpropagation, ECCV 2016; Wu et al., Distribution-Balanced Loss, ECCV 2020",
    ),
    _sampling(
        "rfs",
        "Repeat-factor sampling: rows repeated by their rarest label",
        "Gupta et al., LVIS: A Dataset for Large Vocabulary Instance Segmentation, CVPR 2019",
        {"sampler.threshold": (1e-3, 1e-2)},
    ),
    _sampling(
        "label-balanced",
        "Rows drawn with probabilities that bring all labels to the same expected frequency",
        "tailwise; iterative proportional fitting as in Byrne, IEEE Transactions on Image Processing 2, 1993",
    ),
)
