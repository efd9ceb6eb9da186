"""Where a computation would make the processor wait for a device."""

import traceback
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.checkout import ROOT

aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.unique_consecutive}
INDEXES = {aten.index, aten.index_put, aten.index_put_}


class Waits(TorchDispatchMode):
    """Notes in `places` each function of the project, innermost first, that reads a tensor.

    A number that is taken from a tensor is a read, and so is an index by a mask: its shape depends
    on what is in the mask. On a GPU both wait until all work before is done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: set[tuple[str, str]] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run an operation of torch, and note it if it waits."""
        called = function.overloadpacket
        indices = args[1] if called in INDEXES else []
        if called in READS or any(x is not None and x.dtype == torch.bool for x in indices):
            self.note()
        return function(*args, **(kwargs or {}))

    def note(self) -> None:
        """Add the function that runs, if it is the project's: what transformers does is its own."""
        frames = (f for f in reversed(traceback.extract_stack()) if "/torch/" not in f.filename)
        caller = next(f for f in frames if Path(f.filename) != Path(__file__))
        if Path(caller.filename).is_relative_to(ROOT / "workflow"):
            self.places.add((Path(caller.filename).name, caller.name))
