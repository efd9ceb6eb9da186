"""Self-pinching gates: a threshold, learnt with the weights, decides which of them are there.

    soft gate  g = σ((s − t²) / τ),   hard gate  m = 1[s > t²]

The forward pass multiplies by m, the backward pass takes the gradient of g (straight-through).
Scores s are those of single weights or of whole units. Xu et al., Interspeech 2025,
https://arxiv.org/abs/2505.22608.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speech_pareto.models import architecture
from speech_pareto.models.surgery import keep_heads, keep_rows, linears, matrix, shape_of, weight

UNITS = architecture.ATTENTION, architecture.FFN  # matrices of heads and of rows
WARM, COLD = 0.5, 0.01  # τ
TURN = 0.3  # share of the steps in which τ falls, for units
START = 1e-5  # t at first: nothing is pruned
FLOOR = 1e-5  # score of a layer's lowest unit


class Gate(nn.Module):
    """Parametrisation of weights (outputs, inputs[, taps]): what scores t² or less is zero.

    `scores` maps the matrix to the score of each of its entries, or to scores (units,) of as many
    groups of successive columns; what has one score is `size` parameters. t = pace · u, and u is
    what is learnt: AdamW moves each parameter by about the learning rate, so `pace` lets t cross
    the scores within a short run. It is `reach` times the root mean square of √s, so that all
    weights scaled by a factor are pruned alike. With a `rate`, t itself is what is learnt, at that
    rate; without weight decay, as the published code has none.
    """

    def __init__(
        self,
        matrix: Tensor,
        scores: Callable[[Tensor], Tensor] = torch.square,
        size: float = 1.0,
        reach: float = 1.0,
        rate: float | None = None,
    ) -> None:
        super().__init__()
        with torch.no_grad():
            mean = scores(matrix).mean()
        self.scores, self.size = scores, size
        self.pace = reach * mean.sqrt().item() if rate is None else 1.0
        if rate is not None:
            self.optimiser = {"lr": rate, "weight_decay": 0.0}
        self.raw = nn.Parameter(mean.new_tensor(START / self.pace))
        self.temperature = 0.5

    @property
    def threshold(self) -> Tensor:
        """The threshold t, a scalar."""
        return self.pace * self.raw

    def soft(self, scores: Tensor) -> Tensor:
        """Return the soft gates of scores."""
        return ((scores - self.threshold.square()) / self.temperature).sigmoid()

    def hard(self, scores: Tensor) -> Tensor:
        """Return the hard gates of scores, 0 or 1, with the gradient of the soft ones."""
        soft = self.soft(scores)
        return (scores > self.threshold.square()).to(soft.dtype) + (soft - soft.detach())

    def forward(self, matrix: Tensor) -> Tensor:
        """Return the weights that the forward pass uses."""
        gates = self.hard(self.scores(matrix))
        if gates.dim() == 1:  # of units
            gates = gates.repeat_interleave(matrix.shape[1] // len(gates))
            gates = gates.view(-1, *[1] * (matrix.dim() - 2))
        return matrix * gates


def gate(linear: nn.Module, *arguments, **settings) -> None:
    """Put a gate on the weights of a linear layer or a convolution."""
    own = Gate(linear.weight, *arguments, **settings)
    parametrize.register_parametrization(linear, "weight", own)


def kept(linears: Sequence[nn.Module]) -> tuple[Tensor, float]:
    """Return how many parameters the gates keep, differentiable, and how many they rule over."""
    number, total = 0.0, 0.0
    for linear in linears:
        own, scores = read(linear)
        number = number + own.size * own.hard(scores).sum()
        total += own.size * scores.numel()
    return number, total


def dead_band(share: Tensor, goal: float, band: float) -> Tensor:
    """Return ±share, with its gradient, where it is above `goal` or below `goal - band`, else 0."""
    above, below = share.detach() > goal, share.detach() < goal - band
    return share * (above.to(share.dtype) - below.to(share.dtype))


def set_temperature(linears: Sequence[nn.Module], temperature: float) -> None:
    """Set τ of all gates."""
    for linear in linears:
        linear.parametrizations.weight[0].temperature = temperature


def release(linear: nn.Module) -> Tensor:
    """Take the gate off a linear layer; return s / t² of each score, above 1 for what it kept."""
    own, scores = read(linear)
    square = own.threshold.detach().square()
    margins = scores.detach() / square.clamp_min(torch.finfo(square.dtype).tiny)
    parametrize.remove_parametrizations(linear, "weight", leave_parametrized=False)
    return margins


def read(linear: nn.Module) -> tuple[Gate, Tensor]:
    """Return the gate of a linear layer and the scores of its weights."""
    own = linear.parametrizations.weight[0]
    return own, own.scores(linear.parametrizations.weight.original)


def unit_scores(
    inner: Sequence[nn.Module], outer: nn.Module, units: int
) -> Callable[[Tensor], Tensor]:
    """Return the function from the weights that read `units` to the scores (units,) in [0, 1].

    Unit i has the i-th group of rows of the matrices `inner` and of columns of `outer`. What reads
    them is the weight of `outer`, or of its `down` once it is factorised.
    """

    def scores(reading: Tensor) -> Tensor:
        columns = outer.up.weight @ reading if hasattr(outer, "up") else reading
        squares = columns.square().sum(0) + sum(weight(x).square().sum(1) for x in inner)
        return stretched(squares.unflatten(0, (units, -1)).sum(1))

    return scores


def stretched(raw: Tensor) -> Tensor:
    """Return the scores of a layer's units (units,), from FLOOR up to about 1."""
    low, high = raw.aminmax()
    return (raw - low) / (high - low).clamp_min(torch.finfo(raw.dtype).tiny) + FLOOR


