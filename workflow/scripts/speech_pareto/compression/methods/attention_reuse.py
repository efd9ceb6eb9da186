"""Attention-map reuse: layers lose queries and keys and apply the map of the layer before them.

    A_l = A_(l-1),  output = A_l V_l W_o

Every second layer first (2, 4, ... counted from 1), and once these are through, the layers between
them from the bottom up. Nothing is trained. After ARMHuBERT, Jang et al., Interspeech 2023,
https://arxiv.org/abs/2305.11685, section 2, where a student is built so from the start
(`masking_distillation`).

`reuse: softmax` and `reuse: released` are ablations, see `architecture.REUSE`; with the latter an
utterance's output depends on the batch it is in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class AttentionReuse(Method):
    """Removes query and key matrices, physically."""

    reuse: Literal["map", "softmax", "released"] = "map"  # how the map is applied

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return which layers reuse a map: as many as come nearest to the ratio."""
        layers = architecture.layers_of(config)
        target = (1 - ratio) * architecture.remaining(config)
        sizings = [Sizing(dict(config), {"layers": []})]
        for index in (*range(1, len(layers), 2), *range(2, len(layers), 2)):
            if layers[index].reuse or not architecture.can_reuse(layers[index - 1], layers[index]):
                continue
            layers[index] = replace(layers[index], reuse=self.reuse)
            chosen = [*sizings[-1].knobs["layers"], index]
            sizings.append(Sizing(architecture.with_layers(config, layers), {"layers": chosen}))
        return min(sizings, key=lambda sizing: abs(architecture.remaining(sizing.config) - target))

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with fewer queries and keys."""
        from speech_pareto.models.layers.reused_attention import reuse_map

        for index in sizing.knobs["layers"]:
            reuse_map(model, model.encoder.layers[index], self.reuse)
        return model
