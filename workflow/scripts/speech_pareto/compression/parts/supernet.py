"""A supernet and its subnets, whose tensors are parts of the supernet's.

They are its first rows and columns; of the feed-forward rows, the first of each of `SPLITS` blocks.
The position convolution is normalised whole, then cut. Both as in the code of LightHuBERT,
https://arxiv.org/abs/2203.15610. Which subnets there are follows from a config alone; planning
needs no torch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, product
from math import lcm
from typing import TYPE_CHECKING, Any, NamedTuple

from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# Shares of the teacher's width and heads, of its rows per width, and of its layers that may go.
SPACES = {
    "base": ((2 / 3, 5 / 6, 1), (7 / 8, 1), 0),
    "small": ((1 / 3, 1 / 2, 2 / 3), (3 / 4, 7 / 8, 1), 1 / 6),
}
SPLITS = 4  # blocks of feed-forward rows
POSITION = "encoder.pos_conv_embed.conv.parametrizations.weight"  # length per tap, and direction


def supernet_config(config: Mapping) -> dict:
    """Return the config of the supernet, from the teacher's."""
    kind = {"model_type": "hubert"} if config["model_type"] == "wavlm" else {}
    return {**config, **kind, "layerdrop": 0.0}  # the subnet says which layers run


class Subnet(NamedTuple):
    """A nested model: its width, the supernet's layers in it, and heads and rows of each."""

    width: int
    layers: Sequence[int]
    heads: Sequence[int]
    ffn: Sequence[int]

    def shape(self, config: Mapping) -> dict:
        """Return its config, from the teacher's or the supernet's."""
        heads = self.width // architecture.head_dim(config)
        thin = supernet_config(config) | {"hidden_size": self.width, "num_attention_heads": heads}
        pairs = zip(self.heads, self.ffn, strict=True)
        layers = [architecture.Layer(tuple(range(heads)), rows) for heads, rows in pairs]
        return architecture.with_layers(thin, layers)


def whole(numbers: Iterable[float]) -> list[int]:
    """Return whole numbers of at least 1, ascending, each once."""
    return sorted({max(1, round(number)) for number in numbers})


def mixtures(choices: Sequence[int], depth: int) -> list[tuple[int, bool, list[int]]]:
    """Return ways to give each of `depth` layers one of two neighbouring choices, least first.

    Earlier layers get the greater; with each way go its sum and whether layers differ.
    """
    steps = product(pairwise(choices), range(depth))
    ways = [[above] * index + [below] * (depth - index) for (below, above), index in steps]
    ways.append([choices[-1]] * depth)
    return [(sum(way), way[0] != way[-1], way) for way in ways]


