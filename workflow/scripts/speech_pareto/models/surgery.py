"""Cutting a backbone physically: heads, rows, layers and channels go, the tensors get smaller.

A matrix is an `nn.Linear`, or two in sequence (`down`, then `up`) once it is factorised; every
function here takes both, so cuts chain in any order.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from speech_pareto.models.architecture import ATTENTION, FFN, Layer
from speech_pareto.models.layers.absent import remove_attention, remove_feed_forward
from speech_pareto.models.layers.plain_attention import use_plain_attention

DIMENSIONS = ATTENTION[:2], ATTENTION[2:]  # matrices that share the dimensions of their heads


def matrix(layer: nn.Module, name: str) -> nn.Module:
    """Return the matrix `name` of an encoder layer."""
    return getattr(_holder(layer, name), name)


def set_matrix(layer: nn.Module, name: str, value: nn.Module) -> None:
    """Put `value` in the place of the matrix `name`."""
    setattr(_holder(layer, name), name, value)


def matrix_names(layer: nn.Module) -> tuple[str, ...]:
    """Return the names of the matrices that a layer has; without q and k it reuses a map."""
    return tuple(name for name in (*ATTENTION, *FFN) if hasattr(_holder(layer, name), name))


def linears(layer: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers of a layer's matrices, by name: one each, two once factorised."""
    found = {}
    for name in matrix_names(layer):
        module = matrix(layer, name)
        parts = module.named_children() if isinstance(module, nn.Sequential) else [("", module)]
        found |= {f"{name}.{part}".rstrip("."): linear for part, linear in parts}
    return found


def weight(module: nn.Module) -> Tensor:
    """Return the weights (outputs, inputs) that `module` applies."""
    return module.weight if isinstance(module, nn.Linear) else module.up.weight @ module.down.weight


def bias(module: nn.Module) -> Tensor:
    """Return the bias (outputs) of `module`."""
    return module.bias if isinstance(module, nn.Linear) else module.up.bias


def linear(weights: Tensor, biases: Tensor | None) -> nn.Linear:
    """Return a linear layer made of copies of these tensors."""
    with torch.device("meta"):
        module = nn.Linear(weights.shape[1], weights.shape[0], bias=biases is not None)
    module.weight = nn.Parameter(weights.detach().clone(memory_format=torch.contiguous_format))
    if biases is not None:
        module.bias = nn.Parameter(biases.detach().clone())
    return module


def factors(down: Tensor, up: Tensor, biases: Tensor) -> nn.Sequential:
    """Return the matrix up (outputs, rank) @ down (rank, inputs) as two linear layers."""
    return nn.Sequential(OrderedDict(down=linear(down, None), up=linear(up, biases)))


def take_rows(module: nn.Module, index: Tensor) -> nn.Module:
    """Return `module` with only the outputs in `index`."""
    if isinstance(module, nn.Linear):
        return linear(module.weight[index], module.bias[index])
    return factors(module.down.weight, module.up.weight[index], module.up.bias[index])


def take_columns(module: nn.Module, index: Tensor) -> nn.Module:
    """Return `module` with only the inputs in `index`."""
    if isinstance(module, nn.Linear):
        return linear(module.weight[:, index], module.bias)
    return factors(module.down.weight[:, index], module.up.weight, module.up.bias)


def keep_heads(layer: nn.Module, heads: Sequence[int]) -> None:
    """Leave only `heads`, numbered as in the teacher; without any, a layer has no attention."""
    attention, heads = layer.attention, tuple(sorted(heads))
    if heads == attention.heads:
        return
    if not heads:
        remove_attention(layer)
        return
    places = torch.tensor([attention.heads.index(head) for head in heads])
    for names, width in zip(DIMENSIONS, dimensions(layer), strict=True):
        _take_dimensions(layer, names, places, torch.arange(width))
    if hasattr(attention, "gru_rel_pos_const"):
        attention.gru_rel_pos_const = nn.Parameter(attention.gru_rel_pos_const.detach()[:, places])
    set_heads(attention, heads)


def dimensions(layer: nn.Module) -> tuple[int, int]:
    """Return the dimensions of each head of a layer: of queries and keys (0: none), of values."""
    number, names = max(1, len(layer.attention.heads)), matrix_names(layer)
    qk, vo = (bias(matrix(layer, n[0])).numel() if n[0] in names else 0 for n in DIMENSIONS)
    return qk // number, vo // number


def keep_dimensions(layer: nn.Module, names: Sequence[str], kept: Tensor) -> None:
    """Leave only the dimensions `kept` (heads, number) of each head; `names` is of DIMENSIONS."""
    _take_dimensions(layer, names, torch.arange(len(kept)), kept)
    use_plain_attention(layer.attention)


def set_heads(attention: nn.Module, heads: tuple[int, ...]) -> None:
    """Note which of the teacher's heads an attention module holds."""
    attention.heads, attention.num_heads = heads, len(heads)


