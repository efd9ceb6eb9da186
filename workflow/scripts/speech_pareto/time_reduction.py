"""Layers that run at a lower frame rate than their model: FitHuBERT's time reduction.

A strided convolution before the first layer joins `factor` frames to one, a transposed one after
the last layer undoes it: Lee et al., Interspeech 2022, https://arxiv.org/abs/2207.00555, section 2.
In between each frame stands `factor` times in what the layers give, so every hidden state has the
frames of the plain model.
"""

from functools import partial

import torch
from torch import Tensor, nn


class Upsample(nn.Module):
    """A transposed convolution over frames: (B, T, D) -> (B, factor T, D)."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(width, width, factor, factor)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(hidden.transpose(1, 2)).transpose(1, 2)


class TimeReduction(nn.Module):
    """Both convolutions of an encoder; it runs the encoder's layers."""

    def __init__(self, encoder: nn.Module, width: int, factor: int) -> None:
        super().__init__()
        self.encoder = (encoder,)  # in a tuple: a reference, no submodule
        self.factor = factor
        self.down = nn.Conv1d(width, width, factor, factor)
        self.up = Upsample(width, factor)
        for layer in encoder.layers:
            layer.forward = partial(self.run, layer)

    def run(
        self, layer: nn.Module, hidden: Tensor, attention_mask: Tensor | None = None, **kwargs
    ) -> Tensor:
        """Return a layer's output (B, T, D); hidden states and mask (B, 1, T, T) have all frames.

        Frames of padding are zero in the convolution, as those that fill up the last stride are.
        """
        layers, time, short = self.encoder[0].layers, hidden.shape[1], attention_mask
        if attention_mask is not None:
            short = attention_mask[:, :, :: self.factor, :: self.factor]
        if layer is layers[0]:
            if attention_mask is not None:
                hidden = hidden * (attention_mask[:, 0, 0] == 0)[..., None]  # keys of any query
            hidden = nn.functional.pad(hidden, (0, 0, 0, -time % self.factor))
            hidden = self.down(hidden.transpose(1, 2)).transpose(1, 2)
        else:
            hidden = hidden[:, :: self.factor]
        output = type(layer).forward(layer, hidden, attention_mask=short, **kwargs)
        whole = self.up(output) if layer is layers[-1] else output.repeat_interleave(self.factor, 1)
        return whole[:, :time]


def reduce_time(model: nn.Module, factor: int) -> None:
    """Let the layers of a HuBERT or wav2vec 2.0 run at a `factor`-th of the frames."""
    with torch.device(model.encoder.layer_norm.weight.device):
        model.encoder.time_reduction = TimeReduction(
            model.encoder, model.config.hidden_size, factor
        )
