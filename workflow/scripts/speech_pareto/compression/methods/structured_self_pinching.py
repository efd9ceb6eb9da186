"""Self-pinching gates on whole heads and feed-forward channels, which then go physically.

    raw(head) = Σ Wq_h² + Σ Wk_h² + Σ Wv_h² + Σ Wo_h²,   raw(channel i) = ‖W1[i, :]‖² + ‖W2[:, i]‖²
    s = (raw − min) / (max − min) + 1e-5   within the layer,   unit kept where s > t²

with one learnt t per layer and kind of unit, on the task's loss and the control of size of
`self_pinching`; r counts parameters. τ falls from 0.5 to 0.01 in the first 30 % of the steps and
rises again. In the end the units of lowest s / t² go, heads and channels in one order, until the
size is met; one of each stays in every layer. Structured form of Xu et al., Interspeech 2025,
https://arxiv.org/abs/2505.22608, as released in https://github.com/hanyxu/SASPG-pruning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Sizing
from speech_pareto.compression.methods.self_pinching import SelfPinching
from speech_pareto.compression.parts import gated_sizes

if TYPE_CHECKING:
    from torch.nn import Linear, Module


@dataclass(frozen=True, kw_only=True)
class StructuredSelfPinching(SelfPinching):
    """Removes heads and channels below thresholds that are learnt with them, physically."""

    takes_heads = True

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for gates on what is not there."""
        return gated_sizes.obstacle(config, stem=False) or super().obstacle(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many parameters go; the config takes the same share of heads and channels.

        What the gates decide differs from that config in shape, and in size by half a channel.
        """
        return gated_sizes.sizing(config, ratio, stem=False)

    def gated(self, model: Module) -> list[Linear]:
        """Put gates on the matrices that read the units; return them: heads, channels, heads …"""
        from speech_pareto.compression.parts.self_pinching_gates import gate_units

        return gate_units(model, self.pace, self.gate_rate)

    def temperature(self, progress: float) -> float:
        """Return τ after a share `progress` of the steps."""
        from speech_pareto.compression.parts.self_pinching_gates import turning

        return turning(progress)

    def prune(self, model: Module, linears: list[Linear], sizing: Sizing) -> None:
        """Take the gates off and remove the lowest units, one of each stays in every layer."""
        from speech_pareto.compression.parts import self_pinching_gates as gates

        sizes = [size for _, size in gates.units_of(model, model.encoder.layers[0])]
        margins = [gates.release(linear) for linear in linears]
        gates.remove_lowest(model, margins[::2], margins[1::2], sizes, sizing.knobs["removed"])
