"""What flows through a model on a few batches of audio, for methods that look at activations."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from speech_pareto.models.hidden_states import at_home, real_frames
from speech_pareto.models.hooks import removed_after


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
