"""What a pass of a model takes on a device: from its config, and a table of measured parts.

A pass is cut into parts (`pieces`), each with its sizes: matrix products, attention maps, norms,
convolutions, what each layer and each pass takes beside them. A table, a CSV file for one device
and number of threads, has the seconds of each part on a grid of sizes. Between two sizes a part's
time follows a power of the size,

    log t(x) = (1 − s) log t(a) + s log t(b),   s = log(x / a) / log(b / a),   a ≤ x ≤ b

one axis after the other, and times of parts are added up. Channels and rows are rounded up to the
multiples that kernels compute in. A part that was not measured, or of a size far from what was, is
`NotInTable`: there is no guess. `profiling.latency_table` measures tables.
"""

import csv
import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from speech_pareto.models import architecture
from speech_pareto.models.frame_counts import frames_of_layers
from speech_pareto.runtime.locate import locate
from speech_pareto.runtime.suggest import unknown

SIZES = ("inputs", "outputs", "heads", "dims", "frames")  # with times in between
EXACT = ("kernel", "stride", "groups")  # without
COLUMNS = ("part", *SIZES, *EXACT, "seconds")
MULTIPLES = {"inputs": 16, "outputs": 16, "dims": 8}
BEYOND = 4.0  # how far from the grid a power of the size still tells the time
SHIPPED, OWN = "resources/latency", "latency"  # folders of tables


class NotInTable(ValueError):
    """A model has a part that a table does not tell the time of."""

    def __str__(self) -> str:
        return f"not in the table: {super().__str__()}"


class Piece(NamedTuple):
    """A part of a pass, and its sizes by their columns."""

    part: str
    sizes: tuple[tuple[str, int], ...]


def pieces(config: Mapping, seconds: float, batch: int = 1) -> Counter[Piece]:
    """Return the parts of a pass over `batch` recordings of so many seconds, and how many of each.

    Half of a piece counts where queries and values have unlike dimensions.
    """
    found: Any = Counter()

    def add(part: str, times: float = 1, **sizes: int) -> None:
        found[Piece(part, tuple(sizes.items()))] += times

    config, special = architecture.complete(config), architecture.section(config)
    if form := special.get("number_format"):
        raise NotInTable(f"weights in {form}: times are those of fp32")
    hidden, dims = config["hidden_size"], config["conv_dim"]
    frames = round(seconds * architecture.SAMPLE_RATE)
    for index, (inputs, outputs, kernel, stride) in enumerate(
        zip((1, *dims[:-1]), dims, config["conv_kernel"], config["conv_stride"], strict=True)
    ):
        frames = (frames - kernel) // stride + 1
        if architecture.convolutional(config):
            norm = config["feat_extract_norm"] if index == 0 else ""
            norm = "layer" if config["feat_extract_norm"] == "layer" else norm
            part = f"convolution_{norm}_norm" if norm else "convolution"
            sizes = {"kernel": kernel, "stride": stride, "frames": batch * max(1, frames)}
            add(part, **({"inputs": inputs} if index else {}), outputs=outputs, **sizes)
    if frames < 1:
        raise ValueError(f"{seconds} s are too short for one frame")
    whole = batch * frames
    if not architecture.convolutional(config):
        add(special["stem"], frames=whole)
    if config["model_type"] != "hubert" or config["feat_proj_layer_norm"]:
        add("norm", outputs=dims[-1], frames=whole)
    if special.get("projection") != "none":
        add("linear", inputs=dims[-1], outputs=hidden, frames=whole)
    if config["model_type"] == "hubert" and config["conv_pos_batch_norm"]:
        raise NotInTable("a batch norm before the position convolution")
    (number, taps), groups = architecture.positions(config), config["num_conv_pos_embedding_groups"]
    several = config["model_type"] == architecture.DATA2VEC
    place = {"outputs": hidden, "kernel": taps, "groups": groups, "frames": whole}
    add("position_norm" if several else "position", number if several else 1, **place)
    add("norm", outputs=hidden, frames=whole)
    layers = architecture.layers_of(config)
    if factor := special.get("time_reduction"):
        reduced = {"outputs": hidden, "stride": factor, "frames": whole}
        add("reduction", **reduced)
        add("reduced_layer", max(0, len(layers) - 2), **reduced)
    if pooling := special.get("frame_pooling"):
        add("pooling", outputs=hidden, frames=whole)
        add("pooled_layer", len(layers) - pooling["after"] - 1, outputs=hidden, frames=whole)
    if "early_exit" in special:
        raise NotInTable("layers that utterances do without")
    if config["model_type"] == "wavlm":
        add("position_bias", heads=config["num_attention_heads"], frames=frames)
    for layer, own in zip(layers, frames_of_layers(config, frames), strict=True):
        _add_layer(add, config, layer, own, batch)
    add("pass")
    return found


