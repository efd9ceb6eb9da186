"""Random pruning: heads and feed-forward rows drawn by lot go; a method must beat this control.

Chance takes the same share of all heads and of all rows, spread evenly over the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class RandomPruning(Method):
    """Removes heads and rows whatever their weights, physically."""

    role = "control"
    takes_heads = True

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many heads and rows each layer keeps; at least one of each stays."""
        layers = architecture.layers_of(config)
        after = allocation.thin(config, layers, ratio * architecture.remaining(config))
        return Sizing(architecture.with_layers(config, after), allocation.kept(after))

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with only the heads and rows that the seed draws."""
        import torch

        from speech_pareto.models.surgery import keep_heads, keep_rows, shape_of

        generator = context.generator()
        sizes = zip(model.encoder.layers, sizing.knobs["heads"], sizing.knobs["rows"], strict=True)
        for layer, heads, rows in sizes:
            shape = shape_of(layer)
            places = torch.randperm(len(shape.heads), generator=generator)[:heads].tolist()
            keep_heads(layer, [shape.heads[place] for place in places])
            keep_rows(layer, torch.randperm(shape.ffn, generator=generator)[:rows])
        return model
