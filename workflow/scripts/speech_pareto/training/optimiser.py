"""The optimiser of a training: torch's own, and the parameters that it moves in their own way."""

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from speech_pareto.training.settings import Training

KINDS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
Moments = dict[nn.Parameter, dict[str, Any]]


def make(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """Return the optimiser of all that `model` trains.

    A module may have an attribute `optimiser`, a mapping such as `{"lr": 0.02, "maximize": True}`:
    what the optimiser does otherwise with this module's own parameters.
    """
    groups: dict[tuple, list[nn.Parameter]] = {(): []}
    seen = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            own = dict(getattr(module, "optimiser", {}))
            if name.endswith("bias") and not settings.decay_biases:
                own["weight_decay"] = 0.0
            groups.setdefault(tuple(sorted(own.items())), []).append(parameter)
    return KINDS[settings.optimiser](
        [{"params": members, **dict(own)} for own, members in groups.items() if members],
        lr=settings.learning_rate,
        betas=tuple(settings.betas),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def schedule(optimizer: torch.optim.Optimizer, settings: Training, done: int) -> LambdaLR:
    """Return what sets the learning rates of all groups, those of the step after `done` at once."""

    def factor(step: int) -> float:
        return settings.factor(step, settings.steps)

    return LambdaLR(optimizer, factor, last_epoch=done - 1)
