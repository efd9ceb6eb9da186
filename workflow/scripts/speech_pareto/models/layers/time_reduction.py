"""FitHuBERT's time reduction: all layers see every `factor` frames as one.

A strided convolution before the first layer joins `factor` frames to one, a transposed one after
the last layer undoes it: Lee et al., Interspeech 2022, https://arxiv.org/abs/2207.00555, section 2.
As in their code, only whole groups of real frames are joined: what is left over of an utterance is
dropped, and the last whole one stands in for it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from speech_pareto.models.layers.fewer_frames import FewerFrames


class Upsample(nn.Module):
    """A transposed convolution over frames: (B, T, D) -> (B, factor T, D)."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(width, width, factor, factor)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(hidden.transpose(1, 2)).transpose(1, 2)


class TimeReduction(FewerFrames):
    """Both convolutions of an encoder; it runs the encoder's layers."""

    def __init__(self, encoder: nn.Module, width: int, factor: int) -> None:
        super().__init__(encoder)
        self.factor = factor
        self.down = nn.Conv1d(width, width, factor, factor)
        self.up = Upsample(width, factor)

    def groups(self, frames: Any) -> Any:
        """Return how many groups are whole, at least one."""
        if isinstance(frames, Tensor):
            return torch.div(frames, self.factor, rounding_mode="floor").clamp_min(1)
        return max(1, frames // self.factor)

    def places(self, groups: int, device: torch.device) -> Tensor:
        return torch.arange(groups, device=device) * self.factor

    def join(self, hidden: Tensor, frames: Tensor) -> Tensor:
        # What is too short for a group is filled up to one.
        time, whole = hidden.shape[1], self.groups(hidden.shape[1]) * self.factor
        hidden = nn.functional.pad(hidden, (0, 0, 0, max(0, self.factor - time)))[:, :whole]
        return self.down(hidden.transpose(1, 2)).transpose(1, 2)

    def part(self, output: Tensor, frames: Tensor, time: int, last: bool) -> Tensor:
        full = self.up(output) if last else output.repeat_interleave(self.factor, 1)
        end = self.factor * self.groups(frames) - 1  # (B,): what follows repeats it
        places = torch.minimum(torch.arange(time, device=output.device), end[:, None])  # (B, T)
        return full.gather(1, places[..., None].expand(-1, -1, full.shape[-1]))


def reduce_time(model: nn.Module, factor: int) -> None:
    """Let the layers of a model run at a `factor`-th of the frames."""
    with torch.device(model.encoder.layer_norm.weight.device):
        width = model.config.hidden_size
        model.encoder.time_reduction = TimeReduction(model.encoder, width, factor)
