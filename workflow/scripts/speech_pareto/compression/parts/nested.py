"""A supernet and its subnets: base of the methods that train one, of which all students are cut.

The rule `train_supernet` does so once per teacher, recipe and seed. Which subnets there are follows
from a config alone; planning needs no torch. `models.slices` has their weights.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import lcm
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.compression.targets import TOLERANCE
from speech_pareto.models import architecture
from speech_pareto.models.slices import Slicing, cut
from speech_pareto.runtime import bounds

if TYPE_CHECKING:
    from torch.nn import Module


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


def pick(options: Sequence) -> Any:
    """Return any of the options, after torch's seed on the processor: no device is waited for."""
    import torch

    return options[int(torch.randint(len(options), ()))]


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

    def subnet(self, take: Callable[[Sequence[int]], int]) -> Subnet:
        """Return the subnet whose numbers `take` takes out of those that there are."""
        width, layers = take(self.widths), self.layers(take(self.depths))
        heads = [take(self.heads) for _ in layers]
        return Subnet(width, layers, heads, [take(self.rows[width]) for _ in layers])

    def draw(self) -> Subnet:
        """Return any subnet, after torch's seed."""
        return self.subnet(pick)

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


@dataclass(frozen=True, kw_only=True)
class Nested(SelfSupervised):
    """Base of these methods; they define five functions beside their settings.

    `spaces(config)` are those that subnets are drawn from, by name; `order` says which subnet of a
    size is cut, see `Space.nearest`, `slicing(config)` which parts of the supernet it has.
    `grow(model, context)` returns the supernet, trained for `steps` from the weights of `model`;
    `work(config)` is how often that runs a model of which config, so that plans know.
    """

    spaces: ClassVar[Callable[..., dict[str, Space]]]
    order: ClassVar[Callable[..., tuple]]
    slicing: ClassVar[Callable[..., Slicing]]
    grow: ClassVar[Callable[..., Any]]
    work: ClassVar[Callable[..., list[tuple[float, dict]]]]
    trains_once = True
    takes_heads = True
    steps: Annotated[int, bounds.Within(0, 10**9, unit="steps")] = 60
    batch_seconds: bounds.BatchSeconds = 48.0

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a teacher whose layers are not plain."""
        if architecture.section(config).keys() - {*architecture.FRONT}:
            return "its supernet begins with layers that are whole and alike"
        return super().obstacle(config)

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

    def begin(self, model: Module) -> Module:
        """Return a supernet with the weights of `model`."""
        from speech_pareto.models.backbone import describe

        config = describe(model)
        layers = range(config["num_hidden_layers"])
        return cut(model, supernet_config(config), layers, self.slicing(config))

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the subnet, cut from the supernet; without one at hand it is trained here."""
        supernet = context.supernet or self.grow(model, context)
        slicing = self.slicing(supernet.config.to_dict())
        return cut(supernet, sizing.config, sizing.knobs["layers"], slicing)
