"""Layers that run at a lower frame rate than their model: FitHuBERT's time reduction.

A strided convolution before the first layer joins `factor` frames to one, a transposed one after
the last layer undoes it: Lee et al., Interspeech 2022, https://arxiv.org/abs/2207.00555, section 2.
As in their code, only whole groups of real frames are joined: what is left over of an utterance is
dropped. So that every hidden state has the frames of the plain model, each frame is repeated
`factor` times between the layers, and the last whole one stands in for those that were dropped.
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
        """Return a layer's output (B, T, D), for states and mask (B, 1, T, T) of all frames."""
        layers, time, factor = self.encoder[0].layers, hidden.shape[1], self.factor
        groups = max(1, time // factor)
        frames = torch.full(hidden.shape[:1], time, device=hidden.device)  # real ones, (B,)
        short = None
        if attention_mask is not None:
            real = attention_mask[:, 0, 0] == 0  # (B, T): the keys of any query
            frames, hidden = real.sum(1), hidden * real[..., None]
            inside = torch.arange(groups, device=hidden.device) < self._whole(frames)[:, None]
            short = attention_mask.new_zeros(len(hidden), 1, groups, groups)
            short = short.masked_fill(~inside[:, None, None], torch.finfo(short.dtype).min)
        # What is too short for a group is filled up to one.
        hidden = nn.functional.pad(hidden, (0, 0, 0, max(0, factor - time)))[:, : groups * factor]
        if layer is layers[0]:
            hidden = self.down(hidden.transpose(1, 2)).transpose(1, 2)
        else:
            hidden = hidden[:, ::factor]
        output = type(layer).forward(layer, hidden, attention_mask=short, **kwargs)
        full = self.up(output) if layer is layers[-1] else output.repeat_interleave(factor, 1)
        last = factor * self._whole(frames) - 1  # (B,): what follows repeats it
        places = torch.minimum(torch.arange(time, device=hidden.device), last[:, None])  # (B, T)
        return full.gather(1, places[..., None].expand(-1, -1, full.shape[-1]))

    def _whole(self, frames: Tensor) -> Tensor:
        """Return how many groups (B,) of real frames are whole, at least one."""
        return torch.div(frames, self.factor, rounding_mode="floor").clamp_min(1)


def reduce_time(model: nn.Module, factor: int) -> None:
    """Let the layers of a HuBERT or wav2vec 2.0 run at a `factor`-th of the frames."""
    with torch.device(model.encoder.layer_norm.weight.device):
        width = model.config.hidden_size
        model.encoder.time_reduction = TimeReduction(model.encoder, width, factor)
