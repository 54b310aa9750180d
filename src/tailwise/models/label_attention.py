"""Label-wise attention: every label reads a text with weights of its own over the tokens.

    a_lt = exp(u_l . h_t) / sum_s exp(u_l . h_s)        over the tokens of the text
    m_l  = sum_t a_lt h_t
    z_l  = w_l . m_l + b_l

Mullenbach et al., Explainable Prediction of Medical Codes from Clinical Text, NAACL 2018 (CAML), eqs. 2-4. Survey
section 3.5. Differs from the paper in three things: h_t are token states of a pre-trained encoder instead of those of a
convolution over word vectors; padding takes no part, which the authors' code lets in; and u_l starts at 0, where all
tokens weigh the same and the score is that of a linear head on their mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailwise.errors import SettingError
from tailwise.models.encoder import token_budget_batches
from tailwise.models.heads.base import Head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tailwise.models.token_states import TokenStates

__all__ = ["LabelAttention", "attention_batches", "label_attention_scores"]

#: attention weights that are held at a time, and the most tokens
_WEIGHTS, _TOKENS = 2**22, 1024


class LabelAttention(Head):
    """One query, one weight vector and one bias per label; zero until `reset`.

    Args:
        num_features: D.
        num_classes: L, the labels.
        dropout: share of the entries of the states that training sets to 0.

    Raises:
        SettingError: `dropout` outside [0, 1).
    """

    takes_token_states: ClassVar[bool] = True

    def __init__(self, num_features: int, num_classes: int, dropout: float = 0.2) -> None:
        super().__init__(num_features, num_classes)
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0.0 <= dropout < 1.0:
            raise SettingError(f"Expected `dropout` to be a share in [0, 1), but got {dropout!r}.")
        self.dropout = float(dropout)
        self.query = nn.Parameter(torch.zeros(num_classes, num_features))
        self.weight = nn.Parameter(torch.zeros(num_classes, num_features))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores of the labels.

        Args:
            features: token states, ``(B, T, D)``, finite after the last token of a text too.
            mask: where tokens are, bool ``(B, T)``; None where all are.

        Returns:
            ``(B, L)``; a text without a token has the biases.
        """
        # w_l . m_l is the mean of the numbers w_l . h_t, so that no (B, L, D) is ever held
        values = functional.linear(features, self.weight)
        return (self._attention(features, mask) * values).sum(dim=1) + self.bias

    def attention(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """The weights a, ``(B, L, T)``: 0 after the last token, and of sum 1 over the tokens of a text that has any."""
        return self._attention(features, mask).transpose(1, 2)

    def _attention(self, states: Tensor, mask: Tensor | None) -> Tensor:
        scores = functional.linear(states, self.query)
        if mask is None:
            return scores.softmax(dim=1)
        padding = ~mask[:, :, None]
        lowest = torch.finfo(scores.dtype).min
        return scores.masked_fill(padding, lowest).softmax(dim=1).masked_fill(padding, 0.0)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Queries of 0; weights and biases as those of the linear head, from `generator`."""
        bound = self.num_features**-0.5
        self.query.zero_()
        self.weight.uniform_(-bound, bound, generator=generator)
        self.bias.uniform_(-bound, bound, generator=generator)


def attention_batches(lengths: NDArray[np.int64], num_labels: int) -> Iterator[NDArray[np.int64]]:
    """Texts by falling length, as many at a time as keep the attention of all labels small (at least one text)."""
    return token_budget_batches(lengths, max(1, min(_TOKENS, _WEIGHTS // num_labels)))


def label_attention_scores(head: LabelAttention, states: TokenStates) -> NDArray[np.float32]:
    """Scores ``(N, L)`` of texts."""
    scores = np.empty((len(states.lengths), head.num_classes), dtype=np.float32)
    with torch.inference_mode():
        for rows in attention_batches(states.lengths, head.num_classes):
            scores[rows] = head(*states.padded(rows)).numpy()
    return scores
