"""SpecAugment of a backbone: the only place that sets what transformers masks by itself.

A published config masks frames and channels at random whenever the model is in training mode. Here
the training loop draws the masks, so that teacher and student miss the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module


@contextmanager
def masking(model: Module, on: bool, channels: float = 0.0) -> Iterator[None]:
    """For a while, let `model` mask the frames that its caller names, and a share of the channels.

    The frames are those of `mask_time_indices` (batch, frames), as transformers calls them. With
    `on` False nothing is masked, in training mode neither.
    """
    config = model.config
    settings = {"apply_spec_augment": on, "mask_time_prob": 0.0, "mask_feature_prob": channels}
    own = {name: getattr(config, name) for name in settings}
    for name, value in settings.items():
        setattr(config, name, value)
    try:
        yield
    finally:
        for name, value in own.items():
            setattr(config, name, value)
