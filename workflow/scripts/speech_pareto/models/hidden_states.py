"""Hidden states of a backbone, masked as told and not by its own config; planning reads this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from speech_pareto.models.hooks import removed_after
from speech_pareto.models.spec_augment import masking

if TYPE_CHECKING:
    from torch import Tensor, nn


def states(model: nn.Module, batch: Mapping, mask: Tensor | None = None) -> list[Tensor]:
    """Return the input of the first layer and the output of each, L + 1 of (batch, time, dim).

    The last one is what the model gives, after a final norm if it has one. `mask` (batch, time)
    says which frames its mask vector replaces; without it nothing is masked, in training neither.
    RuntimeError if a layer was skipped: the states would be those of other layers than they seem.
    """
    with masking(model, on=mask is not None):
        out = model(**inputs(batch), mask_time_indices=mask, output_hidden_states=True)
    ran, layers = len(out.hidden_states) - 1, len(model.encoder.layers)
    if ran != layers:  # layerdrop is on: the training loop switches it off
        said = "whose hidden states these are is unknown"
        raise RuntimeError(f"{ran} of {layers} layers ran: {said}")
    return [*out.hidden_states[:-1], out.last_hidden_state]


class _Reached(Exception):
    """The layer whose state was asked for has run."""


def state_after(model: nn.Module, batch: Mapping, layer: int) -> Tensor:
    """Return `states(model, batch)[layer]` (batch, time, dim) without running later layers."""
    layers, found = model.encoder.layers, []
    if layer == len(layers):
        return states(model, batch)[-1]

    def stop(module: nn.Module, inputs: tuple, named: Mapping) -> None:
        found.append(inputs[0] if inputs else named["hidden_states"])
        raise _Reached

    with (
        removed_after([layers[layer].register_forward_pre_hook(stop, with_kwargs=True)]),
        masking(model, on=False),
        suppress(_Reached),
    ):
        model(**inputs(batch))
    return found[0]


@contextmanager
def stem_once(model: nn.Module) -> Iterator[None]:
    """Within this block the stem runs once: later passes, on the same batch, get what it gave."""
    stem, kept = model.feature_extractor, []
    own, forward = vars(stem).get("forward"), stem.forward

    def once(*waves: Tensor) -> Tensor:
        if not kept:
            kept.append(forward(*waves))
        return kept[0]

    stem.forward = once
    try:
        yield
    finally:
        if own:
            stem.forward = own
        else:
            del stem.forward


def without_and_with(
    model: nn.Module, batch: Mapping, mask: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return `states` without a mask and with one; the stem, the same for both, runs once."""
    with stem_once(model):
        return states(model, batch), states(model, batch, mask)


def mean_over(values: Tensor, frames: Tensor) -> Tensor:
    """Return the mean of values (batch, time) over the frames (batch, time) that count; else 0.

    An index by a mask would wait until the device has come to that mask.
    """
    return values.where(frames, 0).sum() / frames.sum().clamp(min=1)


def distance(ours: Tensor, theirs: Tensor, cosine: float, log: bool = True) -> Tensor:
    """Return ‖a − b‖₁ / D − λ log σ(cos(a, b)) of features (..., D), for each frame (...).

    That of DistilHuBERT, https://arxiv.org/abs/2110.01900. λ is `cosine`; without `log`, the cosine
    itself stands in the place of its log σ.
    """
    from torch.nn import functional

    likeness = functional.cosine_similarity(ours, theirs, dim=-1)
    likeness = functional.logsigmoid(likeness) if log else likeness
    return (ours - theirs).abs().mean(-1) - cosine * likeness


def inputs(batch: Mapping) -> dict[str, Tensor]:
    """Return what a model takes of a batch: waveforms and attention mask (batch, samples)."""
    return {key: batch[key] for key in ("input_values", "attention_mask")}


def at_home(model: nn.Module, batch: Mapping) -> dict[str, Any]:
    """Return a batch whose tensors are on the model's device."""
    home = next(model.parameters()).device
    return {**batch, **{name: tensor.to(home) for name, tensor in inputs(batch).items()}}


def frames_of(config: Any, samples: Any) -> Any:
    """Return how many frames the stem of a transformers config makes of samples: int or tensor."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def real_frames(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return which frames (batch, frames) of a batch are no padding."""
    waves, mask = batch["input_values"], batch["attention_mask"]  # (batch, samples)
    frames = frames_of(model.config, mask.sum(1))
    return mask.new_ones(1, frames_of(model.config, waves.shape[1])).cumsum(1) <= frames[:, None]