class Space:
    """What subnets of a teacher may be made of: ascending numbers, rows by width."""

    def __init__(self, name: str, config: Mapping) -> None:
        config, (shares, expansions, spare) = architecture.complete(config), SPACES[name]
        hidden, self.total = config["hidden_size"], config["num_hidden_layers"]
        self.head_dim = architecture.head_dim(config)
        step = lcm(self.head_dim, config["num_conv_pos_embedding_groups"])
        self.heads = whole(share * config["num_attention_heads"] for share in shares)
        self.widths = [step * number for number in whole(share * hidden / step for share in shares)]
        rows = config["intermediate_size"] / hidden
        self.rows = {width: whole(x * rows * width for x in expansions) for width in self.widths}
        self.depths = range(self.total - round(spare * self.total), self.total + 1)

    def layers(self, depth: int) -> list[int]:
        """Return which layers a subnet of `depth` has."""
        ends = [self.total, 2 * self.total // 3, self.total // 3]
        gone = {ends[i % 3] - 1 - i // 3 for i in range(self.total - depth)}
        return [index for index in range(self.total) if index not in gone]

    def draw(self) -> Subnet:
        """Return any subnet, after torch's seed."""
        import torch

        def pick(options: Sequence[int]) -> int:
            return options[int(torch.randint(len(options), ()))]

        width, layers = pick(self.widths), self.layers(pick(self.depths))
        heads = [pick(self.heads) for _ in layers]
        return Subnet(width, layers, heads, [pick(self.rows[width]) for _ in layers])

    def nearest(self, config: Mapping, target: float, near: float) -> tuple[tuple, Subnet]:
        """Return the most regular subnet within `near` of `target` parameters, and its rank.

        The rank, the lower the better, says what regular is; where none is near, the nearest wins.
        """
        best: Any = None
        for width, depth in product(self.widths, self.depths):
            layers, heads = self.layers(depth), mixtures(self.heads, depth)
            rows = mixtures(self.rows[width], depth)
            student = Subnet(width, layers, heads[0][-1], rows[0][-1]).shape(config)
            layer = architecture.layers_of(student)[0]
            head = architecture.head_parameters(student, layer)
            row = architecture.row_parameters(student, layer)
            rest = architecture.remaining(student) - heads[0][0] * head - rows[0][0] * row
            for (some, uneven, own), (inner, rough, ffn) in product(heads, rows):
                miss = abs(rest + some * head + inner * row - target)
                odd = abs(some * self.head_dim - depth * width)
                rank = (max(miss, near), uneven + rough, odd, miss)
                if best is None or rank < best[0]:
                    best = rank, Subnet(width, layers, own, ffn)
        return best


def views(model: Module, nested: Module, layers: Sequence[int]) -> dict[str, Tensor]:
    """Return the tensors of `nested` by name, made of those of `model`; gradients reach these.

    Layer i of `nested` is layer `layers[i]` of `model`.
    """
    own, found = model.state_dict(keep_vars=True), {}
    for name, tensor in nested.state_dict().items():
        parts = name.split(".")
        if parts[:2] == ["encoder", "layers"]:
            parts[2] = str(layers[int(parts[2])])
        whole, sizes = own[".".join(parts)], tensor.shape
        if "intermediate_dense" in parts:  # (rows, width) or (rows,)
            whole = first_of_each_split(whole, sizes[0], 0)
        elif parts[-2:] == ["output_dense", "weight"]:  # (width, rows)
            whole = first_of_each_split(whole, sizes[1], 1)
        found[name] = whole[tuple(map(slice, sizes))]
    if f"{POSITION}.original0" in found:  # the lengths of what is cut out of the normalised weights
        pairs = (own, found)
        norms = [x[f"{POSITION}.original1"].norm(dim=(0, 1), keepdim=True) for x in pairs]
        found[f"{POSITION}.original0"] = own[f"{POSITION}.original0"] * norms[1] / norms[0]
    return found


def first_of_each_split(whole: Tensor, kept: int, dim: int) -> Tensor:
    """Return `kept` rows or columns of a tensor: the first of each of `SPLITS` equal blocks."""
    import torch

    blocks = whole.tensor_split(SPLITS, dim)
    shares = [kept // SPLITS + (index < kept % SPLITS) for index in range(SPLITS)]
    parts = [block.narrow(dim, 0, n) for block, n in zip(blocks, shares, strict=True)]
    return torch.cat(parts, dim)


def cut(model: Module, config: Mapping, layers: Sequence[int]) -> Module:
    """Return the nested model that `config` describes, with tensors of its own."""
    import torch

    from speech_pareto.models.backbone import build

    nested = build(config)
    nested.feature_extractor = copy.deepcopy(model.feature_extractor)  # its constants too
    nested.preprocessor = model.preprocessor
    own = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in views(model, nested, layers).items()
    }
    nested.load_state_dict(own, assign=True)
    return nested


def run(
    model: Module, config: Mapping, layers: Sequence[int], batch: Mapping, mask: Tensor
) -> Tensor:
    """Return the last layer (B, T, D) of the nested model that `config` describes.

    Its mask vector replaces the frames in `mask` (B, T); gradients reach the parameters of `model`.
    """
    from torch.func import functional_call

    from speech_pareto.models.backbone import build
    from speech_pareto.models.spec_augment import masking

    nested = build(config).train(model.training)  # on the meta device: it holds no weights
    nested.feature_extractor = model.feature_extractor
    inputs = {key: batch[key] for key in ("input_values", "attention_mask")}
    inputs["mask_time_indices"] = mask
    with masking(nested, on=True):
        out = functional_call(nested, views(model, nested, layers), kwargs=inputs)
    return out.last_hidden_state
