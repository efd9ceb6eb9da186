"""Self-pinching gates on whole heads and feed-forward channels, which then go physically.

    raw(head) = Σ Wq_h² + Σ Wk_h² + Σ Wv_h² + Σ Wo_h²,   raw(channel i) = ‖W1[i, :]‖² + ‖W2[:, i]‖²
    s = (raw − min) / (max − min) + 1e-5   within the layer,   unit kept where s > t²

with one learnt t per layer and kind of unit, on the task's loss and the control of size of
`self_pinching`; r counts parameters. τ falls from 0.5 to 0.01 in the first 30 % of the steps and
rises again. In the end the units of lowest s / t² go, heads and channels in one order, until the
size is met; one of each stays in every layer. With `stem` the channels of the stem's convolutions
have gates, too, see `parts.channel_gates`. Structured form of Xu et al., Interspeech 2025,
https://arxiv.org/abs/2505.22608, as released in https://github.com/hanyxu/SASPG-pruning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.methods.self_pinching import SelfPinching
from speech_pareto.compression.parts import gated_sizes

if TYPE_CHECKING:
    from torch.nn import Linear, Module


@dataclass(frozen=True, kw_only=True)
class StructuredSelfPinching(SelfPinching):
    """Removes heads and channels below thresholds that are learnt with them, physically."""

    takes_heads = True
    stem: bool = False  # True: channels of the stem have gates, too

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem and self.freeze_stem:
            raise ValueError("stem: gates learn nothing in a stem that `freeze_stem` holds")

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for gates on what is not there."""
        return gated_sizes.obstacle(config, self.stem) or super().obstacle(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many parameters go; the config takes the same share of heads and channels.

        What the gates decide differs from that config in shape, and in size by half a channel.
        """
        return gated_sizes.sizing(config, ratio, self.stem)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model`, fine-tuned behind gates, without its lowest units."""
        from speech_pareto.compression.parts import self_pinching_gates as gates
        from speech_pareto.compression.parts.channel_gates import PinchedChannels

        removed, linears = sizing.knobs["removed"], self.gated(model)
        stem = PinchedChannels(model, self.pace, self.gate_rate) if self.stem else None
        context.tune(model, self.penalty(linears, removed, stem), **self.loop_settings())
        sizes = [size for _, size in gates.units_of(model, model.encoder.layers[0])]
        margins = [gates.release(linear) for linear in linears]
        heads, rows = margins[::2], margins[1::2]
        if stem:
            stem.detach()
            removed -= stem.cut(model, heads, rows, sizes, removed)
        gates.remove_lowest(model, heads, rows, sizes, removed)
        return model

    def gated(self, model: Module) -> list[Linear]:
        """Put gates on the matrices that read the units; return them: heads, channels, heads …"""
        from speech_pareto.compression.parts.self_pinching_gates import gate_units

        return gate_units(model, self.pace, self.gate_rate)

    def temperature(self, progress: float) -> float:
        """Return τ after a share `progress` of the steps."""
        from speech_pareto.compression.parts.self_pinching_gates import turning

        return turning(progress)
