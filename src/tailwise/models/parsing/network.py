"""The trained part of a parser: layers over word features, and the biaffine scorer on top."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tailwise.errors import SettingError
from tailwise.models.parsing.biaffine import BiaffineScorer, ProjectedWords, RelationForm, SharedDropout

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ParserNetwork", "ParserSizes"]


@dataclass(frozen=True)
class ParserSizes:
    """Sizes of a parser.

    Attributes:
        layers: bidirectional LSTM layers over the word features; 0 scores the features themselves.
        hidden: units per direction of such a layer.
        arc: length of the arc vectors.
        relation: length of the relation vectors.
        dropout: rate on features, between layers and on the vectors.
    """

    layers: int = 1
    hidden: int = 256
    arc: int = 256
    relation: int = 96
    dropout: float = 0.33

    def __post_init__(self) -> None:
        if self.layers < 0 or min(self.hidden, self.arc, self.relation) < 1 or not 0.0 <= self.dropout < 1.0:
            raise SettingError(
                f"Expected `layers` from 0, sizes from 1 and `dropout` in [0, 1), but got {asdict(self)}."
            )


class ParserNetwork(nn.Module):
    """From word features to arc scores and relation scores.

    Args:
        num_features: D.
        num_relations: R.
        sizes: see `ParserSizes`.
        form: of the relation scores, see `BiaffineScorer`.
    """

    def __init__(
        self, num_features: int, num_relations: int, sizes: ParserSizes, *, form: RelationForm = "linear"
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.num_features = num_features
        self.num_relations = num_relations
        self.norm = nn.LayerNorm(num_features)
        self.dropout = SharedDropout(sizes.dropout)
        widths = [num_features] + [2 * sizes.hidden] * sizes.layers
        self.layers = nn.ModuleList(
            nn.LSTM(width, sizes.hidden, bidirectional=True, batch_first=True) for width in widths[:-1]
        )
        self.scorer = BiaffineScorer(
            widths[-1],
            num_relations,
            arc_size=sizes.arc,
            relation_size=sizes.relation,
            dropout=sizes.dropout,
            form=form,
        )

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Fresh weights from `generator`: orthogonal between steps, Glorot's range from layer to layer."""
        self.norm.reset_parameters()
        for layer in self.layers:
            for name, parameter in layer.named_parameters():
                if "bias" in name:
                    parameter.zero_()
                elif "hh" in name:
                    for gate in parameter.chunk(4):
                        nn.init.orthogonal_(gate, generator=generator)
                else:
                    for gate in parameter.chunk(4):
                        nn.init.xavier_uniform_(gate, generator=generator)
        self.scorer.reset(generator)

    def forward(self, features: Tensor, lengths: Tensor) -> ProjectedWords:
        """Arc scores and projected words.

        Args:
            features: of the words, padded, ``(B, T, D)``.
            lengths: words per sentence, from 1, ``(B,)``, on the CPU.
        """
        states = self.dropout(self.norm(features))
        for layer in self.layers:
            packed = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
            output, _ = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=states.shape[1])
            states = self.dropout(output)
        projected: ProjectedWords = self.scorer(states, lengths)
        return projected

    def settings(self) -> dict[str, Any]:
        """What `from_settings` needs beside D and R, as plain data."""
        return {**asdict(self.sizes), "form": self.scorer.form, "scale": self.scorer.scale}

    @classmethod
    def from_settings(cls, num_features: int, num_relations: int, settings: Mapping[str, Any]) -> ParserNetwork:
        """The network of `settings`, its weights still to be loaded."""
        sizes = {key: value for key, value in settings.items() if key not in {"form", "scale"}}
        network = cls(num_features, num_relations, ParserSizes(**sizes), form=settings["form"])
        network.scorer.scale = float(settings["scale"])
        return network
