"""Weights of 2 to 8 bits: whole numbers with a scale for each group, unpacked when they are used.

    W[i, j] ≈ s (q[i, j] − z),  q in 0 … 2^b − 1

s and z belong to row i and to the group of column j; without zero points z = 2^(b − 1). Or numbers
name levels of their row, in any places: W[i, j] ≈ c[i, q[i, j]]. Files hold the numbers packed
(`storage.planes`), s, z and c in fp16; in memory a number takes a byte. No product is of few bits:
the weights that a layer applies are fp32, made anew in each pass.

Training rounds fp32 weights in each forward pass, and gradients pass straight through the rounding.
The scales are learnt, too (Esser et al., LSQ, ICLR 2020, https://arxiv.org/abs/1902.08153), each as
a factor of what it was, since Adam's steps do not know how small a scale is. Of levels, these are
learnt instead of the weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speech_pareto.models import storage


class Grid(NamedTuple):
    """What numbers of `bits` bits stand for: scales and zero points, both (rows, groups)."""

    bits: int
    scale: Tensor
    zero: Tensor | None = None  # None: the middle

    def steps(self, weights: Tensor) -> Tensor:
        """Return weights (rows, …) in steps of the grid, not rounded: (rows, groups, columns)."""
        return grouped(weights, self.scale.shape[1]) / self._scale() + self._zero()

    def nearest(self, weights: Tensor) -> Tensor:
        """Return the nearest steps that are numbers of the grid, (rows, groups, columns)."""
        return self.steps(weights).round().clamp(0, 2**self.bits - 1)

    def weights(self, numbers: Tensor) -> Tensor:
        """Return the weights that numbers stand for, in fp32."""
        return self.values(grouped(numbers.float(), self.scale.shape[1]), numbers.shape)

    def tensors(self) -> dict[str, Tensor | None]:
        """Return what a file holds beside the numbers, by name."""
        return {"scale": self.scale.detach().half(), "zero": self.zero}

    def values(self, steps: Tensor, shape: torch.Size) -> Tensor:
        """Return the weights, of this shape, that steps stand for; in fp32."""
        return ungrouped((steps - self._zero()) * self._scale(), shape)

    def numbers(self, weights: Tensor) -> Tensor:
        """Return the nearest numbers in uint8, of the shape of `weights`."""
        return ungrouped(self.nearest(weights), weights.shape).to(torch.uint8)

    def rounded(self, weights: Tensor) -> Tensor:
        """Return the nearest weights of the grid; gradients pass straight through the rounding."""
        steps = self.steps(weights).clamp(0, 2**self.bits - 1)
        steps = steps + (steps.round() - steps).detach()
        return self.values(steps, weights.shape)

    def column(self, index: int, columns: int, weights: Tensor) -> Tensor:
        """Return weights (rows,) of column `index` of `columns`, rounded to the grid."""
        group = index // -(-columns // self.scale.shape[1])
        zero = None if self.zero is None else self.zero[:, group, None]
        own = Grid(self.bits, self.scale[:, group, None], zero)
        return own.values(own.nearest(weights[:, None]), weights[:, None].shape)[:, 0]

    def _scale(self) -> Tensor:
        return self.scale.float()[..., None]

    def _zero(self) -> Tensor | int:
        return 2 ** (self.bits - 1) if self.zero is None else self.zero.float()[..., None]


class Codebook(NamedTuple):
    """What numbers of `bits` bits stand for: levels (rows, 2^bits), ascending."""

    bits: int
    levels: Tensor

    def numbers(self, weights: Tensor) -> Tensor:
        """Return the numbers of the nearest levels in uint8, of the shape of `weights`."""
        levels = self.levels.float()
        between = (levels[:, 1:] + levels[:, :-1]) / 2
        found = torch.searchsorted(between.contiguous(), weights.float().flatten(1).contiguous())
        return found.to(torch.uint8).reshape(weights.shape)

    def weights(self, numbers: Tensor) -> Tensor:
        """Return the weights that numbers stand for, in fp32; gradients reach the levels."""
        found = self.levels.float().gather(1, numbers.flatten(1).long())
        return found.reshape(numbers.shape)

    def tensors(self) -> dict[str, Tensor | None]:
        """Return what a file holds beside the numbers, by name."""
        return {"levels": self.levels.detach().half()}


def grouped(weights: Tensor, groups: int) -> Tensor:
    """Return weights (rows, …) as (rows, groups, columns), with zeros at the end of the last."""
    rows = weights.flatten(1)
    size = -(-rows.shape[1] // groups)
    return nn.functional.pad(rows, (0, groups * size - rows.shape[1])).unflatten(1, (groups, size))


def ungrouped(groups: Tensor, shape: torch.Size) -> Tensor:
    """Return weights of this shape from (rows, groups, columns)."""
    return groups.flatten(1)[:, : shape[1:].numel()].reshape(shape)


def grid(weights: Tensor, bits: int, group: int | None, zero_point: bool) -> Grid:
    """Return the grid between the least and the greatest weight (and 0) of each group of a row.

    With zero points it reaches from one to the other, without them as far to both sides of 0 as
    the larger. Scale and zero points are those of fp16, as a file holds them.
    """
    rows = grouped(weights.detach().float(), storage.groups(weights[0].numel(), group))
    low, high = rows.amin(-1).clamp_max(0), rows.amax(-1).clamp_min(0)
    if not zero_point:
        high = torch.maximum(high, -low)
        low = -high
    least = torch.finfo(torch.float16).smallest_normal  # of a group of zeros
    scale = ((high - low) / (2**bits - 1)).clamp_min(least).half()
    return Grid(bits, scale, (-low / scale.float()).round().half() if zero_point else None)


class Packed:
    """A layer that holds `numbers` (uint8, of its weights' shape), and what they stand for."""

    kind: type[Grid | Codebook]
    bits: int
    numbers: Tensor

    @property
    def grid(self) -> Grid | Codebook:
        """Return what the numbers stand for."""
        return self.kind(self.bits, **self._buffers)  # type: ignore[attr-defined]

    @property
    def weight(self) -> Tensor:
        """Return the weights in fp32; torch's own `forward` asks for them."""
        return self.grid.weights(self.numbers)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[misc]
        destination[f"{prefix}numbers"] = pack(self.numbers, self.bits)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest, **named) -> None:
        name = f"{prefix}numbers"
        if name in state:
            state[name] = unpack(state[name], self.bits, self.numbers.shape)
        super()._load_from_state_dict(state, prefix, *rest, **named)  # type: ignore[misc]


