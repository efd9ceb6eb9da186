"""Weights that are zero: which may be, how they stay zero, how many a config states."""

from collections.abc import Mapping

from torch import nn

from speech_pareto.models import architecture
from speech_pareto.models.surgery import matrix, matrix_names


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return weights and biases of the layers' matrices: what pruning may zero, by name."""
    return {
        f"encoder.layers.{index}.{name}.{key}": parameter
        for index, layer in enumerate(model.encoder.layers)
        for name in matrix_names(layer)
        for key, parameter in matrix(layer, name).named_parameters()
        if parameter.is_floating_point()  # int8 weights are as they are
    }


def hold_zeros(model: nn.Module) -> None:
    """Make training leave at zero what is zero: without gradients Adam and SGD do not move."""
    for parameter in prunable(model).values():
        if not hasattr(parameter, "held"):  # one hook does, however often it is pruned
            parameter.held = parameter.register_post_accumulate_grad_hook(_mask_gradient)


def still(model: nn.Module, moments: Mapping[nn.Parameter, Mapping]) -> None:
    """Zero what Adam remembers of gradients where a weight is zero, so that it stays there."""
    for parameter in prunable(model).values():
        if parameter in moments:
            moments[parameter]["exp_avg"].mul_(parameter.detach() != 0)


def state_zeros(model: nn.Module, config: Mapping) -> None:
    """Note in `model` the zeros that the `compression` section of `config` states; hold them."""
    model.config.compression = architecture.section(config)
    hold_zeros(model)


def _mask_gradient(parameter: nn.Parameter) -> None:
    """Zero a gradient where its weight is zero."""
    parameter.grad.mul_(parameter.detach() != 0)
