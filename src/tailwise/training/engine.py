"""What the two engines have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailwise.data.corpus import Corpus
    from tailwise.models.encoder import Encoder
    from tailwise.models.fitted import FittedModel
    from tailwise.stages.recipe import Recipe

__all__ = ["Engine", "Job", "Progress"]


class Progress(Protocol):
    """How an engine tells how far it is: `done` of `total` units of the work called `what`."""

    def __call__(self, what: str, done: int, total: int) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Job:
    """One model to fit."""

    recipe: Recipe
    seed: int


class Engine(Protocol):
    """Runs recipes.

    Attributes:
        name: what results are filed under.
        batched: many models cost less in one call than one by one.
    """

    name: str
    batched: bool

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every setting that changes a result, as plain data; part of a cell's key."""

    def search_space(self, recipe: Recipe, corpus: Corpus) -> Mapping[str, Sequence[Any]]:
        """Values that tuning tries beside those of the method, by path; the default comes first.

        A path is ``features``, or ``optimisation.`` and a field of `Optimisation`. What the recipe sets is left out. No
        values take a path of the method out of the search, because it changes nothing here.
        """

    def fit(
        self, recipe: Recipe, corpus: Corpus, encoder: Encoder, seed: int, progress: Progress | None = None
    ) -> FittedModel:
        """Train one model and fit its post-hoc steps on validation."""

    def fit_many(
        self, jobs: Sequence[Job], corpus: Corpus, encoder: Encoder, progress: Progress | None = None
    ) -> list[FittedModel]:
        """Train several models; the result of a job does not depend on the others, to the bit."""
