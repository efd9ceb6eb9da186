"""Self-pinching gates while a student is distilled, as hard-concrete gates are.

The gates are those of `self_pinching_gates`, on whole units or on single weights; the share S that
they remove is driven to its target by the multipliers of `hard_concrete_gates`. τ falls from 0.5 to
0.01 along a cosine in the first 30 % of the steps and rises again; thresholds of units begin at the
root of the lowest score. As released in https://github.com/hanyxu/SASPG-pruning, after Xu et al.,
Interspeech 2025, https://arxiv.org/abs/2505.22608.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from speech_pareto.compression.parts import self_pinching_gates as gates
from speech_pareto.compression.parts.channel_gates import PinchedChannels
from speech_pareto.compression.parts.hard_concrete_gates import Control
from speech_pareto.models import architecture
from speech_pareto.models.backbone import describe

REACH = 5.0  # of a threshold over the training: 50,000 steps at 1e-4, as published


class Pinched(Control):
    """Gates on `linears` of a backbone, and perhaps on the channels of its `stem`.

    `rate` is the learning rate of λ, `steps` are those of the training.
    """

    def __init__(
        self,
        backbone: nn.Module,
        linears: Sequence[nn.Linear],
        rate: float,
        steps: int,
        stem: PinchedChannels | None = None,
    ) -> None:
        super().__init__(rate)
        self.total, self.steps = architecture.remaining(describe(backbone)), steps
        self.sizes = tuple(size for _, size in gates.units_of(backbone, backbone.encoder.layers[0]))
        # In tuples: the backbone's matrices are not this module's, too.
        self.linears, self.stem = tuple(linears), stem
        self.all = (*linears, *(stem.readers if stem else ()))

    def sparsity(self) -> Tensor:
        """Return the share of the parameters that the gates remove, a scalar with a gradient."""
        number, total = gates.kept(self.linears)
        channels = self.stem.expected_saving() if self.stem else 0.0
        return (total - number + channels) / self.total

    def prepare(self) -> None:
        """Set τ for the step."""
        gates.set_temperature(self.all, gates.turning(self.passed / self.steps))

    def detach(self, backbone: nn.Module) -> None:
        """Take the gates off `backbone`; what is left of them are their margins, s / t²."""
        self.margins = [gates.release(linear) for linear in self.linears]
        if self.stem:
            self.stem.detach()

    def ranks(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return s / t² of heads and of rows, a tensor for each layer, once the gates are off."""
        return self.margins[::2], self.margins[1::2]


def pinched_units(
    backbone: nn.Module, threshold_rate: float | None, rate: float, steps: int, stem: bool
) -> Pinched:
    """Return gates on heads and rows, with `stem` on its channels too, put on a backbone.

    Without a `threshold_rate`, thresholds can move by `REACH` in all `steps`.
    """
    threshold_rate = REACH / steps if threshold_rate is None else threshold_rate
    linears = gates.gate_units(backbone, 1.0, threshold_rate)
    channels = PinchedChannels(backbone, 1.0, threshold_rate) if stem else None
    made = Pinched(backbone, linears, rate, steps, channels)
    for linear in made.all:
        linear.parametrizations.weight[0].raw.data.fill_(math.sqrt(gates.FLOOR))
    return made
