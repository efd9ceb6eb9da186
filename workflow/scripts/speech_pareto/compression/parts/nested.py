"""A supernet and its subnets, whose tensors are parts of the supernet's.

Base of the methods that train one supernet, from which students of all ratios are cut: the rule
`train_supernet` does it once per teacher, recipe and seed. Which subnets there are follows from a
config alone; planning needs no torch.

A subnet has the first heads of each layer, and of its width and feed-forward rows the first of each
of so many equal blocks (`Slicing`). The position convolution is normalised whole, then cut.
"""

from __future__ import annotations

import copy
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.compression.targets import TOLERANCE
from speech_pareto.models import architecture
from speech_pareto.runtime import bounds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

POSITION = "encoder.pos_conv_embed.conv.parametrizations.weight"  # length per tap, and direction
READOUT = "readout.safetensors"


def supernet_config(config: Mapping) -> dict:
    """Return the config of the supernet, from the teacher's."""
    kind = {"model_type": "hubert"} if config["model_type"] == "wavlm" else {}
    return {**config, **kind, "layerdrop": 0.0}  # the subnet says which layers run


class Slicing(NamedTuple):
    """How many equal blocks there are of the width and of feed-forward rows."""

    width: int
    rows: int


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
    """What subnets of a teacher may be made of: ascending numbers, rows by width.

    Shares are those of the teacher's width, of its heads and of its rows per width; `spare` is the
    share of its layers that may go.
    """

    def __init__(
        self,
        config: Mapping,
        widths: Sequence[float],
        heads: Sequence[float],
        rows: Sequence[float],
        spare: float,
    ) -> None:
        config = architecture.complete(config)
        hidden, self.total = config["hidden_size"], config["num_hidden_layers"]
        self.head_dim = architecture.head_dim(config)
        step = lcm(self.head_dim, config["num_conv_pos_embedding_groups"])
        self.heads = whole(share * config["num_attention_heads"] for share in heads)
        self.widths = [step * number for number in whole(x * hidden / step for x in widths)]
        per = config["intermediate_size"] / hidden
        self.rows = {width: whole(x * per * width for x in rows) for width in self.widths}
        self.depths = range(self.total - round(spare * self.total), self.total + 1)

    def layers(self, depth: int) -> list[int]:
        """Return which layers a subnet of `depth` has: the last of each third goes first."""
        ends = [self.total, 2 * self.total // 3, self.total // 3]
        gone = {ends[i % 3] - 1 - i // 3 for i in range(self.total - depth)}
        return [index for index in range(self.total) if index not in gone]

    def subnet(self, pick: Callable[[Sequence[int]], int]) -> Subnet:
        """Return the subnet whose numbers `pick` takes out of those that there are."""
        width, layers = pick(self.widths), self.layers(pick(self.depths))
        heads = [pick(self.heads) for _ in layers]
        return Subnet(width, layers, heads, [pick(self.rows[width]) for _ in layers])

    def draw(self) -> Subnet:
        """Return any subnet, after torch's seed."""
        import torch

        return self.subnet(lambda options: options[int(torch.randint(len(options), ()))])

    def middle(self) -> Subnet:
        """Return the subnet that has the middle of all options."""
        return self.subnet(lambda options: options[len(options) // 2])

    def nearest(
        self, config: Mapping, target: float, near: float, order: Callable[..., tuple]
    ) -> tuple[tuple, Subnet]:
        """Return the first subnet within `near` of `target` parameters, else the nearest.

        `order(space, width, depth, heads, rows, unlike)`, of sums over layers and of whether these
        are unlike, says which comes first. With the subnet goes its rank, the lower the better.
        """
        best: Any = None
        for width, depth in product(self.widths, self.depths):
            layers, heads = self.layers(depth), mixtures(self.heads, depth)
            rows = mixtures(self.rows[width], depth)
            sums = [way[0] for way in rows]
            student = Subnet(width, layers, heads[0][-1], rows[0][-1]).shape(config)
            layer = architecture.layers_of(student)[0]
            head = architecture.head_parameters(student, layer)
            row = architecture.row_parameters(student, layer)
            rest = architecture.remaining(student) - heads[0][0] * head - rows[0][0] * row
            for some, uneven, own in heads:
                ideal, reach = (target - rest - some * head) / row, near / row
                start = max(0, bisect(sums, ideal - reach) - 1)
                for inner, rough, ffn in rows[start : bisect(sums, ideal + reach) + 1]:
                    miss = abs(rest + some * head + inner * row - target)
                    first = order(self, width, depth, some, inner, uneven + rough)
                    rank = (max(miss, near), *first, miss)
                    if best is None or rank < best[0]:
                        best = rank, Subnet(width, layers, own, ffn)
        return best


def views(
    model: Module, nested: Module, layers: Sequence[int], slicing: Slicing
) -> dict[str, Tensor]:
    """Return the tensors of `nested` by name, made of those of `model`; gradients reach these.

    Layer i of `nested` is layer `layers[i]` of `model`.
    """
    own, found = model.state_dict(keep_vars=True), {}
    for name, tensor in nested.state_dict().items():
        parts = name.split(".")
        if parts[:2] == ["encoder", "layers"]:
            parts[2] = str(layers[int(parts[2])])
        found[name] = own[".".join(parts)]
        within = parts[-2] if len(parts) > 1 else ""
        inner = 0 if within in (*architecture.ATTENTION[:3], architecture.FFN[0]) else 1  # its axis
        rows = slicing.rows if within in architecture.FFN else 1
        for axis, size in enumerate(tensor.shape):
            blocks = rows if axis == inner else slicing.width
            found[name] = first_of_each_block(found[name], size, axis, blocks)
    if f"{POSITION}.original0" in found:  # the lengths of what is cut out of the normalised weights
        pairs = (own, found)
        norms = [x[f"{POSITION}.original1"].norm(dim=(0, 1), keepdim=True) for x in pairs]
        found[f"{POSITION}.original0"] = own[f"{POSITION}.original0"] * norms[1] / norms[0]
    return found


def first_of_each_block(tensor: Tensor, kept: int, dim: int, blocks: int) -> Tensor:
    """Return `kept` rows or columns of a tensor: the first of each of so many equal blocks."""
    import torch

    if tensor.shape[dim] == kept:
        return tensor
    if blocks == 1:
        return tensor.narrow(dim, 0, kept)
    shares = [kept // blocks + (index < kept % blocks) for index in range(blocks)]
    pairs = zip(tensor.tensor_split(blocks, dim), shares, strict=True)
    return torch.cat([block.narrow(dim, 0, share) for block, share in pairs], dim)


def cut(model: Module, config: Mapping, layers: Sequence[int], slicing: Slicing) -> Module:
    """Return the nested model that `config` describes, with tensors of its own.

    A `readout` of the supernet, the map from what a narrower last layer gives to the teacher's, is
    cut as well.
    """
    import torch

    from speech_pareto.models.backbone import build

    nested = build(config)
    nested.feature_extractor = copy.deepcopy(model.feature_extractor)  # its constants too
    nested.preprocessor = model.preprocessor
    own = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in views(model, nested, layers, slicing).items()
    }
    nested.load_state_dict(own, assign=True)
    width, (weight, bias) = config["hidden_size"], getattr(model, "readout", (None, None))
    if weight is not None and width < len(weight):
        nested.readout = first_of_each_block(weight, width, 1, slicing.width), bias
    return nested


def run(
    model: Module,
    config: Mapping,
    layers: Sequence[int],
    slicing: Slicing,
    batch: Mapping,
    mask: Tensor | None = None,
) -> list[Tensor]:
    """Return the `states` of the nested model that `config` describes, (B, T, D) each.

    Its mask vector replaces the frames in `mask` (B, T); gradients reach the parameters of `model`.
    """
    from torch.func import functional_call

    from speech_pareto.models.backbone import build
    from speech_pareto.models.spec_augment import masking

    nested = build(config).train(model.training)  # on the meta device: it holds no weights
    nested.feature_extractor = model.feature_extractor
    inputs = {key: batch[key] for key in ("input_values", "attention_mask")}
    inputs |= {"mask_time_indices": mask, "output_hidden_states": True}
    with masking(nested, on=mask is not None):
        out = functional_call(nested, views(model, nested, layers, slicing), kwargs=inputs)
    return [*out.hidden_states[:-1], out.last_hidden_state]


@dataclass(frozen=True, kw_only=True)
class Nested(SelfSupervised):
    """Base of these methods; they define `spaces`, `order`, `slicing`, `work` and `grow`."""

    trains_once = True
    takes_heads = True
    example = {"steps": 2}
    steps: Annotated[int, bounds.Within(0, 10**9, unit="steps")] = 60
    batch_seconds: bounds.BatchSeconds = 48.0

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a teacher whose layers are not plain."""
        if architecture.section(config).keys() - {"stem"}:
            return "its supernet begins with layers that are whole and alike"
        return super().obstacle(config)

    def spaces(self, config: Mapping) -> dict[str, Space]:
        """Return the spaces that subnets are drawn from, by name."""
        raise NotImplementedError

    def order(
        self, space: Space, width: int, depth: int, heads: int, rows: int, unlike: int
    ) -> tuple:
        """Return which of the subnets of a size comes first: see `Space.nearest`."""
        raise NotImplementedError

    def slicing(self, config: Mapping) -> Slicing:
        """Return which parts of the supernet a subnet has."""
        raise NotImplementedError

    def work(self, config: Mapping) -> list[tuple[float, dict]]:
        """Return how often the training runs a model of which config, so that plans know."""
        raise NotImplementedError

    def grow(self, model: Module, context: Context) -> Module:
        """Return the supernet, trained for `steps` from the weights of `model`."""
        raise NotImplementedError

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the subnet and the space that it is of."""
        size = architecture.remaining(config)
        found = {
            name: space.nearest(config, (1 - ratio) * size, TOLERANCE / 2 * size, self.order)
            for name, space in self.spaces(config).items()
        }
        name = min(found, key=lambda name: found[name][0])
        subnet = found[name][1]
        return Sizing(subnet.shape(config), {"space": name, **subnet._asdict()})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the subnet, cut from the supernet; without one at hand it is trained here."""
        from speech_pareto.models.backbone import describe

        supernet = context.supernet or self.grow(model, context)
        slicing = self.slicing(describe(supernet))
        return cut(supernet, sizing.config, sizing.knobs["layers"], slicing)

    def begin(self, model: Module) -> Module:
        """Return a supernet with the teacher's weights."""
        from speech_pareto.models.backbone import describe

        config = describe(model)
        layers = range(config["num_hidden_layers"])
        return cut(model, supernet_config(config), layers, self.slicing(config))

    def write(self, supernet: Module, folder: Path, texts: Mapping[str, str]) -> None:
        """Write a supernet, with its `readout` if it has one, to a folder, whole or not at all."""
        from safetensors.torch import save_file

        from speech_pareto.models.backbone import save
        from speech_pareto.runtime.files import whole_folder

        with whole_folder(folder) as part:
            save(supernet.eval(), part, texts=texts)
            if readout := getattr(supernet, "readout", None):
                tensors = dict(zip(("weight", "bias"), readout, strict=True))
                save_file(tensors, part / READOUT)

    def read(self, folder: Path) -> Module:
        """Return the supernet that `write` wrote to a folder."""
        from safetensors.torch import load_file

        from speech_pareto.models.backbone import load

        supernet = load(folder)
        if (folder / READOUT).is_file():
            tensors = load_file(folder / READOUT)
            supernet.readout = tensors["weight"], tensors["bias"]
        return supernet
