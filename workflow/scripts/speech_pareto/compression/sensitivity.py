"""What a change to one part of a model, alone, does to what the model gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from speech_pareto.models.hidden_states import at_home, inputs, real_frames
from speech_pareto.models.hooks import removed_after
from speech_pareto.models.surgery import shape_of

STEM = "feature_extractor"


@dataclass(frozen=True)
class Change:
    """What `apply(model)` does in place to the submodule `place` of a model, and to nothing else.

    What stands before that submodule is not computed again. "" is the whole model.
    """

    place: str
    apply: Callable[[nn.Module], Any]


def in_layer(index: int, apply: Callable[[nn.Module], Any]) -> Change:
    """Return the change that `apply(layer)` makes to one encoder layer."""
    return Change(f"encoder.layers.{index}", lambda model: apply(model.encoder.layers[index]))


@torch.no_grad()
def damages(
    model: nn.Module,
    changes: Iterable[Change],
    batches: Iterable[Mapping[str, Tensor]],
    posteriors: Callable[[nn.Module, Mapping[str, Tensor]], Tensor] | None = None,
    beside: nn.Module | None = None,
) -> list[float]:
    """Return the damage of each change, made alone, over all real frames of `batches`.

    Without a task, it is the squared distance of the last hidden state h' to the unchanged h, as a
    share of what h varies: Σ ‖h' − h‖² / Σ ‖h − mean h‖². With `posteriors(model, batch)`, which
    gives log-probabilities p (frames, outputs) of a task, it is their mean KL divergence,
    Σ p (log p − log p') a frame. What a model gives in between is kept for all batches: layers ×
    frames × width numbers. It runs on the device of the module `beside`, and comes back from there.
    """
    home = next(model.parameters()).device
    model.eval().to(next((beside or model).parameters()).device)
    look, error = (posteriors, _divergence) if posteriors else (_last_state, _distance)
    heard = [_Heard(model, at_home(model, batch), look) for batch in batches]
    before = torch.cat([one.seen for one in heard])
    scale = len(before) if posteriors else (before - before.mean(0)).double().square().sum()
    found = []
    for change in changes:
        changed, total = _with_own(model, change.place), 0.0
        change.apply(changed)
        for one in heard:
            with one.replayed(change.place):
                total += error(look(changed, one.batch), one.seen)
        found.append(total / float(scale))
    model.to(home)
    return found


def _last_state(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the last hidden state (frames, width) of all real frames."""
    return model(**inputs(batch)).last_hidden_state[real_frames(model, batch)]


def _distance(after: Tensor, before: Tensor) -> float:
    return float((after - before).double().square().sum())


def _divergence(after: Tensor, before: Tensor) -> float:
    return float((before.exp() * (before - after)).double().sum())


class _Heard:
    """What a model gave for a batch, at its end and in its stem and layers."""

    def __init__(self, model: nn.Module, batch: Mapping[str, Tensor], look: Callable) -> None:
        self.model, self.batch = model, batch
        self.stages = {name: model.get_submodule(name) for name in _stages(model)}
        given: dict[str, Any] = {}

        def keep(name: str):
            return lambda module, inputs, output: given.update({name: output})

        with removed_after(x.register_forward_hook(keep(n)) for n, x in self.stages.items()):
            self.seen = look(model, batch)
        self.given = given

    @contextmanager
    def replayed(self, place: str) -> Iterator[None]:
        """Within this block the stages that stand before `place` give what they gave."""
        names = list(self.stages)
        own = [i for i, name in enumerate(names) if f"{place}.".startswith(f"{name}.")]
        earlier = names[: own[0] if own else 1]  # what is in none of them stands behind the stem
        if not place:
            earlier = []
        try:
            for name in earlier:
                self.stages[name].forward = lambda *_, given=self.given[name], **__: given
            yield
        finally:
            for name in earlier:
                del self.stages[name].forward


def _stages(model: nn.Module) -> list[str]:
    """Return the stem and the layers, in their order; none where these depend on another."""
    layers = list(enumerate(model.encoder.layers))
    parts = [model.get_submodule(STEM), *(layer for _, layer in layers)]
    if any("forward" in vars(part) for part in parts):
        return []
    reused = any(shape_of(layer).reuse for _, layer in layers)
    return [STEM, *(f"encoder.layers.{index}" for index, _ in layers if not reused)]


def _with_own(model: nn.Module, place: str) -> nn.Module:
    """Return a model with a copy of its submodule `place`; all others are those of `model`."""
    if not place or not _stages(model):
        return copy.deepcopy(model)
    above = {"", *accumulate(place.split("."), lambda outer, name: f"{outer}.{name}")}
    others = {
        id(module): module
        for name, module in model.named_modules()
        if name not in above and not name.startswith(f"{place}.")
    }
    return copy.deepcopy(model, others)
