"""What the allocator gives back, counted in the pages that the kernel hands out anew."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow" / "scripts"
# passes of a small model over 10 s of audio, after some for warming up
PASSES = """
import resource, torch
from speech_pareto import cost, model
torch.set_num_threads(1)
tiny = model.new(model.tiny_config(num_hidden_layers=2)).eval()
audio = cost.noise(10.0)
def faults(passes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with torch.no_grad():
        for _ in range(passes): tiny(audio)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


def printed(code: str) -> int:
    command = [sys.executable, "-c", PASSES + code]
    done = subprocess.run(command, cwd=SCRIPTS, check=True, capture_output=True, text=True)
    return int(done.stdout)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@glibc
def test_later_passes_find_their_pages():
    keep = "from speech_pareto.allocator import keep_freed_memory; assert keep_freed_memory()"
    race = "cost.race(tiny, tiny, audio, 1)"
    freed, kept, raced = (
        printed(f"{start}\nfaults(5); print(faults(10))") for start in ("", keep, race)
    )
    assert freed > 10_000 and kept < freed / 20 and raced < freed / 20, (freed, kept, raced)


def test_elsewhere_nothing_happens(monkeypatch):
    from speech_pareto import allocator

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False