def units_of(model: nn.Module, layer: nn.Module) -> list[tuple[int, int]]:
    """Return how many heads and rows a layer has, each with the parameters of one."""
    config, shape = model.config.to_dict(), shape_of(layer)
    return [
        (len(shape.heads), architecture.head_parameters(config, shape)),
        (shape.ffn, architecture.row_parameters(config, shape)),
    ]


def gate_units(model: nn.Module, reach: float, rate: float | None) -> list[nn.Linear]:
    """Put gates on the matrices that read units; return them: heads, rows, heads … by layer."""
    found = []
    for layer in model.encoder.layers:
        for names, (units, size) in zip(UNITS, units_of(model, layer), strict=True):
            *inner, outer = (matrix(layer, name) for name in names)
            linear = getattr(outer, "down", outer)
            gate(linear, unit_scores(inner, outer, units), size, reach, rate)
            found.append(linear)
    return found


def gate_weights(model: nn.Module, reach: float, rate: float | None) -> list[nn.Linear]:
    """Put gates on the single weights of all matrices of a model's layers; return these."""
    found = [linear for layer in model.encoder.layers for linear in linears(layer).values()]
    for linear in found:
        gate(linear, reach=reach, rate=rate)
    return found


def temperature(progress: Any) -> Any:
    """Return τ after a share `progress` of its fall, a number or a tensor."""
    cosine = torch.cos if isinstance(progress, Tensor) else math.cos
    return COLD + (WARM - COLD) * (1 + cosine(math.pi * progress)) / 2


def turning(progress: Any) -> Any:
    """Return τ after a share `progress` of the steps, in which it falls and then rises again."""
    lesser = torch.minimum if isinstance(progress, Tensor) else min
    return temperature(lesser(progress / TURN, (1 - progress) / (1 - TURN)))


def split(
    heads: Sequence[Tensor], rows: Sequence[Tensor], sizes: Sequence[int], removed: int
) -> tuple[int, int]:
    """Return how many heads and rows go when the lowest of both together go, `removed` parameters.

    `heads` and `rows` are margins, a tensor per layer, `sizes` the parameters of one of each. The
    highest of each layer stay. What whole heads miss, rows make up.
    """
    spare = [torch.cat([x.sort().values[:-1] for x in kind]) for kind in (heads, rows)]
    is_head = torch.cat(spare).argsort(stable=True) < len(spare[0])
    gone = torch.where(is_head, *sizes).cumsum(0)
    number = int((is_head & (gone <= removed)).sum())
    least = math.ceil((removed - len(spare[1]) * sizes[1]) / sizes[0])  # if all rows go
    number = min(max(number, least), len(spare[0]))
    return number, min(round((removed - number * sizes[0]) / sizes[1]), len(spare[1]))


def highest(margins: Sequence[Tensor], gone: int) -> list[Tensor]:
    """Return the places in each layer that are left when the `gone` lowest of all layers go."""
    safe = [margin.index_fill(0, margin.argmax(), torch.inf) for margin in margins]
    stays = torch.ones(sum(map(len, margins)), dtype=torch.bool)
    stays[torch.cat(safe).argsort(stable=True)[:gone].cpu()] = False
    return [part.nonzero()[:, 0] for part in stays.split([len(margin) for margin in margins])]


def remove_lowest(
    model: nn.Module,
    heads: Sequence[Tensor],
    rows: Sequence[Tensor],
    sizes: Sequence[int],
    removed: int,
) -> None:
    """Remove the lowest heads and rows of a model physically, as `split` says."""
    fewer_heads, fewer_rows = split(heads, rows, sizes, removed)
    kept = zip(highest(heads, fewer_heads), highest(rows, fewer_rows), strict=True)
    for layer, (head_places, row_places) in zip(model.encoder.layers, kept, strict=True):
        keep_heads(layer, [layer.attention.heads[place] for place in head_places.tolist()])
        keep_rows(layer, row_places)
