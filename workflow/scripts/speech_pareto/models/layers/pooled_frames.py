"""Frame pooling: from some layer on, a group of frames is one, the mean of its frames.

Group j covers the time from j x to (j + 1) x, in frames, and x need not be whole: a frame that lies
in two groups counts in each by the part of it that does,

    p_j = Σ_t w_tj h_t / Σ_t w_tj,    w_tj = |[t, t + 1) ∩ [j x, (j + 1) x)|,

over the real frames t of an utterance. That is the continuous integrate-and-fire of Chen et al.,
ICASSP 2023, https://arxiv.org/abs/2211.02332, with the same weight 1 / x for each frame. A frame
takes the state of the group in which its middle lies, and there are as many groups as hold the
middle of a frame. Times are whole hundredths of a frame, so that nothing rounds.
"""

from typing import Any

import torch
from torch import Tensor, nn

from speech_pareto.models.frame_counts import HUNDREDTHS, pooled
from speech_pareto.models.layers.fewer_frames import FewerFrames


class FramePooling(FewerFrames):
    """Runs the layers of an encoder behind the first `after` on groups of `factor` frames."""

    def __init__(self, encoder: nn.Module, factor: float, after: int) -> None:
        super().__init__(encoder, after)
        self.span = round(factor * HUNDREDTHS)  # of a group, in hundredths of a frame

    def groups(self, frames: Any) -> Any:
        return pooled(frames, self.span)

    def places(self, groups: int, device: torch.device) -> Tensor:
        """Return the first frame (groups,) whose middle lies in each group."""
        starts = torch.arange(groups, device=device) * self.span
        return (starts + HUNDREDTHS // 2 - 1) // HUNDREDTHS

    def join(self, hidden: Tensor, frames: Tensor) -> Tensor:
        time, place = hidden.shape[1], hidden.device
        starts = torch.arange(self.groups(time), device=place) * self.span  # (groups,)
        ends = starts + self.span
        total: Any = 0
        weight: Any = 0
        for step in range(-(-self.span // HUNDREDTHS) + 1):  # no group holds more frames
            index = starts // HUNDREDTHS + step
            begin = index * HUNDREDTHS
            shared = torch.minimum(begin + HUNDREDTHS, ends) - torch.maximum(begin, starts)
            own = shared.clamp_min(0) * (index < frames[:, None])  # w, (B, groups)
            states = hidden[:, index.clamp_max(time - 1)]  # (B, groups, D)
            total = total + states * own[..., None].to(states.dtype)
            weight = weight + own
        return total / weight.clamp_min(1)[..., None].to(hidden.dtype)

    def part(self, output: Tensor, frames: Tensor, time: int, last: bool) -> Tensor:
        middles = torch.arange(time, device=output.device) * HUNDREDTHS + HUNDREDTHS // 2
        return output[:, middles // self.span]


def pool_frames(model: nn.Module, factor: float, after: int) -> None:
    """Let the layers of a model behind the first `after` run on groups of `factor` frames."""
    model.encoder.frame_pooling = FramePooling(model.encoder, factor, after)
