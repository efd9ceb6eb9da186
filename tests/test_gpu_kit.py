"""The GPU kit goes through all of its parts on a CPU, with the few packages that it asks for."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.checkout import ROOT
from helpers.only_installed import environment

KIT = ROOT / "benchmarks" / "gpu.py"
PACKAGES = ("torch", "transformers", "accelerate", "numpy", "scipy", "scikit-learn")
PACKAGES += ("safetensors", "tqdm")
ABSENT = ("jiwer", "soundfile", "soxr", "av", "espeakng_loader", "pandas", "jsonschema")
ABSENT += ("snakemake", "matplotlib", "onnxruntime")


# A program whose rows end in every way a process can.
ROWS = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {benchmarks!r})
from gpu_parts.runner import serve

def make(row):
    if row == "dies":
        os.write(2, b"the last words\\n")
        os.kill(os.getpid(), 11)
    if row == "hangs":
        time.sleep(600)
    if row == "raises":
        raise ValueError("not this one")
    if row == "loses CUDA":
        raise RuntimeError("CUDA error: device-side assert triggered")
    return {{"process": os.getpid()}}

report = Path(sys.argv[sys.argv.index("--report") + 1])
serve(sys.argv[sys.argv.index("--rows") + 1 :], make, report)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return the environment of a machine that has only what the kit asks for."""
    return environment(tmp_path_factory.mktemp("bare"), *PACKAGES)


def kit(folder, variables, *options):
    command = [sys.executable, KIT, "--device", "cpu", "--tiny", "--output", folder / "gpu.json"]
    return subprocess.run(
        list(map(str, [*command, *options])), env=variables, capture_output=True, text=True
    )


def test_other_packages_are_out_of_reach(bare):
    code = "import importlib.util, sys; print([importlib.util.find_spec(n) for n in sys.argv[1:]])"
    command = [sys.executable, "-c", code, *ABSENT]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([None] * len(ABSENT))


@pytest.mark.slow
def test_the_kit_runs_on_a_cpu_and_is_not_run_twice(tmp_path, bare):
    done = kit(tmp_path, bare)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    rows = found["rows"]
    missing = rows["workflow"].pop("two recipes")
    assert missing["status"] == "not run" and "Snakemake" in missing["reason"]
    assert "not installed" in missing["reason"]
    states = {
        (part, name): row["status"] for part, own in rows.items() for name, row in own.items()
    }
    assert set(states.values()) == {"ok"}, done.stderr
    distilled = rows["correctness"]["distillation"]
    assert distilled["choices"] and distilled["repeated"] and distilled["resumed"]
    assert distilled["losses"] == 0 and 0 < distilled["bf16"] < 0.1
    assert all(
        row["steps_per_second"] > 0 and row["flops"] > 0 for row in rows["training"].values()
    )
    assert all(0.8 < row["memory"] < 1.25 for row in rows["rehearsal"].values())
    page = (tmp_path / "gpu.md").read_text()
    assert page in done.stdout and "| distillation | same |" in page
    assert "not run: Snakemake" in page.replace("\n", " ")
    again = kit(tmp_path, bare, "--parts", "training")
    assert again.returncode == 0 and "training, tiny" not in again.stderr  # no row was made
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"]["training"] == rows["training"]


@pytest.fixture
def runner(monkeypatch):
    """Return the module that runs rows."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu_parts import runner

    return runner


def collected(runner, folder, source, rows, seconds=5.0, left=120.0):
    """Return what a worker with the program `source` made of `rows`."""
    (folder / "rows.py").write_text(source)
    found, command = {}, [sys.executable, str(folder / "rows.py")]
    worker = runner.Worker(["one"], rows, found.__setitem__, seconds)
    runner.collect([worker], command, folder, time.monotonic() + left)
    return found


@pytest.mark.slow
def test_a_row_that_fails_dies_or_hangs_says_so_and_others_go_on(tmp_path, runner):
    source = ROWS.format(benchmarks=str(ROOT / "benchmarks"))
    rows = ["first", "raises", "second", "dies", "third", "hangs", "fourth", "loses CUDA", "fifth"]
    found = collected(runner, tmp_path, source, rows)
    assert list(found) == rows
    good = {name: row["process"] for name, row in found.items() if row["status"] == "ok"}
    assert list(good) == ["first", "second", "third", "fourth", "fifth"]
    assert good["first"] == good["second"] and len(set(good.values())) == 4
    assert {row["status"] for name, row in found.items() if name not in good} == {"failed"}
    assert found["raises"]["reason"] == "ValueError: not this one"
    assert found["dies"]["reason"] == "its process ended with -11: the last words"
    assert found["hangs"]["reason"] == "no end within 5 s"


def test_what_has_no_time_left_was_not_run(tmp_path, runner):
    source = ROWS.format(benchmarks=str(ROOT / "benchmarks"))
    found = collected(runner, tmp_path, source, ["hangs", "first"], left=2.0)
    assert {row["status"] for row in found.values()} == {"not run"} and len(found) == 2


def test_a_process_that_cannot_start_is_started_once(tmp_path, runner):
    found = collected(runner, tmp_path, "import nothing_of_this_name", ["a", "b"])
    assert "No module named 'nothing_of_this_name'" in found["a"]["reason"]
    assert found["a"] == found["b"] and not Path(tmp_path / "one-2.log").exists()
