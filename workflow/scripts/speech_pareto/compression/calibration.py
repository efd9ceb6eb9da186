"""What flows through a model on a few batches of audio, for methods that look at activations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import at_home, inputs, real_frames
from speech_pareto.models.hooks import removed_after
from speech_pareto.models.surgery import shape_of

RIDGE = 1e-3


def input_norms(
    model: nn.Module,
    modules: Mapping[Any, nn.Module],
    batches: Sequence[Mapping[str, Tensor]],
    of_outputs: bool = False,
) -> dict[Any, Tensor]:
    """Return the L2 norm of each input feature (inputs,) of `modules` over all real frames.

    The norms are in float64; `modules` are called with (batch, frames, inputs). With `of_outputs`
    they are those of each output feature (outputs,).
    """
    sums = _over_frames(model, modules, batches, lambda rows: rows.square().sum(0), of_outputs)
    return {name: total.sqrt() for name, total in sums.items()}


def input_products(
    model: nn.Module, modules: Mapping[Any, nn.Module], batches: Sequence[Mapping[str, Tensor]]
) -> dict[Any, Tensor]:
    """Return XᵀX (inputs, inputs) of what reaches `modules`, X (real frames, inputs); float64."""
    return _over_frames(model, modules, batches, lambda rows: rows.T @ rows)


@torch.no_grad()
def _over_frames(
    model: nn.Module,
    modules: Mapping[Any, nn.Module],
    batches: Sequence[Mapping[str, Tensor]],
    measure: Callable[[Tensor], Tensor],
    of_outputs: bool = False,
) -> dict[Any, Tensor]:
    """Return the sums over batches of what `measure` says of real frames (frames, features)."""
    sums: dict[Any, Tensor] = {}
    frames = last = seen = None

    def listen(name: Any):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            nonlocal last, seen
            found = output if of_outputs else inputs[0]
            if found is not last:  # q, k and v have one input
                last, seen = found, measure(found[frames].double())
            sums[name] = sums.get(name, 0) + seen

        return hook

    handles = (x.register_forward_hook(listen(name)) for name, x in modules.items())
    with removed_after(handles):
        for batch in batches:
            batch = at_home(model, batch)
            frames = real_frames(model, batch)
            model(**inputs(batch))
    return sums


@torch.no_grad()
def block_changes(
    model: nn.Module, batches: Sequence[Mapping[str, Tensor]]
) -> dict[tuple[int, str], float]:
    """Return 1 − cos(x, x + f(x)), the mean over all real frames, of each block f of a model.

    A block is the `attention` or the `feed_forward` of a layer; x is what its residual connection
    passes. Keys are (layer, block); a layer has those that it has.
    """
    norms_first = architecture.norms_first(model.config.to_dict())
    totals, number, given, frames = {}, 0, {}, None

    def listen(place: tuple[int, str], block: nn.Module, source: nn.Module) -> list:
        def begin(module: nn.Module, inputs: tuple) -> None:
            given[place] = inputs[0]

        def end(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
            before = given.pop(place)[frames].double()
            after = before + (output[0] if isinstance(output, tuple) else output)[frames].double()
            cosines = nn.functional.cosine_similarity(before, after, dim=-1)
            totals[place] = totals.get(place, 0.0) + float((1 - cosines).sum())

        return [source.register_forward_pre_hook(begin), block.register_forward_hook(end)]

    handles = []
    for index, layer in enumerate(model.encoder.layers):
        shape = shape_of(layer)
        if shape.heads:
            source = layer.layer_norm if norms_first else layer.attention
            handles += listen((index, "attention"), layer.attention, source)
        if shape.ffn:
            source = layer.final_layer_norm if norms_first else layer.feed_forward
            handles += listen((index, "feed_forward"), layer.feed_forward, source)
    with removed_after(handles):
        for batch in batches:
            batch = at_home(model, batch)
            frames = real_frames(model, batch)
            number += int(frames.sum())
            model(**inputs(batch))
    return {place: total / number for place, total in totals.items()}


def regression(inputs: Tensor, outputs: Tensor) -> dict[str, Tensor]:
    """Return `weight` (O, I) and `bias` (O,) of the linear layer that gives outputs (N, O) best.

    It is a ridge regression on inputs (N, I), with `RIDGE` of their mean variance, in float64.
    """
    x, y = inputs.double(), outputs.double()
    centred = x - x.mean(0)
    spread = centred.T @ centred
    spread += RIDGE * spread.diagonal().mean() * torch.eye(len(spread), dtype=torch.float64)
    weight = torch.linalg.solve(spread, centred.T @ (y - y.mean(0))).T
    return {"weight": weight.float(), "bias": (y.mean(0) - weight @ x.mean(0)).float()}


@torch.no_grad()
def channel_norms(model: nn.Module, batches: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
    """Return the L2 norm of each channel (channels,) of each convolutional layer of the stem.

    It is that of what the layer gives, after norm and activation, over all real frames; in float64.
    """
    layers, frames = model.feature_extractor.conv_layers, torch.zeros(0)
    squares = [torch.zeros((), dtype=torch.float64) for _ in layers]

    def listen(number: int, layer: nn.Module):
        (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride

        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            nonlocal frames
            frames = torch.div(frames - kernel, stride, rounding_mode="floor") + 1  # (batch,)
            for given, real in zip(output, frames.tolist(), strict=True):  # (channels, frames)
                seen = given[:, : max(0, real)].double().square().sum(1)
                squares[number] = squares[number].to(seen.device) + seen

        return hook

    handles = (x.register_forward_hook(listen(i, x)) for i, x in enumerate(layers))
    with removed_after(handles):
        for batch in batches:
            batch = at_home(model, batch)
            frames = batch["attention_mask"].sum(1)
            model(**inputs(batch))
    return [total.sqrt() for total in squares]
