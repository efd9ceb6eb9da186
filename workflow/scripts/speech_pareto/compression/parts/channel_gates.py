"""Hard-concrete gates on the channels of a convolutional stem, behind norm and activation function.

A channel's parameters are its filter, what its norm has of it and the weights that read it, so the
expected size of a stem is made of products: with E_i open channels expected in layer i of k_i taps,

    Σ_i E_i (E_(i-1) k_i + biases + norm) + E_last (D + norm)

as Peng et al. count them in their code, https://github.com/pyf98/DPHuBERT.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from speech_pareto.compression.parts.hard_concrete_gates import Gates
from speech_pareto.compression.parts.self_pinching_gates import highest
from speech_pareto.models import architecture
from speech_pareto.models.backbone import describe
from speech_pareto.models.surgery import keep_channels


class ChannelGates(nn.Module):
    """Gates on the channels of each convolution; without a projection the last ones have none."""

    def __init__(
        self, backbone: nn.Module, drop: float, rate: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = architecture.complete(describe(backbone))
        widths = architecture.prunable_channels(self.config)
        self.layers = nn.ModuleList(Gates(width, drop, rate, generator) for width in widths)
        convolutions = backbone.feature_extractor.conv_layers
        self.handles = [
            layer.register_forward_hook(_gate(gates))
            for layer, gates in zip(convolutions, self.layers, strict=False)
        ]

    def expected_saving(self) -> Tensor:
        """Return how many parameters the gates are expected to remove, a scalar."""
        return self.saving([gates.open().sum() for gates in self.layers])

    def saving(self, channels: Sequence) -> Tensor | int:
        """Return what is saved when gated layers have so many `channels`, numbers or tensors."""
        before = self.config["conv_dim"]
        after = [*channels, *before[len(channels) :]]
        sizes = (sum(architecture.stem_parameters(self.config, x)) for x in (before, after))
        return next(sizes) - next(sizes)

    def detach(self, backbone: nn.Module) -> None:
        """Take the gates off `backbone`, their strengths multiplied into the weights that read.

        A norm before the projection undoes what all channels share; the rest of the strengths of
        the last convolution is lost there.
        """
        for handle in self.handles:
            handle.remove()
        readers = [layer.conv for layer in backbone.feature_extractor.conv_layers[1:]]
        if not hasattr(backbone.feature_projection, "layer_norm"):
            readers.append(backbone.feature_projection.projection)
        for reader, gates in zip(readers, self.layers, strict=False):
            strength = gates.strength().detach()  # (inputs,) of (outputs, inputs[, taps])
            reader.weight.data.mul_(strength.view(-1, *[1] * (reader.weight.dim() - 2)))

    def cut(
        self,
        backbone: nn.Module,
        heads: Sequence[Tensor],
        rows: Sequence[Tensor],
        sizes: Sequence[int],
        removed: int,
    ) -> int:
        """Remove channels physically and return how many parameters went with them.

        `heads` and `rows` are the log α of the others, a tensor per layer, `sizes` the parameters
        of one of each. The channels go that are among the lowest units of all kinds which make up
        at most `removed` parameters together; the highest of each layer stay.
        """
        channels = [gates.log_alpha.detach() for gates in self.layers]
        kinds = channels, heads, rows
        spare = [torch.cat([x.sort().values[:-1] for x in kind]) for kind in kinds]
        levels = torch.cat(spare).sort().values.tolist()

        def gone(level: float) -> int:
            widths = [max(1, int((x > level).sum())) for x in channels]
            others = zip(spare[1:], sizes, strict=True)
            return self.saving(widths) + sum(size * int((x <= level).sum()) for x, size in others)

        number = bisect_right(levels, removed, key=gone)
        fewer = int((spare[0] <= levels[number - 1]).sum()) if number else 0
        kept = highest(channels, fewer)
        for place, index in enumerate(kept):
            keep_channels(backbone, place, index)
        return int(self.saving([len(index) for index in kept]))


def _gate(gates: Gates) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    """Return a hook that multiplies what a layer gives (batch, channels, frames) by gates."""

    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return output * gates()[:, None].to(output.dtype)

    return hook
