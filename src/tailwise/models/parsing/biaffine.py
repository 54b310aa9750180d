"""Deep biaffine scores of arcs and relations.

    s_arc(d, h)    = [a_d; 1]^T U b_h                    a, b   what two layers of their own make of a word as
    s_rel(d, h)_r  = [x_d; 1]^T U_r [y_h; 1]             dependent and as head; x, y likewise for relations

Dozat and Manning, Deep Biaffine Attention for Neural Dependency Parsing, ICLR 2017, eq. 4-9. Differs from the paper in
how the root is represented: by a learnt vector in the place of a word's state. A relation is scored for one head per
word, so the scores are rows ``(M, R)`` that any single-label loss takes; for a bilinear scorer what the classifier sees
is the outer product of x and y, whose length is the product of theirs, which gives cosine scores as well.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from tailwise.errors import SettingError

__all__ = ["BiaffineScorer", "ProjectedWords", "RelationForm", "SharedDropout"]

RelationForm = Literal["linear", "cosine"]


class ProjectedWords(NamedTuple):
    """What a sentence batch becomes.

    Attributes:
        arcs: scores ``(B, T, T + 1)`` of ``[dependent, head]``, the root first; heads beyond a sentence have the
            lowest finite score.
        dependents: words as dependents of a relation, with a one appended, ``(B, T, r + 1)``.
        heads: root and words as heads of a relation, with a one appended, ``(B, T + 1, r + 1)``.
    """

    arcs: Tensor
    dependents: Tensor
    heads: Tensor


class SharedDropout(nn.Module):
    """Dropout of the same dimensions at every position of a sequence ``(B, T, D)``."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, states: Tensor) -> Tensor:
        """`states`, dimensions set to zero while training."""
        if not self.training or self.rate == 0.0:
            return states
        keep = states.new_empty(states.shape[0], 1, states.shape[2]).bernoulli_(1.0 - self.rate)
        return states * (keep / (1.0 - self.rate))


class _Projection(nn.Module):
    """What a word is in one of its four parts: a layer, its activation, dropout."""

    def __init__(self, num_features: int, size: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.Linear(num_features, size)
        self.dropout = SharedDropout(dropout)

    def reset(self, generator: torch.Generator) -> None:
        nn.init.xavier_uniform_(self.layer.weight, generator=generator)
        nn.init.zeros_(self.layer.bias)

    def forward(self, states: Tensor) -> Tensor:
        projected: Tensor = self.dropout(nn.functional.leaky_relu(self.layer(states), 0.1))
        return projected


class BiaffineScorer(nn.Module):
    """Arc and relation scores of words.

    Args:
        num_features: D, the length of a word's state.
        num_relations: R.
        arc_size: length of a and b.
        relation_size: r, length of x and y.
        dropout: rate on a, b, x and y.
        form: ``"linear"`` relation scores, or ``"cosine"``: between -1 and 1, times `scale`.
        scale: of cosine scores.

    Raises:
        SettingError: a size below 1, a rate outside [0, 1) or an unknown form.
    """

    def __init__(
        self,
        num_features: int,
        num_relations: int,
        *,
        arc_size: int = 256,
        relation_size: int = 96,
        dropout: float = 0.33,
        form: RelationForm = "linear",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if min(num_features, num_relations, arc_size, relation_size) < 1 or not 0.0 <= dropout < 1.0:
            raise SettingError(
                f"Expected sizes from 1 and `dropout` in [0, 1), but got {num_features}, {num_relations}, {arc_size}, "
                f"{relation_size} and {dropout!r}."
            )
        if form not in get_args(RelationForm):
            raise SettingError(f"Expected `form` to be 'linear' or 'cosine', but got {form!r}.")
        self.form: RelationForm = form
        self.scale = scale
        self.root = nn.Parameter(torch.zeros(num_features))
        self.arc_dependent = _Projection(num_features, arc_size, dropout)
        self.arc_head = _Projection(num_features, arc_size, dropout)
        self.relation_dependent = _Projection(num_features, relation_size, dropout)
        self.relation_head = _Projection(num_features, relation_size, dropout)
        self.arc_weight = nn.Parameter(torch.zeros(arc_size + 1, arc_size))
        self.relation_weight = nn.Parameter(torch.zeros(num_relations, relation_size + 1, relation_size + 1))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Fresh weights from `generator`: Glorot's range for the layers, zero for both bilinear forms."""
        self.root.normal_(std=1.0, generator=generator)
        for layer in (self.arc_dependent, self.arc_head, self.relation_dependent, self.relation_head):
            layer.reset(generator)
        self.arc_weight.zero_()
        self.reset_relations(generator)

    @torch.no_grad()
    def reset_relations(self, generator: torch.Generator) -> None:
        """Fresh relation weights; cosines need a direction to begin with, linear scores begin at zero."""
        self.relation_weight.zero_()
        if self.form == "cosine":
            self.relation_weight.normal_(generator=generator)

    def forward(self, states: Tensor, lengths: Tensor) -> ProjectedWords:
        """Arc scores and projected words.

        Args:
            states: of the words, padded, ``(B, T, D)``.
            lengths: words per sentence, ``(B,)``, on the CPU or where the states are.
        """
        batch, longest, _ = states.shape
        with_root = torch.cat([self.root.to(states.dtype).expand(batch, 1, -1), states], dim=1)
        arcs = _with_one(self.arc_dependent(states)) @ self.arc_weight @ self.arc_head(with_root).transpose(1, 2)
        absent = torch.arange(longest + 1, device=states.device) > lengths.to(states.device)[:, None]
        arcs = arcs.float().masked_fill(absent[:, None], torch.finfo(torch.float32).min)
        return ProjectedWords(
            arcs, _with_one(self.relation_dependent(states)), _with_one(self.relation_head(with_root))
        )

    def relation_inputs(
        self, words: ProjectedWords, sentence: Tensor, word: Tensor, head: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The x and y of chosen words and their heads, a one appended, both ``(M, r + 1)``.

        Args:
            words: what `forward` gave.
            sentence: row of the batch, ``(M,)``.
            word: position in the sentence from 0, ``(M,)``.
            head: position of the head from 1, 0 for the root, ``(M,)``.
        """
        return words.dependents[sentence, word], words.heads[sentence, head]

    def relation_logits(self, dependents: Tensor, heads: Tensor) -> Tensor:
        """Relation scores ``(M, R)`` of pairs of x and y ``(M, r + 1)``."""
        weight: Tensor = self.relation_weight
        if self.form == "cosine":
            weight = nn.functional.normalize(weight.flatten(1), dim=1).view_as(weight)
            dependents, heads = (nn.functional.normalize(side, dim=1) for side in (dependents, heads))
        relations, size, _ = weight.shape
        # (M, r+1) x (r+1, R (r+1)): one large product in place of R small ones
        halves = (dependents @ weight.permute(1, 0, 2).reshape(size, -1)).view(-1, relations, size)
        logits = torch.einsum("mrj,mj->mr", halves, heads).float()
        return logits * self.scale if self.form == "cosine" else logits


def _with_one(states: Tensor) -> Tensor:
    return nn.functional.pad(states, (0, 1), value=1.0)
