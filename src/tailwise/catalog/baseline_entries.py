"""Simple baselines as data: what five lines of scikit-learn reach. Every comparison holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailwise.catalog.method import Fragment, Method
from tailwise.catalog.settings import ANYWHERE, SENTENCES
from tailwise.stages.recipe import Component

if TYPE_CHECKING:
    from tailwise.data.task import Task

__all__ = ["BASELINE_METHODS", "baselines"]

BASELINE_METHODS = (
    Method(
        name="tfidf-svm",
        title="A linear support vector machine on lexical features (TF-IDF)",
        family="baseline",
        section="2.3",
        citation="Joachims, Text Categorization with Support Vector Machines, ECML 1998; Fan et al., JMLR 2008",
        tier="T1",
        settings=ANYWHERE,
        fragment=Fragment(
            head=Component("linear-svm", {"C": 0.6, "class_weight": "balanced"}), features=Component("tfidf")
        ),
        space={"head.C": (0.6, 0.2, 2.0, 0.06), "head.class_weight": ("balanced", None)},
        notes="Its scores are margins; a temperature makes probabilities of them.",
        engines=("probe",),
    ),
    Method(
        name="logistic-regression",
        title="Logistic regression on the features of the frozen encoder",
        family="baseline",
        section="2.3",
        citation="Standard maximum likelihood with L2",
        tier="T1",
        settings=ANYWHERE,
        fragment=Fragment(loss=Component("wce", {"class_weights": None}), features=Component("encoder")),
        space={"loss.class_weights": (None, "balanced")},
        engines=("probe",),
    ),
    Method(
        name="tfidf",
        title="Cross-entropy on lexical features (TF-IDF)",
        family="baseline",
        section="2.3",
        citation="Salton and Buckley, Term-Weighting Approaches in Automatic Text Retrieval, IP&M 1988",
        tier="T1",
        settings=ANYWHERE,
        fragment=Fragment(features=Component("tfidf")),
        notes="Composes: tfidf+balanced-softmax is balanced softmax on lexical features.",
        engines=("probe",),
    ),
    Method(
        name="crf",
        title="Conditional random field over words, shapes and affixes, the classical tagger",
        family="baseline",
        section="3.5",
        citation=(
            "Lafferty et al., Conditional Random Fields: Probabilistic Models for Segmenting and Labeling Sequence "
            "Data, ICML 2001"
        ),
        tier="T1",
        settings=SENTENCES,
        fragment=Fragment(head=Component("crf")),
        space={"head.c1": (0.05, 0.2), "head.c2": (0.05, 0.01)},
        notes=(
            "Reads no encoder, whatever the engine is given, and draws nothing at random: every seed gives the same "
            "model. Post-hoc steps can follow: crf+thresholds."
        ),
        engines=("probe",),
    ),
)

#: what every method has to beat
_PLAIN = ("ce", "wce", "logit-adjustment", "thresholds")


def baselines(task: Task, engine: str = "probe") -> tuple[str, ...]:
    """What takes part in every comparison on data of a task, beside what is recommended or asked for."""
    if engine != "probe" or task.label_structure == "arcs":
        return _PLAIN
    simple = ("logistic-regression",) if task.by_token else ("tfidf-svm", "logistic-regression")
    fields = ("crf",) if task.label_structure == "tags" else ()
    return (*_PLAIN, *simple, *fields)
