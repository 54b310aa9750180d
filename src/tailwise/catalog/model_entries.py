"""The methods that change the model, as data (survey section 3.5)."""

from __future__ import annotations

from tailwise.catalog.method import Fragment, Method
from tailwise.catalog.settings import MULTILABEL
from tailwise.stages.recipe import Component

__all__ = ["MODEL_METHODS"]

MODEL_METHODS = (
    Method(
        name="caml",
        title="Label-wise attention: every label weighs the tokens of a text in its own way",
        family="model",
        section="3.5",
        citation="Mullenbach et al., Explainable Prediction of Medical Codes from Clinical Text, NAACL 2018",
        tier="T2",
        settings={**MULTILABEL, "multilabel": "applied"},
        fragment=Fragment(head=Component("label-attention")),
        space={"head.dropout": (0.2, 0.0, 0.5)},
        notes=(
            "Attends to token states of the frozen encoder; its cost grows with labels times tokens. Joins any loss: "
            "caml+db."
        ),
        engines=("probe",),
    ),
)
