"""Heads, feed-forward rows and channels of a model: what they score, and cuts that leave some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from speech_pareto.compression.calibration import input_norms, input_products
from speech_pareto.models.architecture import ATTENTION, FFN
from speech_pareto.models.surgery import (
    bias,
    keep_channels,
    keep_heads,
    keep_rows,
    matrix,
    matrix_names,
    shape_of,
    weight,
)


def head_scores(layer: nn.Module) -> Tensor:
    """Return Σ|W| + Σ|b| over q, k and v of each head (heads,) of a layer, in float64."""
    heads = len(layer.attention.heads)
    total = torch.zeros(heads).double()
    for name in (n for n in matrix_names(layer) if n in ATTENTION[:3]):
        module = matrix(layer, name)
        weights, biases = (x.detach().double().abs() for x in (weight(module), bias(module)))
        total = total.to(biases) + (weights.sum(1) + biases).unflatten(0, (heads, -1)).sum(1)
    return total


def head_gains(model: nn.Module, batches: Sequence[Mapping]) -> list[Tensor]:
    """Return ‖C_h W_hᵀ‖_F of each head (heads,) of each layer: what it adds to the output.

    C_h (frames, dimensions) is the context of head h over all real frames, W_h its columns of the
    output matrix; in float64.
    """
    layers = model.encoder.layers
    outputs, scores = _named(layers, ATTENTION[-1]), [torch.zeros(0).double()] * len(layers)
    for index, product in input_products(model, outputs, batches).items():
        heads = len(layers[index].attention.heads)
        columns = weight(outputs[index]).detach().double().chunk(heads, 1)  # (width, dimensions)
        rows = product.chunk(heads)  # (dimensions, heads * dimensions)
        own = (
            w @ x.chunk(heads, 1)[h] * w for h, (w, x) in enumerate(zip(columns, rows, strict=True))
        )
        scores[index] = torch.stack([x.sum().clamp(min=0).sqrt() for x in own])
    return scores


def row_scores(layer: nn.Module) -> Tensor:
    """Return Σ|W1| + |b1| + Σ|W2| of each feed-forward row (rows,) of a layer, in float64."""
    if FFN[0] not in matrix_names(layer):
        return torch.zeros(0).double()
    first, second = (matrix(layer, name) for name in FFN)
    inwards = weight(first).detach().double().abs().sum(1) + bias(first).detach().double().abs()
    return inwards + weight(second).detach().double().abs().sum(0)


def row_gains(model: nn.Module, batches: Sequence[Mapping]) -> list[Tensor]:
    """Return ‖X_i‖ ‖W2_:i‖ of each feed-forward row (rows,) of each layer, in float64.

    X_i is what row i gives over all real frames.
    """
    layers = model.encoder.layers
    outputs = _named(layers, FFN[-1])
    norms = input_norms(model, outputs, batches)
    scores = {i: weight(x).detach().double().norm(dim=0) * norms[i] for i, x in outputs.items()}
    return [scores.get(i, torch.zeros(0).double()) for i in range(len(layers))]


def filter_norms(model: nn.Module) -> list[Tensor]:
    """Return ‖W_c‖ of each channel (channels,) of each convolution of the stem, in float64."""
    layers = model.feature_extractor.conv_layers
    return [layer.conv.weight.detach().double().flatten(1).norm(dim=1) for layer in layers]


def highest(scores: Tensor, amount: int) -> Tensor:
    """Return where the `amount` highest scores are."""
    return scores.argsort(descending=True, stable=True)[:amount]


def best_rows(layer: nn.Module, amount: int) -> Tensor:
    """Return the `amount` highest-scoring rows of a layer."""
    return highest(row_scores(layer), amount)


def keep_best(layer: nn.Module, heads: int, rows: int) -> None:
    """Leave only so many heads, and rows, of a layer: those of highest score by their weights."""
    best = highest(head_scores(layer), heads)
    keep_heads(layer, [layer.attention.heads[place] for place in best])
    keep_rows(layer, best_rows(layer, rows))


def without_heads(layer: nn.Module, gone: Sequence[int]) -> None:
    """Remove the heads at these places from a layer."""
    heads = enumerate(layer.attention.heads)
    keep_heads(layer, [head for place, head in heads if place not in gone])


def without_lowest_heads(layer: nn.Module, scores: Tensor, number: int) -> None:
    """Remove the `number` heads of lowest score from a layer."""
    without_heads(layer, scores.argsort(stable=True)[:number].tolist())


def without_rows(layer: nn.Module, gone: Sequence[int]) -> None:
    """Remove the rows at these places from a layer."""
    stay = torch.ones(shape_of(layer).ffn, dtype=torch.bool)
    stay[list(gone)] = False
    keep_rows(layer, stay.nonzero()[:, 0])


def without_lowest_rows(layer: nn.Module, scores: Tensor, number: int) -> None:
    """Remove the `number` rows of lowest score from a layer."""
    keep_rows(layer, highest(scores, len(scores) - number))


def without_lowest_channels(model: nn.Module, place: int, scores: Tensor, number: int) -> None:
    """Remove the `number` channels of lowest score from convolution `place` of the stem."""
    keep_channels(model, place, highest(scores, len(scores) - number))


def _named(layers: nn.ModuleList, name: str) -> dict[int, nn.Module]:
    """Return the matrix `name` of each layer that has it, by the layer's number."""
    return {i: matrix(layer, name) for i, layer in enumerate(layers) if name in matrix_names(layer)}
