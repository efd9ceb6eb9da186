"""Identity: the teacher itself, the control that every other row is read against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context, Method, Sizing

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class Identity(Method):
    """Removes nothing."""

    role = "teacher"
    removes = False

    def obstacle(self, config: Mapping) -> str | None:
        """Return None: everything can be left."""
        return None

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config as it is."""
        return Sizing(dict(config), {})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` as it is."""
        return model