def keep_rows(layer: nn.Module, index: Tensor) -> None:
    """Leave only the rows `index` of the feed-forward part of a layer; without any, no part."""
    if FFN[0] not in matrix_names(layer):
        return
    if not len(index):
        remove_feed_forward(layer)
        return
    index = index.sort().values
    set_matrix(layer, FFN[0], take_rows(matrix(layer, FFN[0]), index))
    set_matrix(layer, FFN[1], take_columns(matrix(layer, FFN[1]), index))


def sort_units(layer: nn.Module, heads: Tensor, rows: Tensor) -> None:
    """Put heads and feed-forward rows of a layer in the order of these places.

    What the layer gives stays. It has all its heads, and no bias of relative positions as WavLM's.
    """
    width = layer.attention.head_dim
    inner = (heads[:, None] * width + torch.arange(width)).flatten()
    for *makers, reader, places in ((*ATTENTION, inner), (*FFN, rows)):
        set_matrix(layer, reader, take_columns(matrix(layer, reader), places))
        for name in makers:
            set_matrix(layer, name, take_rows(matrix(layer, name), places))


def keep_layers(model: nn.Module, indices: Sequence[int]) -> None:
    """Leave only these layers; one that is named twice is applied twice.

    WavLM's layer 0 must stay, it holds the table of positions.
    """
    model.encoder.layers = nn.ModuleList(model.encoder.layers[index] for index in indices)
    model.config.num_hidden_layers = len(indices)


def keep_channels(model: nn.Module, number: int, index: Tensor) -> None:
    """Leave only the channels `index` of convolution `number` of the stem, and what reads them.

    ValueError for the last convolution where no projection follows: its channels are the width.
    """
    layers, index = model.feature_extractor.conv_layers, index.sort().values
    convolution, norm = layers[number].conv, getattr(layers[number], "layer_norm", None)
    last, projection = number == len(layers) - 1, model.feature_projection
    if last and isinstance(projection.projection, nn.Identity):
        raise ValueError("no projection follows the stem: its last channels are the model's width")
    convolution.out_channels = len(index)
    _take(convolution, index)
    if norm is not None:
        _take_norm(norm, index)
    if last:
        if hasattr(projection, "layer_norm"):
            _take_norm(projection.layer_norm, index)
        projection.projection = take_columns(projection.projection, index)
    else:
        follower = layers[number + 1].conv
        follower.in_channels = len(index)
        follower.weight = nn.Parameter(follower.weight.detach()[:, index].contiguous())
    widths = list(model.config.conv_dim)
    widths[number] = len(index)
    model.config.conv_dim = widths


def shape_of(layer: nn.Module) -> Layer:
    """Return the shape of an encoder layer."""
    modules = {name: matrix(layer, name) for name in matrix_names(layer)}
    factored = {name: x for name, x in modules.items() if isinstance(x, nn.Sequential)}
    ranks = {name: x.down.out_features for name, x in factored.items()}
    attention = layer.attention
    whole, reuse = attention.head_dim, getattr(attention, "reuse", None)
    qk, vo = (None if width in (0, whole) else width for width in dimensions(layer))
    rows = bias(modules[FFN[0]]).numel() if FFN[0] in modules else 0
    return Layer(attention.heads, rows, ranks, reuse, qk, vo)


def _take_dimensions(layer: nn.Module, names: Sequence[str], places: Tensor, kept: Tensor) -> None:
    """Leave only the dimensions `kept` ([heads,] number) of the heads at `places`.

    Head h of d dimensions owns rows h d to (h + 1) d of q, k and v, and these columns of the output
    matrix.
    """
    width = dimensions(layer)[DIMENSIONS.index(names)]
    index = (places[:, None] * width + kept).flatten()
    for name in (n for n in names if n in matrix_names(layer)):
        take = take_columns if name == "out_proj" else take_rows
        set_matrix(layer, name, take(matrix(layer, name), index))


def shapes_of(model: nn.Module) -> list[Layer]:
    """Return the shape of each encoder layer of a model, and which of them are others again."""
    layers = list(model.encoder.layers)
    firsts = [next(i for i, other in enumerate(layers) if other is layer) for layer in layers]
    return [
        replace(shape_of(layer), shared=None if first == index else first)
        for index, (layer, first) in enumerate(zip(layers, firsts, strict=True))
    ]


def _holder(layer: nn.Module, name: str) -> nn.Module:
    """Return the submodule of `layer` that holds the matrix `name`."""
    return layer.attention if name in ATTENTION else layer.feed_forward


def _take(module: nn.Module, index: Tensor) -> None:
    """Leave only the places `index` of the first axis of a module's weight and bias."""
    for name in ("weight", "bias"):
        if (old := getattr(module, name)) is not None:
            setattr(module, name, nn.Parameter(old.detach()[index]))


def _take_norm(norm: nn.GroupNorm | nn.LayerNorm, index: Tensor) -> None:
    """Leave only the channels `index` of a norm; a group norm has one group per channel."""
    _take(norm, index)
    if isinstance(norm, nn.GroupNorm):
        norm.num_groups = norm.num_channels = len(index)
    else:
        norm.normalized_shape = (len(index),)
