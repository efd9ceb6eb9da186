"""Layers that run at a lower frame rate than their model, whose hidden states keep all frames.

Between the layers each group of frames has one state, repeated for each of its frames. So every
hidden state has the frames of the plain model, and whoever reads a layer needs to know nothing.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def real_frames_of(attention_mask: Tensor) -> Tensor:
    """Return which frames (B, T) are real, of a layer's mask.

    That is (B, 1, T, T), added, or WavLM's (B, T), true on real frames.
    """
    return attention_mask.bool() if attention_mask.dim() == 2 else attention_mask[:, 0, 0] == 0


class FewerFrames(nn.Module):
    """Runs the layers of an encoder from `first` on; subclasses say what is joined, and how."""

    def __init__(self, encoder: nn.Module, first: int = 0) -> None:
        super().__init__()
        self.encoder, self.first = (encoder,), first  # in a tuple: a reference, no submodule
        for layer in encoder.layers[first:]:
            layer.forward = partial(self.run, layer)

    def groups(self, frames: Any) -> Any:
        """Return how many groups so many frames make: an integer, or a tensor of such."""
        raise NotImplementedError

    def places(self, groups: int, device: torch.device) -> Tensor:
        """Return a frame of each group (groups,): in the states between layers, all have one."""
        raise NotImplementedError

    def join(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """Return one state of each group (B, groups, D); the first `frames` (B,) of T are real."""
        raise NotImplementedError

    def part(self, output: Tensor, frames: Tensor, time: int, last: bool) -> Tensor:
        """Return states (B, time, D) of states of groups; `last` says that no layer follows."""
        raise NotImplementedError

    def run(
        self, layer: nn.Module, hidden: Tensor, attention_mask: Tensor | None = None, **kwargs
    ) -> Any:
        """Return a layer's output (B, T, D), for states and mask of all frames."""
        layers, time, place = self.encoder[0].layers, hidden.shape[1], hidden.device
        groups, first = self.groups(time), layer is layers[self.first]
        frames = torch.full(hidden.shape[:1], time, device=place)  # real ones, (B,)
        if attention_mask is not None:
            real = real_frames_of(attention_mask)  # (B, T)
            frames, hidden = real.sum(1), hidden * real[..., None]
            short = torch.arange(groups, device=place) < self.groups(frames)[:, None]
            if attention_mask.dim() > 2:
                empty = attention_mask.new_zeros(len(hidden), 1, groups, groups)
                short = empty.masked_fill(~short[:, None, None], torch.finfo(empty.dtype).min)
            attention_mask = short
        places = self.places(groups, place)
        if first:
            bias = kwargs.get("position_bias")  # WavLM's, (B * heads, T, T)
            if hasattr(layer.attention, "rel_attn_embed"):  # the layer that makes it
                bias = layer.attention.compute_bias(time, time).repeat(len(hidden), 1, 1)
            if bias is not None:  # of the distances that groups have in frames
                kwargs["position_bias"] = bias[:, places][:, :, places]
        joined = self.join(hidden, frames) if first else hidden[:, places]
        output = type(layer).forward(layer, joined, attention_mask=attention_mask, **kwargs)
        states, *more = output if isinstance(output, tuple) else (output,)
        full = self.part(states, frames, time, layer is layers[-1])
        return (full, *more) if more else full
