"""What flows through a model on a few batches of audio, for methods that look at activations."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from speech_pareto.models.hidden_states import at_home, real_frames
from speech_pareto.models.hooks import removed_after

RIDGE = 1e-3


@torch.no_grad()
def input_norms(
    model: nn.Module, modules: Mapping[str, nn.Module], batches: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the L2 norm of each input feature (inputs,) of `modules` over all real frames.

    The norms are in float64; `modules` are called with (batch, frames, inputs).
    """
    squares, frames = {}, None

    def listen(name: str):
        def hook(module: nn.Module, inputs: tuple) -> None:
            seen = inputs[0][frames].double().square().sum(0)
            squares[name] = squares.get(name, 0) + seen

        return hook

    handles = (x.register_forward_pre_hook(listen(name)) for name, x in modules.items())
    with removed_after(handles):
        for batch in batches:
            batch = at_home(model, batch)
            frames = real_frames(model, batch)
            model(**batch)
    return {name: total.sqrt() for name, total in squares.items()}


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
            model(**batch)
    return [total.sqrt() for total in squares]
