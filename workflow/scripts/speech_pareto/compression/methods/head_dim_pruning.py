"""Pruning inside heads: every head keeps fewer dimensions of queries and keys, values and output.

    score(q, k; i) = ‖[Wq_i, bq_i]‖₂ · ‖[Wk_i, bk_i]‖₂,  score(v, o; i) = ‖[Wv_i, bv_i]‖₂ · ‖Wo_:i‖₂
                                                                         `score: norm`
    score(q, k; i) = ‖q_i‖₂ · ‖k_i‖₂,  score(v, o; i) = ‖v_i‖₂ · ‖Wo_:i‖₂    `score: activations`

Dimension i of a head adds the product of q_i and k_i to its scores of frames, and the product of
v_i and a column of the output matrix to what it says: terms of rank one, whose Frobenius norms
these are. Lowercase letters are what queries, keys and values are over all real frames of some
audio. Each head of a layer keeps equally many dimensions, its highest; all layers lose equally
many, of queries and keys as of values and output, but for a rest. With another `allocation` those
lose most that the model needs least (`parts.allocated`). Scores of frames are scaled by the root of
the teacher's width. One shot, no training.

TASP, Wang et al., Interspeech 2023, https://arxiv.org/abs/2306.01385, prunes such dimensions by L0
gates while it distils, and lets each head keep another number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import Calibrated, Context
from speech_pareto.compression.parts.allocated import Part, UnitPruning
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def dimensions_of(config: Mapping, layer: architecture.Layer) -> tuple[int, int]:
    """Return the dimensions of a head, of queries (or keys) and of values; 0 where it has none."""
    whole = architecture.head_dim(config) if layer.heads else 0
    return 0 if layer.reuse else layer.qk or whole, layer.vo or whole


def without_lowest(layer: Module, names: Sequence[str], scores: Tensor, number: int) -> None:
    """Remove the `number` dimensions of lowest score (heads, dimensions) of each head of a layer.

    `names` is one of `surgery.DIMENSIONS`: queries and keys, or values and output.
    """
    from speech_pareto.models.surgery import keep_dimensions

    best = scores.argsort(dim=1, descending=True, stable=True)[:, : scores.shape[1] - number]
    keep_dimensions(layer, names, best.sort(1).values)


@dataclass(frozen=True, kw_only=True)
class HeadDimPruning(Calibrated, UnitPruning):
    """Removes dimensions inside heads, physically."""

    full_rate = True
    score: Literal["activations", "norm"] = "activations"

    def spare(self, config: Mapping) -> list[int]:
        """Return how many dimensions can go: of queries and keys, of values, for each layer."""
        pairs = (dimensions_of(config, layer) for layer in architecture.layers_of(config))
        return [max(0, number - 1) for pair in pairs for number in pair]

    def without(self, config: Mapping, gone: Sequence[int]) -> dict:
        """Return the config of a model whose heads have lost so many dimensions each."""
        whole, left, after = architecture.head_dim(config), iter(gone), []
        for layer in architecture.layers_of(config):
            pair = [number - next(left) for number in dimensions_of(config, layer)]
            qk, vo = (None if number in (0, whole) else number for number in pair)
            after.append(replace(layer, qk=qk, vo=vo))
        return architecture.with_layers(config, after)

    def parts(self, model: Module, context: Context) -> list[Part]:
        """Return dimensions of queries and keys, and of values, of each layer; one of each head."""
        from speech_pareto.models.surgery import DIMENSIONS

        return [
            Part(
                own.sort(1).values.norm(dim=0),
                partial(without_lowest, names=names, scores=own),
                index,
            )
            for index, found in enumerate(self.scores(model, context))
            for names, own in zip(DIMENSIONS, found, strict=True)
        ]

    def scores(self, model: Module, context: Context) -> list[list[Tensor]]:
        """Return for each layer the scores (heads, dimensions) of queries and keys, and of values.

        They are in float64. Where there are no queries and keys, each head has one score of 0.
        """
        import torch

        from speech_pareto.compression.calibration import input_norms
        from speech_pareto.models.surgery import DIMENSIONS, bias, matrix, matrix_names, weight

        layers = list(enumerate(model.encoder.layers))
        modules = {
            f"{index}.{name}": matrix(layer, name)
            for index, layer in layers
            for name in matrix_names(layer)
            if name in architecture.ATTENTION
        }
        if self.score == "activations":
            batches = self.audio(context)
            norms = input_norms(model, modules, batches, of_outputs=True)
        else:
            both = {n: torch.cat([weight(x), bias(x)[:, None]], 1) for n, x in modules.items()}
            norms = {name: rows.detach().double().norm(dim=1) for name, rows in both.items()}
        for name in (name for name in modules if name.endswith("out_proj")):
            norms[name] = weight(modules[name]).detach().double().norm(dim=0)
        found: list[list[Tensor]] = []
        for index, layer in layers:
            heads, own = len(layer.attention.heads), []
            for one, other in ([f"{index}.{name}" for name in names] for names in DIMENSIONS):
                product = norms[one] * norms[other] if one in norms else torch.zeros(heads)
                own.append(product.reshape(heads, -1 if heads else 1))
            found.append(own)
        return found
