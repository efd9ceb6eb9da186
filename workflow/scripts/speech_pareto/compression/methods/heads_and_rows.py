"""Heads and rows: attention heads and feed-forward rows go within one budget.

    score(h) = ‖C_h W_hᵀ‖_F,  score(i) = ‖X_i‖₂ · ‖W2[:, i]‖₂            `score: activations`
    score(h) = Σ|Wq_h| + Σ|bq_h| + …,  score(i) = Σ_j |W1[i, j]| + …      `score: norm`

C_h (frames, dimensions) is the context of head h over all real frames of some audio and W_h its
columns of the output matrix, X_i what row i gives after the activation function: the norms of what
a head, or a row, adds to its part's output. Those of weights are `head_pruning`'s, `ffn_pruning`'s.

`uniform` takes the same share of all heads and of all rows, from every layer; rows make up what
whole heads miss. With another `allocation` heads and rows of all layers stand in one order, or in
one program, by what they save (`parts.allocated`). One of either stays in each layer. One shot, no
training. ZipLM (Kurtic et al., NeurIPS 2023, https://arxiv.org/abs/2302.04089) weighs heads and
rows against a device's time; scores, damages and the program are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Calibrated, Context
from speech_pareto.compression.methods.ffn_pruning import FfnPruning
from speech_pareto.compression.methods.head_pruning import HeadPruning
from speech_pareto.compression.parts.allocated import Part, UnitPruning
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

HEADS, ROWS = HeadPruning(), FfnPruning()


@dataclass(frozen=True, kw_only=True)
class HeadsAndRows(Calibrated, UnitPruning):
    """Removes whole heads and feed-forward rows, physically."""

    takes_heads = True
    full_rate = True
    score: Literal["activations", "norm"] = "activations"

    def spare(self, config: Mapping) -> list[int]:
        """Return how many heads each layer can lose, then how many rows."""
        return HEADS.spare(config) + ROWS.spare(config)

    def without(self, config: Mapping, gone: Sequence[int]) -> dict:
        """Return the config of a model whose layers have lost so many heads, and rows, each."""
        layers = len(gone) // 2
        return ROWS.without(HEADS.without(config, gone[:layers]), gone[layers:])

    def alike(self, config: Mapping, ratio: float) -> list[int]:
        """Return how many heads, then how many rows, each layer loses: the same share of all."""
        before = architecture.layers_of(config)
        after = allocation.thin(config, before, ratio * architecture.remaining(config))
        pairs = zip(allocation.kept(before).values(), allocation.kept(after).values(), strict=True)
        return [a - b for whole, left in pairs for a, b in zip(whole, left, strict=True)]

    def parts(self, model: Module, context: Context) -> list[Part]:
        """Return the heads of each layer, then its rows."""
        from speech_pareto.compression.parts import units

        cuts = units.without_lowest_heads, units.without_lowest_rows
        return [
            Part(own, partial(cut, scores=own), layer)
            for cut, scores in zip(cuts, self.scores(model, context), strict=True)
            for layer, own in enumerate(scores)
        ]

    def scores(self, model: Module, context: Context) -> tuple[list[Tensor], list[Tensor]]:
        """Return the score of each head (heads,) of each layer, and of each row (rows,)."""
        from speech_pareto.compression.parts import units

        if self.score == "norm":
            return HEADS.scores(model, context), ROWS.scores(model, context)
        batches = self.audio(context)
        return units.head_gains(model, batches), units.row_gains(model, batches)
