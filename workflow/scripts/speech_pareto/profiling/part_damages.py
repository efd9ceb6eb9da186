"""What the parts of each layer are worth: the damage of losing some of one, on validation audio.

    heads, rows           the lowest go, by the scores of `head_pruning`, `data_driven_ffn_pruning`
    attention, feed-forward ranks     all matrices of the part become their truncated SVD
    attention, feed-forward bits      all weights of the part are rounded, as by `intx`
    attention, feed-forward           the whole part goes
    channels              of one convolution of the stem, the lowest by filter norm

The parts of a layer change alone, in the whole model; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from speech_pareto.compression.methods.intx import Intx
from speech_pareto.compression.methods.low_rank import PARTS
from speech_pareto.compression.parts.ranks import factorise
from speech_pareto.compression.parts.units import (
    filter_norms,
    head_scores,
    row_gains,
    without_heads,
    without_lowest_channels,
    without_rows,
)
from speech_pareto.compression.sensitivity import Change, damages, in_layer
from speech_pareto.models import architecture, storage
from speech_pareto.models.backbone import describe
from speech_pareto.models.packed import round_weights
from speech_pareto.models.surgery import linears

BLOCKS = {"attention": "attention", "ffn": "feed-forward"}
DIGITS = 6  # of what is written: threads may disagree on further ones


def measure(
    model: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    levels: Sequence[float],
    bits: Sequence[int],
    posteriors: Callable | None = None,
) -> list[dict]:
    """Return the `layer`, `part`, `level`, `parameters`, `bytes` and `damage` of each change.

    Layers, and convolutions of the stem, count from 1. A level is the share of the part's heads,
    rows, channels or parameters that goes, or the bits of its weights. `parameters` go, and `bytes`
    of fp32 weights. Of `damage` see `sensitivity.damages`. A part that has too little to lose some
    of it is left out.
    """
    asked = list(_parts(model, batches, levels, bits))
    found = damages(model, (change for _, change in asked), batches, posteriors)
    return [
        row | {"damage": float(f"{damage:.{DIGITS}g}")}
        for (row, _), damage in zip(asked, found, strict=True)
    ]


def _parts(
    model: nn.Module, batches: Sequence, levels: Sequence[float], bits: Sequence[int]
) -> Iterator[tuple[dict, Change]]:
    """Yield what is changed, and the change."""
    config, rows = describe(model), row_gains(model, batches)
    for index, layer in enumerate(architecture.layers_of(config)):

        def row(part: str, level: float, after: architecture.Layer, index=index, layer=layer):
            saved = architecture.saved(config, layer, after)
            about = {"layer": index + 1, "part": part, "level": level}
            return about | {"parameters": saved, "bytes": 4 * saved}

        units: tuple[Any, ...] = (
            ("heads", head_scores(model.encoder.layers[index]), without_heads),
            ("rows", rows[index], without_rows),
        )
        for part, scores, cut in units:
            order = scores.argsort(stable=True).tolist()
            for level, gone in _numbers(levels, len(order)):
                left = len(order) - gone
                fewer: dict = {"heads": layer.heads[:left]} if part == "heads" else {"ffn": left}
                change = in_layer(index, partial(cut, gone=order[:gone]))
                yield row(part, level, replace(layer, **fewer)), change
        shapes = architecture.matrices(config, layer)
        for block, name in BLOCKS.items():
            names = [matrix for matrix in PARTS[block] if matrix in shapes]
            if not names:
                continue
            for level in levels:
                ranks = {n: _rank(shapes[n], layer.ranks.get(n), level) for n in names}
                after = replace(layer, ranks={**layer.ranks, **ranks})
                change = in_layer(index, partial(factorise, ranks=ranks))
                yield row(f"{name} ranks", level, after), change
            for width in bits:
                change = in_layer(index, partial(_round, names=names, bits=width))
                less = {"bytes": _bytes_saved(config, index, names, width)}
                yield row(f"{name} bits", width, layer) | less, change
            without: dict = {"heads": ()} if block == "attention" else {"ffn": 0}
            empty = without_heads if block == "attention" else without_rows
            number = len(layer.heads) if block == "attention" else layer.ffn
            change = in_layer(index, partial(empty, gone=range(number)))
            yield row(name, 1.0, replace(layer, **without)), change
    if architecture.convolutional(config):
        yield from _channels(model, config, levels)


def _channels(
    model: nn.Module, config: Mapping, levels: Sequence[float]
) -> Iterator[tuple[dict, Change]]:
    """Yield what is changed in the stem, and the change."""
    for number, scores in enumerate(filter_norms(model)):
        if number >= len(architecture.prunable_channels(config)):  # the width of the model
            break
        for level, gone in _numbers(levels, len(scores)):
            widths = list(config["conv_dim"])
            widths[number] -= gone
            after = {**config, "conv_dim": widths}
            saved = architecture.remaining(config) - architecture.remaining(after)
            about = {"layer": number + 1, "part": "channels", "level": level}
            cut = partial(without_lowest_channels, place=number, scores=scores, number=gone)
            # It changes the projection behind the stem, too, so the whole model is copied.
            change = Change("", cut)
            yield about | {"parameters": saved, "bytes": 4 * saved}, change


def _numbers(levels: Sequence[float], units: int) -> list[tuple[float, int]]:
    """Return (level, how many units go) for the levels at which some go and some stay."""
    numbers = [(level, round(level * units)) for level in levels]
    return [(level, gone) for level, gone in numbers if 0 < gone < units]


def _rank(shape: tuple[int, int], now: int | None, level: float) -> int:
    """Return the rank at which a matrix has lost the share `level` of its weights."""
    outputs, inputs = shape
    rank = max(1, int((1 - level) * outputs * inputs / (outputs + inputs)))
    return min(rank, now or rank)


def _round(layer: nn.Module, names: Sequence[str], bits: int) -> None:
    """Round the weights of some matrices of a layer."""
    for name, linear in linears(layer).items():
        if name.partition(".")[0] in names:
            round_weights(linear, Intx(bits=bits).grid(linear.weight, bits))


def _bytes_saved(config: Mapping, index: int, names: Sequence[str], bits: int) -> int:
    """Return the bytes that rounding some matrices of a layer saves."""
    every = storage.weights(config)
    own = {
        name: bits
        for name in every
        if name.startswith(f"encoder.layers.{index}.") and {*name.split(".")} & {*names}
    }
    before, after = (Intx().sizing(config, weights).config for weights in ({}, own))
    return storage.stored_bytes(before) - storage.stored_bytes(after)
