"""Channel pruning of the convolutional stem: the channels with the smallest filters go.

    score(c) = ‖W[c, :, :]‖₂                    `score: norm`
    score(c) = ‖X_c‖₂                           `score: activations`

W (outputs, inputs, taps) are a convolution's weights, X_c is what channel c gives, after norm and
activation function, over all real frames of some audio. Every layer loses the same share of its
channels, those that score lowest, and keeps at least one in eight. All are scored in the whole
model, so that no cut changes what goes elsewhere ("independent pruning"). Nothing is trained. With
another `allocation` those layers lose most that the model needs least (`parts.allocated`). Li et
al., ICLR 2017, https://arxiv.org/abs/1608.08710, with the L1 norm; they find both alike.

Where a norm follows each channel, as in the first layer of Base, it undoes a filter's length; the
activations tell more there. At most 0.047 of HuBERT Base's parameters can go, and these are most
of the multiply-accumulates of its stem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Calibrated, Context
from speech_pareto.compression.parts.allocated import Part, UnitPruning
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class ChannelPruning(Calibrated, UnitPruning):
    """Removes channels of the stem's convolutions, and what reads them, physically."""

    chained = True
    score: Literal["norm", "activations"] = "norm"

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a stem without convolutions."""
        if not architecture.convolutional(config):
            return "the model's stem has no convolutions whose channels could go"
        return super().obstacle(config)

    def spare(self, config: Mapping) -> list[int]:
        """Return how many channels each layer can lose."""
        return allocation.spare_channels(config)

    def without(self, config: Mapping, gone: Sequence[int]) -> dict:
        """Return the config of a model whose stem's layers have lost so many channels each."""
        pairs = zip(architecture.complete(config)["conv_dim"], gone, strict=True)
        return {**config, "conv_dim": [width - number for width, number in pairs]}

    def share(self, config: Mapping, amount: int) -> list[int]:
        """Return how many channels each layer loses if `amount` go in all, the same share."""
        widths = architecture.complete(config)["conv_dim"]
        left = allocation.narrowed(config, amount)
        return [width - kept for width, kept in zip(widths, left, strict=True)]

    def parts(self, model: Module, context: Context) -> list[Part]:
        """Return the channels of each layer."""
        from speech_pareto.compression.parts.units import without_lowest_channels

        scores = enumerate(self.scores(model, context))
        return [
            Part(own, partial(without_lowest_channels, place=x, scores=own)) for x, own in scores
        ]

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each channel (channels,) of each layer."""
        if self.score == "norm":
            from speech_pareto.compression.parts.units import filter_norms

            return filter_norms(model)
        from speech_pareto.compression.calibration import channel_norms

        return channel_norms(model, self.audio(context))
