"""Pruning inside heads: every head keeps fewer dimensions of queries and keys, values and output.

    score(q, k; i) = ‖[Wq_i, bq_i]‖₂ · ‖[Wk_i, bk_i]‖₂,  score(v, o; i) = ‖[Wv_i, bv_i]‖₂ · ‖Wo_:i‖₂
                                                                         `score: norm`
    score(q, k; i) = ‖q_i‖₂ · ‖k_i‖₂,  score(v, o; i) = ‖v_i‖₂ · ‖Wo_:i‖₂    `score: activations`

Dimension i of a head adds the product of q_i and k_i to its scores of frames, and the product of
v_i and a column of the output matrix to what it says: terms of rank one, whose Frobenius norms
these are. Lowercase letters are what queries, keys and values are over all real frames of some
audio. Each head of a layer keeps equally many dimensions, its highest; all layers lose equally
many, of queries and keys as of values and output, but for a rest. Scores of frames are scaled by
the root of the teacher's width. One shot, no training.

TASP, Wang et al., Interspeech 2023, https://arxiv.org/abs/2306.01385, prunes such dimensions by L0
gates while it distils, and lets each head keep another number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import Batches, BatchSeconds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def dimensions_of(config: Mapping, layer: architecture.Layer) -> tuple[int, int]:
    """Return the dimensions of a head, of queries (or keys) and of values; 0 where it has none."""
    whole = architecture.head_dim(config) if layer.heads else 0
    return 0 if layer.reuse else layer.qk or whole, layer.vo or whole


def narrowed(config: Mapping, amount: int) -> list[list[int]]:
    """Return `dimensions_of` each layer when `amount` are gone from all of them; one stays."""
    now = [dimensions_of(config, layer) for layer in architecture.layers_of(config)]
    flat = [number for pair in now for number in pair]
    shares = allocation.spread(amount, [max(0, number - 1) for number in flat])
    left = [number - share for number, share in zip(flat, shares, strict=True)]
    return [left[place : place + 2] for place in range(0, len(left), 2)]


@dataclass(frozen=True, kw_only=True)
class HeadDimPruning(Method):
    """Removes dimensions inside heads, physically."""

    needs = "audio"
    full_rate = True
    example = {"batches": 2, "batch_seconds": 0.4}
    score: Literal["activations", "norm"] = "activations"
    batches: Batches = 16
    batch_seconds: BatchSeconds = 24.0

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many dimensions the heads of each layer keep."""
        layers, whole = architecture.layers_of(config), architecture.head_dim(config)
        target = (1 - ratio) * architecture.remaining(config)

        def config_at(amount: int) -> dict:
            pairs = ([None if d in (0, whole) else d for d in x] for x in narrowed(config, amount))
            after = [
                replace(layer, qk=qk, vo=vo) for layer, (qk, vo) in zip(layers, pairs, strict=True)
            ]
            return architecture.with_layers(config, after)

        def excess(amount: int) -> float:
            return architecture.remaining(config_at(amount)) - target

        most = sum(max(0, number - 1) for x in layers for number in dimensions_of(config, x))
        best = allocation.nearest(range(most + 1), excess)
        return Sizing(config_at(best), {"dimensions": narrowed(config, best)})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with narrower heads."""
        from speech_pareto.models.surgery import DIMENSIONS, keep_dimensions

        scores, left = self.scores(model, context), sizing.knobs["dimensions"]
        for layer, found, numbers in zip(model.encoder.layers, scores, left, strict=True):
            for names, own, number in zip(DIMENSIONS, found, numbers, strict=True):
                if number < own.shape[1]:
                    best = own.argsort(dim=1, descending=True, stable=True)[:, :number]
                    keep_dimensions(layer, names, best.sort(1).values)
        return model

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
            batches = context.batches(self.batches, self.batch_seconds)
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
