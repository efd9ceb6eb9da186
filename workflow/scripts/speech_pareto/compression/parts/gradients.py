"""Gradients scaled on their way back through a student, as published code does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from speech_pareto.models.hooks import removed_after

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Hook = Callable[["Module", tuple, "Tensor | tuple"], None]


def share_of(layer: int, layers: int) -> float:
    """Return which share of a layer's gradient goes on below it, the layer counted from 0."""
    return (layers - layer) / (layers - layer + 1)


@contextmanager
def damped(stem: Module, factor: float) -> Iterator[None]:
    """Multiply the gradients that reach a stem by `factor`, for a while."""
    with removed_after([stem.register_forward_hook(_scaling(factor))]):
        yield


@contextmanager
def layers_scaled(layers: Sequence[Module]) -> Iterator[None]:
    """Multiply the gradient that reaches layer i, from 0 of L, by (L − i) / (L − i + 1).

    That of the layer's own loss is multiplied by 1 / (L − i + 1) besides, see `own_share`. So what
    reaches a layer is about the mean over its own loss and those above it, in place of their sum.
    """
    hooks = (
        layer.register_forward_hook(_scaling(share_of(index, len(layers))))
        for index, layer in enumerate(layers)
    )
    with removed_after(hooks):
        yield


def own_share(state: Tensor, layer: int, layers: int) -> Tensor:
    """Return a layer's output for its own loss, whose gradient is scaled as `layers_scaled` says.

    `layer` is counted from 0; `state` itself is left as it is.
    """
    copy = state.view_as(state)
    _scale(copy, 1 - share_of(layer, layers))
    return copy


def _scale(tensor: Tensor, factor: float) -> None:
    """Scale the gradient of a tensor, if it gets one."""
    if tensor.requires_grad:
        tensor.register_hook(lambda gradient: factor * gradient)


def _scaling(factor: float) -> Hook:
    """Return a forward hook that scales the gradient of a module's output."""

    def hook(module: Module, inputs: tuple, output: Tensor | tuple) -> None:
        _scale(output[0] if isinstance(output, tuple) else output, factor)

    return hook
