"""Hooks of torch that are there for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


@contextmanager
def removed_after(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end, after an error too."""
    handles = list(handles)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
