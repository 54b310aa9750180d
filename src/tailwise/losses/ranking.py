"""Pairwise ranking loss (RL), with a catch-all class that has no score.

    y != A   l(z, y) = log(1 + exp(s (m+ - z_y))) + log(1 + exp(s (m- + z_c)))
    y == A   l(z, y) =                              log(1 + exp(s (m- + z_c)))      c = argmax_{j != y, j != A} z_j

A catch-all class (none), m+ and m- margins (2.5, 0.5), s scale (2). With top_k > 1 the second term is the mean over the
k strongest competitors. Where there is no competitor, it is dropped.

dos Santos, Xiang and Zhou, Classifying Relations by Ranking with Convolutional Neural Networks, ACL 2015, eq. 1. Survey
section 3.3. Differs from the paper in nothing with ``top_k=1``. The port in common use keeps a score of the catch-all
class as a competitor of the other classes in training and leaves it out at prediction; `catch_all_competes` is that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.losses.base import Loss
from tailwise.losses.catch_all import catch_all_index, check_catch_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tailwise.losses.base import Reduction

__all__ = ["RankingLoss", "ranking_values"]


def ranking_values(
    logits: Tensor,
    target: Tensor,
    catch_all: int | None = None,
    *,
    positive_margin: float = 2.5,
    negative_margin: float = 0.5,
    scale: float = 2.0,
    top_k: int = 1,
    catch_all_competes: bool = False,
) -> Tensor:
    """Per-row ranking loss.

    Args:
        logits: ``(M, C)``.
        target: class indices, ``(M,)``.
        catch_all: index of the catch-all class, or None.
        positive_margin: m+.
        negative_margin: m-.
        scale: s > 0.
        top_k: number of competitors, >= 1; all there are where there are fewer.
        catch_all_competes: let the score of the catch-all class compete with those of the other classes.

    Returns:
        ``(M,)``, same dtype as `logits`.
    """
    gold = target[:, None]
    attraction = _softplus(scale * (positive_margin - logits.gather(1, gold).squeeze(1)))
    barred = gold
    if catch_all is not None:
        attraction = attraction.where(target != catch_all, 0.0)
        if not catch_all_competes:
            barred = torch.cat([gold, torch.full_like(gold, catch_all)], dim=1)
    competing = logits.scatter(1, barred, -math.inf)
    if top_k == 1:
        return attraction + _softplus(scale * (negative_margin + competing.max(dim=1).values))
    strongest = competing.topk(min(top_k, logits.shape[1]), dim=1).values
    repulsion = _softplus(scale * (negative_margin + strongest)).sum(dim=1)
    return attraction + repulsion / (strongest > -math.inf).sum(dim=1).clamp_min(1)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) to full precision; ``functional.softplus`` is linear from 20 on."""
    return -functional.logsigmoid(-x)


class RankingLoss(Loss):
    """Score of the gold class above one margin, score of its strongest competitor below another.

    Rows of the catch-all class only push the other classes down, so that at prediction it wins where no other class has
    a positive score (`scoreless_class`). The loss fits no distribution; with margins 0 and one class besides the
    catch-all, sigmoid of `scale` times its score is its probability, hence `inference_scale`.

    Its values are convex, but with kinks where two competitors tie; the best head lies on many of them, where a method
    for smooth losses comes to a halt, so `convex` is False.

    Args:
        catch_all: index or name of the catch-all class; None: there is none.
        class_names: names of the classes, for a catch-all given by name.
        positive_margin: m+, finite.
        negative_margin: m-, finite.
        scale: s > 0.
        top_k: number of competitors per row.
        catch_all_competes: the variant of the common port: the catch-all keeps a score that competes in training.
        reduction: see `Loss`.
        ignore_index: see `Loss`.

    Raises:
        UnknownNameError: no class of that name.
        SettingError: an index that is no class, or a parameter out of its range.
    """

    def __init__(
        self,
        catch_all: int | str | None = None,
        *,
        class_names: Sequence[str] | None = None,
        positive_margin: float = 2.5,
        negative_margin: float = 0.5,
        scale: float = 2.0,
        top_k: int = 1,
        catch_all_competes: bool = False,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        for name, margin in (("positive_margin", positive_margin), ("negative_margin", negative_margin)):
            if not math.isfinite(margin):
                raise SettingError(f"Expected `{name}` to be a finite number, but got {margin!r}.")
        if not 0.0 < scale < math.inf:
            raise SettingError(f"Expected `scale` to be a finite number larger than 0, but got {scale!r}.")
        if top_k < 1:
            raise SettingError(f"Expected `top_k` to be at least 1, but got {top_k!r}.")
        self.positive_margin = float(positive_margin)
        self.negative_margin = float(negative_margin)
        self.scale = self.inference_scale = float(scale)
        self.top_k = top_k
        self.catch_all_competes = catch_all_competes
        self.num_classes = None if class_names is None else len(class_names)
        self.scoreless_class = None if catch_all is None else catch_all_index(catch_all, class_names)

    def values(self, logits: Tensor, target: Tensor, *, features: Tensor | None, group: Tensor | None) -> Tensor:
        """Per-row values ``(M,)``."""
        del features, group
        if self.scoreless_class is not None:
            check_catch_all(self, self.scoreless_class, logits)
        return ranking_values(
            logits,
            target,
            self.scoreless_class,
            positive_margin=self.positive_margin,
            negative_margin=self.negative_margin,
            scale=self.scale,
            top_k=self.top_k,
            catch_all_competes=self.catch_all_competes,
        )
