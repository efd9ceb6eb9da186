"""What becomes of freed memory, asked of the allocator itself in processes of their own."""

import ctypes
import subprocess
import sys

import pytest

from helpers.checkout import ROOT

SCRIPTS = ROOT / "workflow" / "scripts"
# MiB that the kernel maps for a block of 50 MiB, and MiB held free when it is gone
BLOCK = """
import ctypes, torch
from speech_pareto.models import backbone
from speech_pareto.profiling import allocator, cost
{start}
NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
class Info(ctypes.Structure):  # malloc.h: struct mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
before = mallinfo().hblkhd
block = torch.ones(50, 1 << 18)
mapped = mallinfo().hblkhd - before
del block
print(mapped >> 20, mallinfo().fordblks >> 20)
"""
STARTS = {
    "given back": "",
    "kept": "assert allocator.keep_freed_memory()",
    "race": "tiny = backbone.new(backbone.tiny_config(num_hidden_layers=1)).eval()\n"
    "cost.race(tiny, tiny, cost.noise(1.0), 1)",
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library")
def test_a_freed_block_stays_where_time_is_measured():
    found = {}
    for name, start in STARTS.items():
        command = [sys.executable, "-c", BLOCK.format(start=start)]
        done = subprocess.run(command, cwd=SCRIPTS, check=True, capture_output=True, text=True)
        found[name] = [int(word) for word in done.stdout.split()]
    mapped, held = found.pop("given back")
    assert mapped >= 50 > held, found
    assert all(mapped == 0 and held >= 50 for mapped, held in found.values()), found


def test_elsewhere_nothing_happens(monkeypatch):
    from speech_pareto.profiling import allocator

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False
