"""GPUs of a workstation: each job has its own, never more jobs than GPUs."""

import os
import signal
import subprocess
import sys
import time

import pytest

from helpers.checkout import ROOT
from speech_pareto.runtime.gpu import VISIBLE, gpus, reserved

JOB = """
import os, sys, time
from pathlib import Path
from speech_pareto.runtime.gpu import reserved
with reserved(int(sys.argv[1]), Path(sys.argv[2])):
    seen = os.environ["CUDA_VISIBLE_DEVICES"]
    with open(sys.argv[3], "a") as file:
        file.write(f"begin {os.getpid()} {seen}\\n")
        file.flush()
        time.sleep(float(sys.argv[4]))
        file.write(f"end {os.getpid()} {seen}\\n")
"""


@pytest.fixture(autouse=True)
def three(monkeypatch):
    monkeypatch.setenv("SPEECH_PARETO_GPUS", "0,1,2")
    monkeypatch.delenv(VISIBLE, raising=False)


def start(tmp_path, number=1, seconds=0.3):
    scripts = ROOT / "workflow" / "scripts"
    command = [sys.executable, "-c", JOB, number, tmp_path / "locks", tmp_path / "seen", seconds]
    return subprocess.Popen(list(map(str, command)), env=os.environ | {"PYTHONPATH": str(scripts)})


def test_no_two_jobs_have_the_same_gpu(tmp_path):
    jobs = [start(tmp_path, number) for number in (1, 1, 2, 1, 2, 1, 3, 1)]
    assert [job.wait(timeout=60) for job in jobs] == [0] * len(jobs)
    busy, most, used = set(), 0, set()
    for line in (tmp_path / "seen").read_text().splitlines():
        event, _, seen = line.split()
        mine = set(seen.split(","))
        if event == "begin":
            assert not busy & mine
            busy |= mine
        else:
            busy -= mine
        most, used = max(most, len(busy)), used | mine
    assert most == 3 and used == {"0", "1", "2"} and not busy


def test_a_killed_job_leaves_its_gpu_to_others(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECH_PARETO_GPUS", "7")
    first = start(tmp_path, seconds=600)
    seen, end = tmp_path / "seen", time.monotonic() + 60
    while not (seen.exists() and seen.read_text()):
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.05)
    second = start(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=60) == 0
    assert seen.read_text().splitlines()[-1] == f"end {second.pid} 7"


def test_what_a_scheduler_gave_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "5")
    with reserved(1, tmp_path / "locks"):
        assert os.environ[VISIBLE] == "5"
    assert os.environ[VISIBLE] == "5" and not (tmp_path / "locks").exists()


@pytest.mark.parametrize("number", [0, None])
def test_a_job_that_asks_for_none_sees_what_is_there(tmp_path, number):
    with reserved(number, tmp_path):
        assert VISIBLE not in os.environ


def test_machines_without_gpus_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("SPEECH_PARETO_GPUS")
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    assert gpus() == []
    with reserved(1, tmp_path):
        assert VISIBLE not in os.environ


def test_asking_for_more_than_there_are_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="asks for 4 GPUs, this machine has 3"),
        reserved(4, tmp_path),
    ):
        pass