def _add_layer(add, config: Mapping, layer: architecture.Layer, frames: int, batch: int) -> None:
    """Add the parts of a layer over so many frames of each recording."""
    whole = batch * frames
    for name, (outputs, inputs) in architecture.matrices(config, layer).items():
        if rank := layer.ranks.get(name):
            add("linear", inputs=inputs, outputs=rank, frames=whole)
            inputs = rank
        add("linear", inputs=inputs, outputs=outputs, frames=whole)
    if layer.heads:
        heads, plain = batch * len(layer.heads), architecture.head_dim(config)
        qk, vo = layer.qk or plain, layer.vo or plain
        if layer.reuse:
            part = "reused_map" if layer.reuse == "map" else "reused_map_softmax"
            add(part, heads=heads, dims=vo, frames=frames)
        else:
            part = "gated_map" if config["model_type"] == "wavlm" else "map"
            for own in (qk, vo):
                add(part, 0.5, heads=heads, dims=own, frames=frames)
    if layer.ffn:
        add("gelu", outputs=layer.ffn, frames=whole)
    first = architecture.norms_first(config)
    norms = bool(layer.heads) + bool(layer.ffn) if first else 2
    add("norm", norms, outputs=config["hidden_size"], frames=whole)
    add("layer")


class Grid(NamedTuple):
    """Logarithms of the seconds of one part, at each point of a grid of sizes."""

    columns: tuple[str, ...]
    axes: list[list[int]]  # the sizes in each column, from small to large
    logs: dict[tuple[int, ...], float]

    def at(self, sizes: Sequence[int], *chosen: int) -> float:
        """Return the logarithm between and beyond points; of the first axes, one is `chosen`."""
        if len(chosen) == len(self.axes):
            return self.logs[chosen]
        axis, size = self.axes[len(chosen)], sizes[len(chosen)]
        if len(axis) == 1:
            return self.at(sizes, *chosen, axis[0])
        place = min(max(bisect_right(axis, size), 1), len(axis) - 1)
        low, high = axis[place - 1], axis[place]
        share = math.log(size / low) / math.log(high / low)
        ends = (self.at(sizes, *chosen, end) for end in (low, high))
        return next(ends) * (1 - share) + next(ends) * share


