"""Hard-concrete gates on heads and feed-forward rows, and the size that a model has with them.

    s = σ((log u − log(1 − u) + log α) / β),  u ~ U(0, 1);  z = clamp(s (1 + 2 γ) − γ, 0, 1)
    P(z > 0) = σ(log α − β log(γ / (1 + γ))),  β = 2/3, γ = 0.1

Louizos et al., ICLR 2018, https://arxiv.org/abs/1712.01312: z is exactly 0 or 1 with positive
probability, and the expected size has a gradient.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from speech_pareto.models import architecture
from speech_pareto.models.backbone import describe
from speech_pareto.models.surgery import dimensions, linear, matrix

BETA, GAMMA = 2 / 3, 0.1
NOISE = 0.01  # spread of the first log α


class Gates(nn.Module):
    """One gate for each unit of a group; each forward pass draws them anew.

    Their log α (units,) is learnt at the `rate` given, without weight decay, which would pull it
    towards a coin's toss.
    """

    def __init__(self, count: int, drop: float, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        start = math.log(1 - drop) - math.log(drop)
        noise = NOISE * torch.randn(count, generator=generator)
        self.log_alpha = nn.Parameter(start + noise)
        self.optimiser = {"lr": rate, "weight_decay": 0.0}

    def forward(self) -> Tensor:
        """Return a draw of z (units,)."""
        draw = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6)
        soft = ((draw.logit() + self.log_alpha) / BETA).sigmoid()
        return (soft * (1 + 2 * GAMMA) - GAMMA).clamp(0, 1)

    def open(self) -> Tensor:
        """Return P(z > 0) of each unit (units,)."""
        return (self.log_alpha - BETA * math.log(GAMMA / (1 + GAMMA))).sigmoid()

    def strength(self) -> Tensor:
        """Return what a unit that stays is multiplied by, σ(0.8 log α / β) (units,).

        The factor stands in for the mean of z, as in Wang et al., EMNLP 2020,
        https://arxiv.org/abs/1910.04732, and in DPHuBERT.
        """
        return (0.8 * self.log_alpha / BETA).sigmoid()

    def rank(self) -> Tensor:
        """Return log α (units,): the lowest go first."""
        return self.log_alpha.detach()


class Control(nn.Module):
    """Drives the share of the parameters that gates remove, `sparsity()`, to a target that rises.

    `multipliers` are λ1 and λ2; they ascend at `rate`, so what lowers the loss for all other
    parameters raises it for these.
    """

    sparsity: Callable[[], Tensor]

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.multipliers = nn.Parameter(torch.zeros(2))
        self.optimiser = {"lr": rate, "weight_decay": 0.0, "maximize": True}
        self.register_buffer("passed", torch.tensor(0))  # steps: a checkpoint must hold them

    def prepare(self) -> None:
        """Make the gates ready for the forward pass of a step, from what checkpoints hold."""

    def penalty(self, target: float, ramp: float) -> Tensor:
        """Return λ1 (S − S*) + λ2 (S − S*)²; S* is at `target` once `ramp` steps have passed."""
        risen = (self.passed / ramp).clamp(max=1) if ramp else 1.0
        excess = self.sparsity() - target * risen
        first, second = self.multipliers
        return first * excess + second * excess.square()

    def follow(self, loss: Tensor) -> None:
        """Count a step that has passed, whatever its loss."""
        self.passed += 1


class Gating(Control):
    """Gates on the heads and the feed-forward rows of each layer of a backbone.

    `gates(layer, kind, count)` makes those of a layer's heads (`kind` 0) or rows (1): `Gates`, or
    what has their methods. `heads` and `rows` are lists of them, one for each layer; `head_sizes`
    and `row_sizes` say how many parameters one unit stands for. `stem` are `ChannelGates`, if the
    stem has gates, too.
    """

    def __init__(
        self,
        backbone: nn.Module,
        gates: Callable[[nn.Module, int, int], nn.Module],
        rate: float,
        stem: nn.Module | None = None,
    ) -> None:
        super().__init__(rate)
        self.stem = stem
        config = describe(backbone)
        shapes, self.total = architecture.layers_of(config), architecture.remaining(config)
        self.head_sizes = [architecture.head_parameters(config, shape) for shape in shapes]
        self.row_sizes = [architecture.row_parameters(config, shape) for shape in shapes]
        self.sizes = self.head_sizes[0], self.row_sizes[0]
        layers = list(zip(backbone.encoder.layers, shapes, strict=True))
        self.heads = nn.ModuleList(gates(layer, 0, len(shape.heads)) for layer, shape in layers)
        self.rows = nn.ModuleList(gates(layer, 1, shape.ffn) for layer, shape in layers)
        self.handles = []
        for layer, heads, rows in zip(backbone.encoder.layers, self.heads, self.rows, strict=True):
            hooks = {"out_proj": _gate(heads, dimensions(layer)[1])}
            hooks |= {"output_dense": _gate(rows, 1)}
            self.handles += [
                matrix(layer, name).register_forward_pre_hook(hook) for name, hook in hooks.items()
            ]

    def sparsity(self) -> Tensor:
        """Return the expected share of the parameters that the gates remove, a scalar."""
        groups = zip([*self.heads, *self.rows], [*self.head_sizes, *self.row_sizes], strict=True)
        gone = sum(size * (1 - gates.open()).sum() for gates, size in groups)
        return (gone + (self.stem.expected_saving() if self.stem else 0)) / self.total

    def ranks(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return a rank of heads and of rows, a tensor for each layer: the lowest go first."""
        return [own.rank() for own in self.heads], [own.rank() for own in self.rows]

    def detach(self, backbone: nn.Module) -> None:
        """Take the gates off `backbone`, their strengths multiplied into its weights."""
        if self.stem:
            self.stem.detach(backbone)
        for handle in self.handles:
            handle.remove()
        for layer, heads, rows in zip(backbone.encoder.layers, self.heads, self.rows, strict=True):
            strengths = heads.strength().repeat_interleave(dimensions(layer)[1])
            for name, factor in {"out_proj": strengths, "output_dense": rows.strength()}.items():
                module = matrix(layer, name)
                first = module if isinstance(module, nn.Linear) else module.down
                first.weight.data.mul_(factor.detach())  # (outputs, inputs) * (inputs)


class MappedStudent(nn.Module):
    """A backbone, maps from its states to the teacher's, and perhaps gates: what is trained.

    `maps` are two linear maps that begin as the identity, for layer 0 and for all others.
    """

    def __init__(self, backbone: nn.Module, gating: Control | None = None) -> None:
        super().__init__()
        self.backbone, self.gating = backbone, gating
        self.config, self.preprocessor = backbone.config, backbone.preprocessor
        width = backbone.config.hidden_size
        self.maps = nn.ModuleList(linear(torch.eye(width), torch.zeros(width)) for _ in range(2))


def _gate(gates: nn.Module, width: int) -> Callable[[nn.Module, tuple], tuple]:
    """Return a hook that multiplies a matrix's input by gates, each over `width` features."""

    def hook(module: nn.Module, inputs: tuple) -> tuple:
        drawn = gates().repeat_interleave(width)
        return (inputs[0] * drawn.to(inputs[0].dtype), *inputs[1:])

    return hook
