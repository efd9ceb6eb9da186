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


def printed(code: str) -> list[int]:
    command = [sys.executable, "-c", PASSES + code]
    done = subprocess.run(command, cwd=SCRIPTS, check=True, capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@glibc
def test_later_passes_find_their_pages():
    keep = "\nfrom speech_pareto.allocator import keep_freed_memory\nassert keep_freed_memory()\n"
    ((freed,), (kept,)) = (printed(f"{start}\nfaults(3); print(faults(5))") for start in ("", keep))
    assert freed > 5000 and kept < freed / 20


@glibc
def test_a_race_leaves_it_so():
    (during,) = printed("cost.race(tiny, tiny, audio, 1); print(faults(5))")
    assert during < 500


def test_elsewhere_nothing_happens(monkeypatch):
    from speech_pareto import allocator

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False
