"""A student that streams, fed chunk by chunk: what it keeps of the past is one flat state."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from speech_pareto.models.lookahead import overlap


class Stream(nn.Module):
    """One chunk of a stream at a time, for a backbone that hears chunks.

    A stream begins with silence, `lead` samples of it: chunks of `samples` each then give what the
    whole of them gives in one pass. `read` maps the backbone's output to what is wanted.
    """

    def __init__(self, backbone: nn.Module, read: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        if not backbone.flow.chunk:
            raise ValueError("the model hears an utterance as a whole: it has no chunks")
        self.backbone, self.read = backbone, read or (lambda states: states)
        config = backbone.config.to_dict()
        self.lead = overlap(config)
        self.samples = backbone.flow.chunk * torch.tensor(config["conv_stride"]).prod().item()
        # What is kept, by name, and its shape: as a first chunk leaves it.
        with torch.no_grad():
            waves = torch.zeros(1, self.samples, device=next(backbone.parameters()).device)
            empty = {"chunks": waves.new_zeros(1, 1), "waves": waves.new_zeros(1, self.lead)}
            kept = self._run(waves, empty)[1]
        self.shapes = {name: tensor.shape[1:] for name, tensor in kept.items()}

    @property
    def state_size(self) -> int:
        """How many numbers the state of one stream has."""
        return sum(shape.numel() for shape in self.shapes.values())

    def begin(self, batch: int = 1) -> Tensor:
        """Return the state (batch, state_size) of streams before their first chunk."""
        parameter = next(self.backbone.parameters())
        return torch.zeros(batch, self.state_size, device=parameter.device)

    def forward(self, waves: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (batch, chunk, ...) of samples (batch, samples), and the next state."""
        pieces = state.split([shape.numel() for shape in self.shapes.values()], 1)
        kept = {
            name: piece.unflatten(1, shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }
        output, kept = self._run(waves, kept)
        return output, torch.cat([kept[name].flatten(1) for name in self.shapes], 1)

    def _run(self, waves: Tensor, before: dict) -> tuple[Tensor, dict]:
        """Return the output of a chunk, and what is kept of it by name."""
        flow = self.backbone.flow
        flow.on, flow.before, flow.after = True, before, {"chunks": before["chunks"] + 1}
        try:
            heard = flow.joined("waves", waves, self.lead, 1)
            return self.read(self.backbone(heard).last_hidden_state), flow.after
        finally:
            flow.on = False
