"""Padding must change nothing: an utterance gives the same features alone and in any batch.

Two parts of published models mix frames before the attention mask is applied.  The group norm of
the first convolution (HuBERT, wav2vec 2.0 and WavLM Base) averages over time, padding included; the
last layer then differs by 14 % in a batch.  Position convolutions that follow a norm (data2vec, or
`conv_pos_batch_norm`) read frames of padding that the norm has made other than zero.  Here both
read real frames alone, so batches are as good as single utterances.  Without an attention mask
everything is real, and the model is transformers' own.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Real:
    """Which frames of the pass that is running are real; None without an attention mask.

    It is no part of a module's state, so that exporting a model does not take it for such.
    """

    frames: Tensor | None = None


class RealGroupNorm(nn.GroupNorm):
    """A group norm (one group per channel) over the first `real.frames` (batch,) frames."""

    real: Real

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (batch, channels, frames), normalised over the real frames of each channel."""
        if self.real.frames is None:
            return super().forward(hidden)
        count = self.real.frames[:, None, None]  # (B, 1, 1)
        with torch.autocast(hidden.device.type, enabled=False):
            inside = torch.arange(hidden.shape[-1], device=hidden.device) < count  # (B, 1, T)
            zeroed = hidden.float() * inside
            # Moments over all frames, then over the real ones: the others are zero.  So training
            # keeps one tensor of this size, as the plain norm does.
            variance, mean = torch.var_mean(zeroed, -1, correction=0, keepdim=True)  # (B, C, 1)
            stretch = hidden.shape[-1] / count
            square, mean = (variance + mean.square()) * stretch, mean * stretch
            deviation = ((square - mean.square()).clamp_min(0) + self.eps).sqrt()
            scale = self.weight.float()[:, None] / deviation
            normalised = torch.addcmul(self.bias.float()[:, None] - mean * scale, zeroed, scale)
        return normalised.to(hidden.dtype)


def ignore_padding(model: nn.Module) -> None:
    """Make the norms over time and position convolutions of `model` read real frames alone."""
    ignore_padding_in_stem(model)
    if places := _convolutions_after_a_norm(model):
        real = Real()
        model.encoder.register_forward_pre_hook(_begin_encoder, with_kwargs=True)
        model.encoder.register_forward_hook(_end_encoder, always_call=True)
        for convolution in places:
            convolution.real = real
            convolution.register_forward_pre_hook(_zero_padding)


def ignore_padding_in_stem(model: nn.Module) -> None:
    """Make the norm over time in the stem of `model`, if it has one, read real frames alone."""
    norm = getattr(_first(model), "layer_norm", None)
    if isinstance(norm, nn.GroupNorm):
        norm.__class__, norm.real = RealGroupNorm, Real()
        model.register_forward_pre_hook(_begin_stem, with_kwargs=True)
        model.register_forward_hook(_end_stem, always_call=True)


def _first(model: nn.Module) -> Any:
    """Return the first convolutional layer of a model's stem, None of one without any."""
    return next(iter(getattr(model.feature_extractor, "conv_layers", ())), None)


def _convolutions_after_a_norm(model: nn.Module) -> list[nn.Module]:
    """Return the position convolutions whose input has other than zeros in place of padding."""
    position = model.encoder.pos_conv_embed
    if hasattr(position, "layers"):  # data2vec: the first one reads zeros
        return [layer.conv for layer in position.layers[1:]]
    norm = getattr(position, "batch_norm", None)  # HuBERT alone has this option
    return [] if norm is None else [position.conv]


def _begin_stem(model: nn.Module, inputs: tuple, named: dict) -> None:
    """Note how many frames the first convolution makes of each utterance."""
    mask = named.get("attention_mask", inputs[1] if len(inputs) > 1 else None)
    layer = _first(model)
    if mask is None:
        layer.layer_norm.real.frames = None
        return
    (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
    frames = torch.div(mask.sum(1) - kernel, stride, rounding_mode="floor") + 1
    layer.layer_norm.real.frames = frames.clamp_min(1)


def _end_stem(model: nn.Module, *_) -> None:
    """Forget the pass."""
    _first(model).layer_norm.real.frames = None


def _begin_encoder(encoder: nn.Module, inputs: tuple, named: dict) -> None:
    """Note which frames (batch, frames) are real."""
    mask = named.get("attention_mask", inputs[1] if len(inputs) > 1 else None)
    for convolution in _hooked(encoder):
        convolution.real.frames = mask


def _end_encoder(encoder: nn.Module, *_) -> None:
    """Forget the pass."""
    for convolution in _hooked(encoder):
        convolution.real.frames = None


def _hooked(encoder: nn.Module) -> list[nn.Module]:
    """Return the convolutions that leave padding out."""
    return [module for module in encoder.pos_conv_embed.modules() if hasattr(module, "real")]


def _zero_padding(convolution: nn.Module, inputs: tuple) -> tuple | None:
    """Set the input (batch, channels, frames) of a convolution to zero where it is padding."""
    real = convolution.real.frames
    return None if real is None else (inputs[0] * real[:, None].to(inputs[0].dtype),)
