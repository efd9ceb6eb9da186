"""Channel pruning of the convolutional stem: the channels with the smallest filters go.

    score(c) = ‖W[c, :, :]‖₂                    `score: norm`
    score(c) = ‖X_c‖₂                           `score: activations`

W (outputs, inputs, taps) are a convolution's weights, X_c is what channel c gives, after norm and
activation function, over all real frames of some audio. Every layer loses the same share of its
channels, those that score lowest, and keeps at least one in eight. All are scored in the whole
model, so that no cut changes what goes elsewhere ("independent pruning"). Nothing is trained. Li et
al., ICLR 2017, https://arxiv.org/abs/1608.08710, with the L1 norm; they find both alike.

Where a norm follows each channel, as in the first layer of Base, it undoes a filter's length; the
activations tell more there. At most 0.047 of HuBERT Base's parameters can go, and these are most
of the multiply-accumulates of its stem.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.compression.methods.ffn_pruning import highest
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import Batches, BatchSeconds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

LEAST = 8  # one of so many channels of a layer stays


def narrowed(config: Mapping, amount: int) -> list[int]:
    """Return the channels of each layer when `amount` in all are gone, of `spare(config)`."""
    widths, spares = architecture.complete(config)["conv_dim"], spare(config)
    total, left = sum(spares), []
    for number, (width, own) in enumerate(zip(widths, spares, strict=True)):
        begin = number * total // len(widths)  # layers take turns: one channel goes at a time
        left.append(width - min(own, (amount * own + begin) // max(1, total)))
    return left


def spare(config: Mapping) -> list[int]:
    """Return how many channels of each layer can go; the last are the width without projection."""
    widths = architecture.prunable_channels(config)
    fixed = len(architecture.complete(config)["conv_dim"]) - len(widths)
    return [width - -(-width // LEAST) for width in widths] + [0] * fixed


def filter_norms(model: Module) -> list[Tensor]:
    """Return the score of each channel (channels,) of each layer by its weights, in float64."""
    layers = model.feature_extractor.conv_layers
    return [layer.conv.weight.detach().double().flatten(1).norm(dim=1) for layer in layers]


@dataclass(frozen=True, kw_only=True)
class ChannelPruning(Method):
    """Removes channels of the stem's convolutions, and what reads them, physically."""

    needs = "audio"
    example = {"batches": 2, "batch_seconds": 0.4}
    score: Literal["norm", "activations"] = "norm"
    batches: Batches = 16
    batch_seconds: BatchSeconds = 24.0

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a stem without convolutions."""
        if not architecture.convolutional(config):
            return "the model's stem has no convolutions whose channels could go"
        return super().obstacle(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many channels each layer keeps."""
        target = (1 - ratio) * architecture.remaining(config)

        def config_at(amount: int) -> dict:
            return {**config, "conv_dim": narrowed(config, amount)}

        def excess(amount: int) -> float:
            return architecture.remaining(config_at(amount)) - target

        best = allocation.nearest(range(sum(spare(config)) + 1), excess)
        return Sizing(config_at(best), {"channels": narrowed(config, best)})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` without the channels of lowest score."""
        from speech_pareto.models.surgery import keep_channels

        for number, (scores, width) in enumerate(
            zip(self.scores(model, context), sizing.knobs["channels"], strict=True)
        ):
            if width < len(scores):
                keep_channels(model, number, highest(scores, width))
        return model

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each channel (channels,) of each layer."""
        if self.score == "norm":
            return filter_norms(model)
        from speech_pareto.compression.calibration import channel_norms

        return channel_norms(model, context.batches(self.batches, self.batch_seconds))