class PackedLinear(Packed, nn.Linear):
    """A linear layer with weights of few bits."""


class PackedConv1d(Packed, nn.Conv1d):
    """A convolution with weights of few bits."""


class PackedConvTranspose1d(Packed, nn.ConvTranspose1d):
    """A transposed convolution with weights of few bits."""


KINDS = {nn.Linear: PackedLinear, nn.Conv1d: PackedConv1d}
KINDS[nn.ConvTranspose1d] = PackedConvTranspose1d


def pack(numbers: Tensor, bits: int) -> Tensor:
    """Return numbers of `bits` bits in as few bytes as `storage.packed_bytes` says, (bytes,)."""
    flat, parts = numbers.flatten(), []
    for width in storage.planes(bits):
        bits -= width
        plane = flat >> bits & 2**width - 1
        plane = nn.functional.pad(plane, (0, -len(flat) % (8 // width)))
        plane = plane.unflatten(0, (-1, 8 // width))
        shifts = torch.arange(0, 8, width, device=flat.device)
        parts.append((plane << shifts).sum(1).to(torch.uint8))
    return torch.cat(parts)


def unpack(packed: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """Return the numbers of `bits` bits that `pack` has packed, in uint8."""
    total, start = shape.numel(), 0
    found = torch.zeros(total, dtype=torch.int64, device=packed.device)
    for width in storage.planes(bits):
        bits -= width
        size = storage.packed_bytes(total, width)
        shifts = torch.arange(0, 8, width, device=packed.device)
        plane = packed[start : start + size, None] >> shifts & 2**width - 1
        found |= plane.flatten()[:total] << bits
        start += size
    return found.to(torch.uint8).reshape(shape)


def round_weights(module: nn.Module, own: Grid | Codebook) -> None:
    """Turn a linear or convolutional layer into one with weights of few bits, in place.

    They are the numbers of the grid `own` that are nearest to its weights.
    """
    _packed(module, own.numbers(module.weight.detach()), own)


def shape(model: nn.Module, section: dict, bits: dict[str, int]) -> None:
    """Give a model on the meta device the layers with few bits that a config states, in place."""
    for name, own in bits.items():
        module = model.get_submodule(name)
        weight = module.weight
        half = {"dtype": torch.float16, "device": "meta"}
        if section.get("levels"):
            grid: Grid | Codebook = Codebook(own, torch.empty(len(weight), 2**own, **half))
        else:
            groups = storage.groups(weight[0].numel(), section["group"])
            scale = torch.empty(len(weight), groups, **half)
            grid = Grid(own, scale, scale.clone() if section["zero_point"] else None)
        _packed(module, weight.detach().to(torch.uint8), grid)


def packed(model: nn.Module) -> dict[str, Any]:
    """Return the layers with weights of few bits, by name."""
    return {name: x for name, x in model.named_modules() if isinstance(x, Packed)}


def hold_in_fp32(model: nn.Module) -> dict[str, nn.Module]:
    """Turn weights of few bits into fp32 that are rounded in each pass, so that they can train.

    Returns these layers by name, for `pack_again`.
    """
    found = packed(model)
    for module in found.values():
        own, numbers = module.grid, module.numbers
        weight = nn.Parameter(module.weight)
        del module.numbers, module.bits, module.kind
        module._buffers.clear()
        module.__class__ = _kind(module)
        module.weight = weight
        rounding = Rounding(own) if isinstance(own, Grid) else Shared(own, numbers)
        parametrize.register_parametrization(module, "weight", rounding, unsafe=True)
    return found


def pack_again(modules: dict[str, nn.Module]) -> None:
    """Round layers for good that `hold_in_fp32` has turned into fp32."""
    for module in modules.values():
        own = module.parametrizations.weight
        round_weights(module, own[0].grid(own.original))  # on which its weights lie


class Rounding(nn.Module):
    """Rounds weights to a grid whose scales are learnt; gradients pass straight through."""

    def __init__(self, own: Grid) -> None:
        super().__init__()
        self.bits = own.bits
        self.register_buffer("scale", own.scale)
        self.register_buffer("zero", own.zero)
        self.stretch = nn.Parameter(torch.ones_like(own.scale, dtype=torch.float32))

    def grid(self, _: Tensor | None = None) -> Grid:
        """Return the grid as it now stands; its scales are those of fp16."""
        scale = self.scale.float() * self.stretch.clamp_min(0.01)
        return Grid(self.bits, scale + (scale.half().float() - scale).detach(), self.zero)

    def forward(self, weights: Tensor) -> Tensor:
        """Return the nearest values of the grid, of the shape of `weights`."""
        return self.grid().rounded(weights)


class Shared(nn.Module):
    """Weights that stay at their levels; what is trained in their place are the levels.

    Han et al., Deep Compression, ICLR 2016, https://arxiv.org/abs/1510.00149, section 3.2.
    """

    def __init__(self, own: Codebook, numbers: Tensor) -> None:
        super().__init__()
        self.bits, self.first = own.bits, own.levels.float()
        self.register_buffer("numbers", numbers.detach())

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return the levels (rows, levels) that are trained."""
        return self.first

    def forward(self, levels: Tensor) -> Tensor:
        """Return the weights."""
        return Codebook(self.bits, levels).weights(self.numbers)

    def grid(self, levels: Tensor) -> Codebook:
        """Return the levels as they now stand, ascending."""
        return Codebook(self.bits, levels.detach().sort(1).values.half())


def _packed(module: nn.Module, numbers: Tensor, own: Grid | Codebook) -> None:
    """Make `module` a layer of these numbers, in place.

    What computes its weights (weight norm, `Rounding`) goes, too; not by way of torch, which would
    change the class of all copies of the module.
    """
    if module._modules.pop("parametrizations", None) is None:
        del module.weight
    module.__class__ = KINDS[_kind(module)]
    module.kind, module.bits = type(own), own.bits
    module.numbers = nn.Parameter(numbers, requires_grad=False)
    for name, tensor in own.tensors().items():
        module.register_buffer(name, tensor)


def _kind(module: nn.Module) -> type[nn.Module]:
    """Return torch's own class of a layer."""
    return next(kind for kind in KINDS if isinstance(module, kind))
