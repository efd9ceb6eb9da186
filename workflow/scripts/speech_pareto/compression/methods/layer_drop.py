"""Layer drop: the first layers stay, the rest go; a control without any scores.

What a whole number of layers cannot hit, the last kept layer makes up: it keeps a share of its
heads and of its feed-forward rows, those with the largest weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class LayerDrop(Method):
    """Keeps the first layers, the last of them in part."""

    role = "control"

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many layers stay, and what is left of the last."""
        layers = architecture.layers_of(config)
        start = architecture.remaining(config)
        target = (1 - ratio) * start
        shallow = [layers[: n + 1] for n in range(len(layers))]
        sizes = [architecture.remaining(architecture.with_layers(config, x)) for x in shallow]
        number = next((n + 1 for n, size in enumerate(sizes) if size >= target), len(layers))
        kept, last = layers[:number], layers[number - 1]
        excess = sizes[number - 1] - target
        if excess > start / 200:  # nearer than half a per cent, whole layers are plainer, faster
            head = architecture.head_parameters(config, last)
            share = excess / sum(architecture.layer_parameters(config, last).values())
            heads = max(1, math.ceil((1 - share) * len(last.heads)))
            less = excess - (len(last.heads) - heads) * head
            gone = round(less / architecture.row_parameters(config, last))
            rows = min(last.ffn, max(1, last.ffn - gone))
            kept[-1] = replace(last, heads=last.heads[:heads], ffn=rows)
        knobs = {"layers": number, "heads": len(kept[-1].heads), "rows": kept[-1].ffn}
        return Sizing(architecture.with_layers(config, kept), knobs)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the first layers of `model`."""
        from speech_pareto.compression.parts.units import keep_best
        from speech_pareto.models.surgery import keep_layers

        keep_layers(model, range(sizing.knobs["layers"]))
        last = model.encoder.layers[-1]
        keep_best(last, sizing.knobs["heads"], sizing.knobs["rows"])
        return model
