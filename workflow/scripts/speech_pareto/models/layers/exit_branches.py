"""Early exit: an utterance leaves the encoder behind the first layer that is sure of its units.

Branch k is a linear map of the states h_k behind layer k to units. An utterance leaves there if the
mean entropy of the branch over its T real frames is at most a threshold τ,

    E_k = −1/T Σ_t Σ_c p_tc ln p_tc ≤ τ,    p_t = softmax(W_k h_kt + b_k),

after Lin et al., Interspeech 2024, https://arxiv.org/abs/2406.05464. The layers above are not run
for it; it comes out as it was, so that its state is that of all of them. Each utterance of a batch
leaves by itself. Branches are buffers: what decides is no parameter that a task would train.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from speech_pareto.models.layers.fewer_frames import real_frames_of


class EarlyExit(nn.Module):
    """The branches of an encoder, behind the layers from `first` (1-based) to the last but one.

    `depths` says of each utterance of the last pass how many layers it ran through. If `fixed` is
    set, all leave behind this layer.
    """

    def __init__(self, encoder: nn.Module, threshold: float, units: int, first: int) -> None:
        super().__init__()
        number, width = len(encoder.layers), encoder.config.hidden_size
        self.threshold, self.first, self.last = threshold, first, number
        self.register_buffer("weight", torch.zeros(number - first, units, width))
        self.register_buffer("bias", torch.zeros(number - first, units))
        self.depths: list[int] = []
        self.fixed: int | None = None
        for index, layer in enumerate(encoder.layers):
            layer.forward = partial(self.run, index, layer.forward)

    def logits(self, hidden: Tensor, layer: int) -> Tensor:
        """Return those (B, T, units) of the branch behind a layer (1-based), in fp32."""
        index = layer - self.first
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), self.weight[index], self.bias[index])

    def entropy(self, hidden: Tensor, layer: int, real: Tensor) -> Tensor:
        """Return the mean entropy (B,) of a branch over the `real` (B, T) frames, in nats."""
        logs = self.logits(hidden, layer).log_softmax(-1)
        each = -(logs.exp() * logs).sum(-1)  # (B, T)
        return each.where(real, 0).sum(1) / real.sum(1).clamp_min(1)

    def run(
        self,
        index: int,
        forward: Any,
        hidden: Tensor,
        /,
        attention_mask: Tensor | None = None,
        **kwargs,
    ) -> Any:
        """Return what layer `index` makes of the utterances (B, T, D) that have not left."""
        size, bias = len(hidden), kwargs.get("position_bias")  # WavLM's, (B * heads, T, T)
        if index == 0:
            self.depths = [self.last] * size
        rows = [row for row, depth in enumerate(self.depths) if depth > index]
        if not rows:
            return hidden if bias is None else (hidden, bias)
        here, masked = hidden, attention_mask
        if len(rows) < size:
            here, masked = hidden[rows], None if attention_mask is None else attention_mask[rows]
            if bias is not None:
                kwargs["position_bias"] = bias.unflatten(0, (size, -1))[rows].flatten(0, 1)
        output = forward(here, attention_mask=masked, **kwargs)
        states, *more = output if isinstance(output, tuple) else (output,)
        if self.first <= index + 1 < self.last:
            self._decide(index + 1, rows, states, masked)
        if len(rows) < size:
            places = torch.tensor(rows, device=hidden.device)
            states = hidden.index_copy(0, places, states.to(hidden.dtype))
            # All utterances have the same bias.
            more = [one.unflatten(0, (len(rows), -1))[[0] * size].flatten(0, 1) for one in more]
        return (states, *more) if more else states

    @torch.no_grad()
    def _decide(self, layer: int, rows: list[int], states: Tensor, mask: Tensor | None) -> None:
        """Note which of `rows`, whose states are given, leave behind a layer."""
        real = states.new_ones(states.shape[:2], dtype=torch.bool)
        real = real if mask is None else real_frames_of(mask)
        leave = (self.entropy(states, layer, real) <= self.threshold).tolist()
        if self.fixed is not None:
            leave = [layer == self.fixed] * len(rows)
        for row, leaves in zip(rows, leave, strict=True):
            if leaves:
                self.depths[row] = layer


def add_exits(model: nn.Module, threshold: float, units: int, first: int) -> None:
    """Give a model branches that are all zero: their entropy is ln(units)."""
    with torch.device(model.encoder.layer_norm.weight.device):
        model.encoder.early_exit = EarlyExit(model.encoder, threshold, units, first)


def exits_of(model: nn.Module) -> EarlyExit | None:
    """Return the branches of a model, None of one without."""
    return getattr(model.encoder, "early_exit", None)


@contextmanager
def leaving(model: nn.Module, layer: int | None) -> Iterator[None]:
    """For a while, let all utterances leave a model behind a layer (1-based), if it has exits.

    Branches are asked all the same. None: each leaves where it would.
    """
    exits = exits_of(model)
    own = exits.fixed if exits else None
    if exits:
        exits.fixed = layer
    try:
        yield
    finally:
        if exits:
            exits.fixed = own
