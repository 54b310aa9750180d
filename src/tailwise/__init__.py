"""tailwise makes rare classes learnable in deep-learning NLP.

The public face. Everything loads on first use, so that ``import tailwise`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailwise.advisor.recommend import Recommendation, recommend
    from tailwise.benchmark.compare import Comparison, compare
    from tailwise.catalog import METHODS, Method, resolve
    from tailwise.classifier import TextClassifier
    from tailwise.classifier_family import MultilabelTextClassifier, TokenClassifier
    from tailwise.data import Corpus, LabelSpace, load
    from tailwise.errors import TailwiseError
    from tailwise.evaluation.evaluation import Evaluation
    from tailwise.imbalance.diagnosis import Diagnosis, diagnose
    from tailwise.imbalance.synthesis import synthesize
    from tailwise.models.encoder import Encoder
    from tailwise.stages.recipe import Component, Recipe, Stage

_PUBLIC = {
    "METHODS": "catalog",
    "Comparison": "benchmark.compare",
    "Component": "stages.recipe",
    "Corpus": "data",
    "Diagnosis": "imbalance.diagnosis",
    "Encoder": "models.encoder",
    "Evaluation": "evaluation.evaluation",
    "LabelSpace": "data",
    "Method": "catalog",
    "MultilabelTextClassifier": "classifier_family",
    "Recipe": "stages.recipe",
    "Recommendation": "advisor.recommend",
    "Stage": "stages.recipe",
    "TailwiseError": "errors",
    "TextClassifier": "classifier",
    "TokenClassifier": "classifier_family",
    "compare": "benchmark.compare",
    "diagnose": "imbalance.diagnosis",
    "load": "data",
    "recommend": "advisor.recommend",
    "resolve": "catalog",
    "synthesize": "imbalance.synthesis",
}

__all__ = [
    "METHODS",
    "Comparison",
    "Component",
    "Corpus",
    "Diagnosis",
    "Encoder",
    "Evaluation",
    "LabelSpace",
    "Method",
    "MultilabelTextClassifier",
    "Recipe",
    "Recommendation",
    "Stage",
    "TailwiseError",
    "TextClassifier",
    "TokenClassifier",
    "__version__",
    "compare",
    "diagnose",
    "load",
    "recommend",
    "resolve",
    "synthesize",
]

try:
    __version__ = version("tailwise")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"tailwise.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'tailwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