class Table:
    """Seconds of parts on one device, with a number of threads.

    `rows` are those of a CSV file: mappings with `COLUMNS`, empty where a part has no such size.
    ValueError for rows that are no whole grid of positive times.
    """

    def __init__(self, rows: Iterable[Mapping[str, str]], name: str = "") -> None:
        self.name = name
        points: dict[tuple, dict[tuple[int, ...], float]] = defaultdict(dict)
        for row in rows:
            sizes = {key: int(row[key]) for key in (*SIZES, *EXACT) if row[key]}
            seconds = float(row["seconds"])
            if not 0 < seconds < math.inf or any(size < 1 for size in sizes.values()):
                raise ValueError(f"{row['part']} of {_words(sizes)} cannot take {seconds} s")
            kind, along = _split(sizes)
            points[row["part"], kind, tuple(along)][tuple(along.values())] = math.log(seconds)
        if not points:
            raise ValueError("it has no rows")
        self.grids: dict[tuple, Grid] = {}
        for (part, kind, columns), logs in points.items():
            axes = [sorted(set(sizes)) for sizes in zip(*logs, strict=True)]
            if len(logs) != math.prod(map(len, axes)):
                raise ValueError(f"the sizes of {_spoken(part)} are no whole grid")
            self.grids[part, kind] = Grid(columns, axes, logs)

    def seconds(self, config: Mapping, audio_seconds: float, batch: int = 1) -> float:
        """Return the seconds of a pass of the model of `config` over `batch` recordings.

        NotInTable for a model with parts that were not measured.
        """
        found = pieces(config, audio_seconds, batch)
        return sum(times * self.of(piece) for piece, times in found.items() if times)

    def of(self, piece: Piece) -> float:
        """Return the seconds of one part; NotInTable if nothing near it was measured."""
        kind, along = _split(rounded(dict(piece.sizes)))
        grid = self.grids.get((piece.part, kind))
        if grid is None or grid.columns != tuple(along):
            about = f" with {_words(dict(kind))}" if kind else ""
            raise NotInTable(f"{_spoken(piece.part)}{about}")
        for (column, size), axis in zip(along.items(), grid.axes, strict=True):
            low, high = axis[0], axis[-1]
            if not (low / BEYOND <= size <= high * BEYOND if low < high else size == low):
                measured = f"{low} to {high}" if low < high else str(low)
                said = f"{_spoken(piece.part)} of {size} {column}, where it has {measured}"
                raise NotInTable(said)
        return math.exp(grid.at(list(along.values())))


def rounded(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return sizes in the multiples that kernels compute in."""
    units = {column: MULTIPLES.get(column, 1) for column in sizes}
    return {column: -(-size // units[column]) * units[column] for column, size in sizes.items()}


def _split(sizes: Mapping[str, int]) -> tuple[tuple, dict[str, int]]:
    """Return what of a part's sizes must be the same, and those with times in between."""
    kind = tuple((column, sizes[column]) for column in EXACT if column in sizes)
    return kind, {column: sizes[column] for column in SIZES if column in sizes}


def _words(sizes: Mapping[str, int]) -> str:
    """Return sizes in words: kernel 3, stride 2."""
    return ", ".join(f"{column} {size}" for column, size in sizes.items())


def _spoken(part: str) -> str:
    """Return the name of a part in words."""
    return part.replace("_", " ")


@cache
def read(file: str) -> Table:
    """Return the table in a file, which a path of the config names; ValueError if it is none."""
    path = locate(file)
    with path.open(newline="", encoding="utf-8") as stream:
        try:
            return Table(csv.DictReader(stream), path.stem)
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{file} is no table of latencies: {error}") from None


def tables(folder: str | Path = OWN) -> dict[str, str]:
    """Return the file of each table by its name: those that are shipped, and those in `folder`."""
    found = {}
    for place in (SHIPPED, str(folder)):
        for path in sorted(locate(place).glob("*.csv")):
            found[path.stem] = f"{place}/{path.name}"
    return found


def find(name: str, folder: str | Path = OWN) -> str:
    """Return the file of the table of this name, or of the device of this name on one thread.

    ValueError lists the devices that there are, or the tables of this one.
    """
    known = tables(folder)
    for own in (name, f"{name}-1-threads"):
        if own in known:
            return known[own]
    device, devices = _device(name), dict.fromkeys(map(_device, known))
    if device in devices:
        raise ValueError(unknown("table of latencies", name, known))
    said = unknown("device", device, devices)
    raise ValueError(f"{said} On any other, 'speech-pareto latency' measures a table.")


def _device(name: str) -> str:
    """Return the device that a table is of."""
    return re.sub(r"-\d+-threads$", "", name)
