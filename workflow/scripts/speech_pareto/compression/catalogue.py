"""Which methods there are: the files in `methods/`, found by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from speech_pareto.runtime import plugins

if TYPE_CHECKING:
    from speech_pareto.compression.method import Method

PACKAGE = "compression.methods"


def names() -> list[str]:
    """Return the names of all methods."""
    return list(plugins.names(PACKAGE))


@cache
def load(name: str) -> type[Method]:
    """Return the class of the method `name`; ValueError with the nearest name if there is none."""
    module = plugins.load(PACKAGE, name, "method")
    own = (x for x in vars(module).values() if getattr(x, "__module__", "") == module.__name__)
    return next(x for x in own if isinstance(x, type) and hasattr(x, "compress"))
