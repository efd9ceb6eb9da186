"""States of jobs from files; tests/test_smoke.py watches a real run."""

import base64
import os
import time

import pytest
import yaml

from helpers.planning import STUDY
from speech_pareto.study import config, forecast, pool, progress
from speech_pareto.study.cells import cells

JOB = forecast.Job("finetune", "finetune/tiny/heads/0.5/1/phones")
OUTPUT = "results/finetuned/tiny/heads/0.5/1/phones"
FAILED = "x INFO y: step 3 of 9\nx ERROR root: failed\nTraceback ...\nValueError: no audio\n"


def write(folder, name, text, age=0.0):
    """Write a file that is so many seconds old."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (time.time() - age,) * 2)


def mark(folder, age):
    """Leave Snakemake's mark that the output is not complete; long names are split in folders."""
    name = base64.urlsafe_b64encode(OUTPUT.encode()).decode()
    write(folder, f".snakemake/incomplete/@{name[:9]}/{name[9:]}", "{}", age)


@pytest.mark.parametrize(
    ("log", "log_age", "marked", "runs", "word", "says"),
    [
        (None, 0, False, True, "waiting", ""),
        (None, 0, True, True, "running", "starts"),
        ("x INFO y: step 3 of 9, loss 1\n", 5, True, True, "running", "step 3 of 9"),
        (FAILED, 50, True, True, "running", "starts"),  # the log is of the try before
        (FAILED, 5, False, True, "failed", "ValueError: no audio (logs/"),
        (FAILED, 500, False, True, "waiting", ""),  # of the run before; this one comes to it yet
        (FAILED, 500, False, False, "failed", "ValueError: no audio (logs/"),
        ("x INFO y: begun\n", 5, False, True, "failed", "it was ended from outside"),
        ("x INFO y: begun\n", 5, True, False, "waiting", ""),  # Snakemake was killed
    ],
)
def test_states(tmp_path, log, log_age, marked, runs, word, says):
    if runs:
        write(tmp_path, ".snakemake/locks/0.output.lock", "", 100)
    if marked:
        mark(tmp_path, 20)
    if log:
        write(tmp_path, f"logs/{JOB.benchmark}.log", log, log_age)
    since = progress.running_since(tmp_path)
    begun = progress.marks(tmp_path) if since else {}
    assert set(begun) == ({OUTPUT} if marked and runs else set())
    found = progress.state(JOB, tmp_path, begun, since)
    assert found.word == word and found.says.startswith(says)
    assert bool(found.says) == bool(says)
    (tmp_path / OUTPUT).mkdir(parents=True)
    done = progress.state(JOB, tmp_path, begun, since)
    assert done.word == ("running" if begun else "done")


@pytest.mark.parametrize("word", ["running", "failed"])
def test_cells_are_what_their_supernet_is(word):
    study = config.resolve(yaml.safe_load(yaml.safe_dump(STUDY)))
    states = {"train_supernet/tiny/nested/1/any": progress.State(word)}
    found = {
        (cell.recipe, cell.task): progress._cell(study, cell, states).word
        for cell in cells(study)
        if cell.recipe in ("nested", "distilled")
    }
    assert found["nested", "characters"] == word  # the other task has a teacher of its own
    assert word not in (found["nested", "phones"], found["distilled", "characters"])


@pytest.mark.parametrize("throughput", [5e10, 5e7])
def test_what_is_left_takes_as_long_as_the_plan_says(throughput, tmp_path):
    study = config.resolve(yaml.safe_load(yaml.safe_dump(STUDY)) | {"throughput": throughput})
    plan = forecast.durations(pool.jobs(study, tmp_path / "results"), {}, throughput)
    left = progress._duration(sum(seconds for _, seconds in plan))
    assert f"Left: about {left}, one after another" in progress.text(study, tmp_path)
