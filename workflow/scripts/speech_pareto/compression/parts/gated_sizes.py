"""What methods with gates on heads, rows and channels plan before the gates have decided; no torch.

How many channels go the gates say; until then plans take PLANNED of the ratio, with which the MACs
of the student that DPHuBERT published come out.
"""

from collections.abc import Mapping

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Sizing
from speech_pareto.models import architecture

PLANNED = 0.23  # share of the channels that go, over the ratio


def obstacle(config: Mapping, stem: bool) -> str | None:
    """Return why gates cannot be put on a model, with `stem` on its channels too; None if so."""
    if stem and not architecture.convolutional(config):
        return "the model's stem has no convolutions whose channels could have gates"
    if not all(layer.heads and layer.ffn for layer in architecture.layers_of(config)):
        return "a layer has no attention or no feed-forward part, on whose units gates could be"
    return None


def sizing(config: Mapping, ratio: float, stem: bool) -> Sizing:
    """Return how many parameters go, from a config that takes the same share of all units."""
    left, before = config, architecture.remaining(config)
    if stem:
        fewer = round(PLANNED * ratio * sum(allocation.spare_channels(config)))
        left = {**config, "conv_dim": allocation.narrowed(config, fewer)}
    amount = ratio * before - (before - architecture.remaining(left))
    layers = allocation.thin(left, architecture.layers_of(config), amount)
    after = architecture.with_layers(left, layers)
    return Sizing(after, {"removed": before - architecture.remaining(after)})
