"""Block drop: whole attention or feed-forward parts go whose output is most like their input.

    score(f) = 1 − mean over frames of cos(x, x + f(x))

over the real frames of some audio, where x is what the residual connection passes: what stays when
block f has gone. The lowest of all blocks go, attention and feed-forward in one order, while whole
ones fit; what they miss, the lowest rows of the lowest feed-forward part that is left make up. The
highest block of either kind stays. All are scored in the whole model; nothing is trained.

He et al., 2024, https://arxiv.org/abs/2406.15786 ("Joint Layer Drop", for language models), with
the score of ShortGPT, https://arxiv.org/abs/2403.03853; like theirs, a norm before a block goes
with it. In speech models HJ-Pruning, https://arxiv.org/abs/2302.14132, and TASP,
https://arxiv.org/abs/2306.01385, learn which units go by gates. Ours, where theirs does not say: a
norm behind a block, as in Base models, stays and is not in x + f(x); the rest in rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import Calibrated, Context, Sizing
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch.nn import Module

Block = tuple[int, str]  # its layer, and one of these
WITHOUT: dict[str, dict] = {"attention": {"heads": ()}, "feed_forward": {"ffn": 0}}


def blocks_of(config: Mapping) -> list[Block]:
    """Return the blocks of a model from its last layer down, attention before feed-forward."""
    layers = list(enumerate(architecture.layers_of(config)))
    return [
        (index, name)
        for index, layer in reversed(layers)
        for name, there in (("attention", layer.heads), ("feed_forward", layer.ffn))
        if there
    ]


@dataclass(frozen=True, kw_only=True)
class BlockDrop(Calibrated):
    """Removes attention and feed-forward parts of layers, physically."""

    takes_heads = True
    full_rate = True
    blocks: Literal["both", "attention", "feed_forward"] = "both"  # which kinds go

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many parameters go; the config takes the blocks of the last layers.

        What the scores decide differs from that config in shape, and in size by half a row.
        """
        before = architecture.remaining(config)
        layers = self.left(config, blocks_of(config), ratio * before)
        after = architecture.with_layers(config, layers)
        return Sizing(after, {"removed": before - architecture.remaining(after)})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` without the blocks that change least."""
        from speech_pareto.compression.calibration import block_changes
        from speech_pareto.compression.parts.units import best_rows
        from speech_pareto.models.backbone import describe
        from speech_pareto.models.surgery import keep_heads, keep_rows

        changes = block_changes(model, self.audio(context))
        order = sorted(changes, key=lambda block: changes[block])
        layers = self.left(describe(model), order, sizing.knobs["removed"])
        for layer, shape in zip(model.encoder.layers, layers, strict=True):
            keep_heads(layer, shape.heads)
            keep_rows(layer, best_rows(layer, shape.ffn))
        return model

    def left(
        self, config: Mapping, order: Sequence[Block], amount: float
    ) -> list[architecture.Layer]:
        """Return the layers when `amount` parameters go, the blocks that come first in `order`."""
        layers = architecture.layers_of(config)
        kinds = [[block for block in order if block[1] == name] for name in WITHOUT]
        stay = {kind[-1] for kind in kinds if kind}
        for index, name in order:
            if (index, name) in stay or self.blocks not in ("both", name):
                continue
            without = replace(layers[index], **WITHOUT[name])
            size = architecture.saved(config, layers[index], without)
            if size > amount:
                break
            layers[index], amount = without, amount - size
        for index, _ in (block for block in kinds[1] if layers[block[0]].ffn):
            own, row = layers[index], architecture.row_parameters(config, layers[index])
            fewer = max(0, min(round(amount / row), own.ffn - 1))
            layers[index] = replace(own, ffn=own.ffn - fewer)
            break
        return layers
