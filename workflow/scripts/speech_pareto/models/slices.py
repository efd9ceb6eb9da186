"""Models whose tensors are parts of a larger one's; planning reads this: no torch.

A nested model has some of the layers, the first heads of each, and of the width and of feed-forward
rows the first of each of so many equal blocks (`Slicing`). The position convolution is normalised
whole, then cut, as in the code of LightHuBERT, https://arxiv.org/abs/2203.15610.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

POSITION = "encoder.pos_conv_embed.conv.parametrizations.weight"  # length per tap, and direction


class Slicing(NamedTuple):
    """How many equal blocks there are of the width and of feed-forward rows."""

    width: int
    rows: int


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
