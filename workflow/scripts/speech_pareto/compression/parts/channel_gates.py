"""Gates on the channels of a convolutional stem, behind norm and activation function.

A channel's parameters are its filter, what its norm has of it and the weights that read it, so the
expected size of a stem is made of products: with E_i open channels expected in layer i of k_i taps,

    Σ_i E_i (E_(i-1) k_i + biases + norm) + E_last (D + norm)

as Peng et al. count them in their code, https://github.com/pyf98/DPHuBERT. Gates are hard-concrete
ones, as theirs, or self-pinching ones.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speech_pareto.compression.parts import self_pinching_gates as pinching
from speech_pareto.compression.parts.hard_concrete_gates import Gates
from speech_pareto.models import architecture
from speech_pareto.models.backbone import describe
from speech_pareto.models.surgery import keep_channels


class Channels:
    """What all gates on channels have; without a projection the last convolution has none."""

    config: dict  # of the backbone as it was
    expected: Callable[[], list[Tensor]]  # how many channels of each gated layer are open
    levels: Callable[[], list[Tensor]]  # of each gated layer (channels,): the lowest go first

    def expected_saving(self) -> Tensor:
        """Return how many parameters the gates are expected to remove, a scalar."""
        return self.saving(self.expected())

    def saving(self, channels: Sequence) -> Any:
        """Return what is saved when gated layers have so many `channels`, numbers or tensors."""
        before = self.config["conv_dim"]
        after = [*channels, *before[len(channels) :]]
        sizes = (sum(architecture.stem_parameters(self.config, x)) for x in (before, after))
        return next(sizes) - next(sizes)

    def cut(
        self,
        backbone: nn.Module,
        heads: Sequence[Tensor],
        rows: Sequence[Tensor],
        sizes: Sequence[int],
        removed: int,
    ) -> int:
        """Remove channels physically and return how many parameters went with them.

        `heads` and `rows` are the levels of the others, a tensor per layer, `sizes` the parameters
        of one of each. The channels go that are among the lowest units of all kinds which make up
        at most `removed` parameters together; the highest of each layer stay.
        """
        channels = self.levels()
        kinds = channels, heads, rows
        spare = [torch.cat([x.sort().values[:-1] for x in kind]) for kind in kinds]
        levels = torch.cat(spare).sort().values.tolist()

        def gone(level: float) -> int:
            widths = [max(1, int((x > level).sum())) for x in channels]
            others = zip(spare[1:], sizes, strict=True)
            return self.saving(widths) + sum(size * int((x <= level).sum()) for x, size in others)

        number = bisect_right(levels, removed, key=gone)
        fewer = int((spare[0] <= levels[number - 1]).sum()) if number else 0
        kept = pinching.highest(channels, fewer)
        for place, index in enumerate(kept):
            keep_channels(backbone, place, index)
        return int(self.saving([len(index) for index in kept]))


class ChannelGates(Channels, nn.Module):
    """Hard-concrete gates on the channels of each convolution."""

    def __init__(
        self, backbone: nn.Module, drop: float, rate: float, generator: torch.Generator
    ) -> None:
        nn.Module.__init__(self)
        self.config = architecture.complete(describe(backbone))
        widths = architecture.prunable_channels(self.config)
        self.layers = nn.ModuleList(Gates(width, drop, rate, generator) for width in widths)
        convolutions = backbone.feature_extractor.conv_layers
        self.handles = [
            layer.register_forward_hook(_gate(gates))
            for layer, gates in zip(convolutions, self.layers, strict=False)
        ]

    def expected(self) -> list[Tensor]:
        """Return how many channels of each layer are expected to be open."""
        return [gates.open().sum() for gates in self.layers]

    def levels(self) -> list[Tensor]:
        """Return log α of the channels of each layer."""
        return [gates.log_alpha.detach() for gates in self.layers]

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


class PinchedChannels(Channels):
    """Self-pinching gates on the weights that read the channels of each convolution.

    A channel scores as units do: the squares of its filter and of the weights that read it, added
    up and stretched within the layer. Ours, as the published gates leave the stem alone: gates of
    the last channels stand behind the norm before the projection.
    """

    def __init__(self, backbone: nn.Module, reach: float, rate: float | None) -> None:
        self.config = architecture.complete(describe(backbone))
        convolutions = [layer.conv for layer in backbone.feature_extractor.conv_layers]
        readers = [*convolutions[1:], backbone.feature_projection.projection]
        widths = architecture.prunable_channels(self.config)
        self.readers = readers[: len(widths)]
        self.total = sum(architecture.stem_parameters(self.config, self.config["conv_dim"]))
        for convolution, reader in zip(convolutions, self.readers, strict=False):
            pinching.gate(reader, channel_scores(convolution), reach=reach, rate=rate)

    def expected(self) -> list[Tensor]:
        """Return how many channels of each gated layer are open."""
        return [own.hard(scores).sum() for own, scores in map(pinching.read, self.readers)]

    def detach(self) -> None:
        """Take the gates off the backbone."""
        self.margins = [pinching.release(reader) for reader in self.readers]

    def levels(self) -> list[Tensor]:
        """Return s / t² of the channels of each gated layer, once the gates are off."""
        return self.margins


def channel_scores(convolution: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the function from the weights that read channels to their scores (channels,)."""

    def scores(reading: Tensor) -> Tensor:
        gated = parametrize.is_parametrized(convolution)
        own = convolution.parametrizations.weight.original if gated else convolution.weight
        read = reading.transpose(0, 1).flatten(1).square().sum(1)
        return pinching.stretched(own.flatten(1).square().sum(1) + read)

    return scores


def _gate(gates: Gates) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    """Return a hook that multiplies what a layer gives (batch, channels, frames) by gates."""

    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return output * gates()[:, None].to(output.dtype)

    return hook
