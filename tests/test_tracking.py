"""Trackers record what they are asked to, and change nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.small_training import run
from speech_pareto.training import tracking

TRAIN = """
import sys
sys.path[:0] = sys.argv[1:]
from pathlib import Path
from helpers.small_training import run
weights, curve = run(Path("checkpoints/compress/tiny/a/0.5/1"))
import json; Path("curve.json").write_text(json.dumps(curve))
"""


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Return a folder and the curve of a training there that two trackers followed."""
    folder = tmp_path_factory.mktemp("run")
    here = Path(__file__).parent
    environment = os.environ | {tracking.VARIABLE: "tensorboard, trackio"}
    environment |= {"TRACKIO_DIR": str(folder / "results/tracking/trackio"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", TRAIN, str(here), str(here.parent / "workflow/scripts")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "curve.json").read_text())


@pytest.mark.slow
def test_a_curve_is_that_of_a_run_without_trackers(tracked):
    assert tracked[1] == run(None)[1]


@pytest.mark.slow
def test_tensorboard_has_the_curve_under_the_name_of_the_run(tracked):
    folder, curve = tracked
    events = EventAccumulator(str(folder / "results/tracking/compress/tiny/a/0.5/1")).Reload()
    points = events.Scalars("loss")
    assert [point.step for point in points] == [point["step"] for point in curve]
    assert [point.value for point in points] == pytest.approx([point["loss"] for point in curve])
    assert max(point.value for point in events.Scalars("learning_rate")) > 0


@pytest.mark.slow
def test_trackio_has_it_too(tracked):
    folder, curve = tracked
    code = (
        "import json, trackio\n"
        "run, = trackio.Api().runs('speech-pareto')\n"
        "logs = trackio.SQLiteStorage.get_logs('speech-pareto', run.name)\n"
        "print(json.dumps([run.name, logs], default=str))"
    )
    environment = os.environ | {"TRACKIO_DIR": str(folder / "results/tracking/trackio")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    name, history = json.loads(done.stdout.splitlines()[-1])
    assert name == "compress/tiny/a/0.5/1"
    assert [row["loss"] for row in history] == [point["loss"] for point in curve]


def test_an_unknown_tracker_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setenv(tracking.VARIABLE, "tensorbord")
    said = "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"
    assert [said in line for line in tracking.tracker_problems()] == [True]
    with pytest.raises(ValueError, match="did you mean 'tensorboard'"):
        run(None)


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setenv(tracking.VARIABLE, "wandb")
    with pytest.raises(ModuleNotFoundError, match="wandb is not installed: pip install wandb"):
        run(None)
