"""One job of a rehearsal: few steps at real shapes stand for all, and what dies is a result."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

import compress
import profile_student
import rehearse_job
import rehearsed
from helpers.checkout import ROOT
from helpers.compressing import STEM
from helpers.results import RUN
from speech_pareto.compression import catalogue, recipes
from speech_pareto.compression.runner import Batches
from speech_pareto.data.batches import Epochs
from speech_pareto.data.corpus import read
from speech_pareto.models import architecture, backbone
from speech_pareto.models.model_folder import read_config
from speech_pareto.training.excerpt import Excerpt
from speech_pareto.training.loop import piece_of
from speech_pareto.training.settings import FineTuning
from speech_pareto.training.stand_ins import random_model

LENGTHS = np.array([100, 1000, 2000, 3000, 8000, 8100, 8200, 16_000])


def test_trainings_are_cut_and_the_largest_batch_is_the_second():
    whole = [Epochs(LENGTHS, 16_000, 3)(step) for step in range(4)]
    with Excerpt(2) as excerpt:
        settings = FineTuning(steps=100, learning_rate=0.1, batch_seconds=7.0)
        assert settings.steps == 2
        epochs = Epochs(LENGTHS, 16_000, 3)
        cut = [epochs(step) for step in range(4)]
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        for _ in range(2):
            weight.sum().backward()
            optimizer.step()
    assert cut[1] == [7] and sorted(cut) == sorted(whole)
    (phase,) = excerpt.phases
    assert (phase.steps, phase.batch_seconds) == (100, 7.0)
    assert len(phase.ends) == 2 and phase.seconds() == phase.ends[1] - phase.ends[0]
    assert FineTuning(steps=100, learning_rate=0.1).steps == 100
    assert [Epochs(LENGTHS, 16_000, 3)(step) for step in range(4)] == whole


def test_one_piece_of_a_batch_stands_for_all():
    with Excerpt(5) as excerpt:
        settings = FineTuning(steps=100, learning_rate=0.1, accumulate=3)
        assert settings.accumulate == 1
        piece = Epochs(LENGTHS[:4], 16_000, 3)(0)
    whole = Epochs(LENGTHS[:4], 16_000, 3)(0)
    assert piece == piece_of(whole, 0, 3) and len(piece) == 2 < len(whole) == 4
    (phase,) = excerpt.phases
    phase.ends = [1.0, 9.0, 10.0, 12.0, 15.0]  # the second step has the largest batch
    assert phase.seconds() == 2 * 2.0  # a batch has four rows, the piece two
    with Excerpt(5, one_piece=False):
        assert FineTuning(steps=100, learning_rate=0.1, accumulate=3).accumulate == 3


def test_batches_are_cut_where_there_are_batches():
    distilled, pruned = [{"distillation": {"steps": 3}}], [{"head_pruning": {}}]
    nested = {"supernet": {"steps": 3}}
    training = {"steps": 3, "accumulate": 2}
    iterations = [{"units": 4, "steps": 2}, {"units": 4, "steps": 2, "accumulate": 3}]
    cut = [
        ("compress", {"recipe": distilled, "accumulate": 2}, "accumulate: 8"),
        ("train_supernet", {"method": nested, "accumulate": 2}, "accumulate: 8"),
        ("finetune", {"training": training}, "accumulate: 8"),
        ("pretrain_one_teacher", {"settings": {"iterations": iterations}}, "accumulate: 12"),
    ]
    for rule, own, said in cut:
        smaller = rehearse_job.in_pieces({"rule": rule, "job": own}, 4)
        assert said in str(smaller).replace("'", "")
    assert training["accumulate"] == 2
    for recipe in (pruned, [nested]):  # students of a supernet are cut without training
        own = {"recipe": recipe, "accumulate": 1}
        assert rehearse_job.in_pieces({"rule": "compress", "job": own}, 4) is None
    assert rehearse_job.in_pieces({"rule": "profile", "job": {}}, 4) is None


@pytest.mark.parametrize("name", catalogue.names())
def test_stand_ins_have_the_shapes_of_students(name, teacher_folder, tmp_path):
    settings = dict(catalogue.load(name).example)
    whole = read_config(teacher_folder)
    solution = recipes.solve([{name: settings}], whole, 0.3)
    model = backbone.load(random_model(solution.config, tmp_path / "student"))
    described = architecture.count(solution.config)["total"]
    assert architecture.count(backbone.describe(model))["total"] == described
    with torch.no_grad():
        assert model(torch.randn(1, 4000)).last_hidden_state.isfinite().all()


def job(folder, **more):
    """Return the description of a job that compresses the model in a folder."""
    facts = {"recipe": ["identity"], "precision": "fp32", "task": None, "accumulate": 1}
    found = {"rule": "compress", "job": facts, "run": {}, "ratio": 0.0, "seed": 1, "corpora": []}
    found |= {"teacher": str(folder), "configs": {}, "threads": 1}
    return found | {"given": {"mem_mb": [], "runtime": []}} | more


@pytest.mark.slow
def test_a_supernet_and_what_is_cut_from_it_are_rehearsed(teacher_folder, corpus, tmp_path):
    method, whole = {"supernet": {"steps": 50, "batch_seconds": 2.0}}, read_config(teacher_folder)
    trained = {"method": method, "precision": "fp32", "accumulate": 1}
    cut = {"recipe": [method], "precision": "auto", "task": None, "accumulate": 1}
    parts = {}
    for rule, own in (("train_supernet", trained), ("compress", cut)):
        facts = {"rule": rule, "job": own, "ratio": 0.5, "corpora": [str(corpus)], "run": RUN}
        facts["configs"] = {"teacher": whole, "supernet": whole}
        rehearse_job.main(job(teacher_folder, **facts), tmp_path / "took.json")
        took = json.loads((tmp_path / "took.json").read_text())
        assert took["status"] == "ok", took["reason"]
        parts[rule] = took["parts"]
    assert parts["train_supernet"][0]["number"] == 50 and parts["compress"] == []


SERVED = [name for name in catalogue.names() if name not in STEM]
LEARNERS = [name for name in SERVED if catalogue.load(name).needs == "training"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_all_steps_of_a_method_count_and_few_are_done(name, teacher_folder, corpus, tmp_path):
    settings = dict(catalogue.load(name).example) | {"steps": 90, "batch_seconds": 1.0}
    settings |= {key: 30 for key in ("final_steps", "second_steps") if key in settings}
    facts = {"recipe": [{name: settings}], "precision": "fp32", "task": None, "accumulate": 1}
    ratio = 0.37 if catalogue.load(name).removes else 0.0
    facts = job(teacher_folder, job=facts, run=RUN, corpora=[str(corpus)], ratio=ratio)
    found = rehearsed.compress(compress, facts, tmp_path)()
    steps = sum(part["number"] for part in found["parts"])
    whole = recipes.make({name: settings}).training_steps()
    assert 90 <= steps <= whole and (steps == whole or name == "iterative_pruning")  # its patience
    assert all(part["seconds"] > 0 for part in found["parts"]) and found["start"] >= 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert found["checkpoint"] > 0


def test_a_profile_of_early_exits_hears_recordings(teacher_folder, corpus, tmp_path):
    config = recipes.solve(["early_exit"], read_config(teacher_folder), 0.0).config
    settings = {"audio_seconds": 0.5, "batch": 1, "repeats": 4, "conditions": []}
    settings |= {"threads": 1, "precision": "fp32", "device": "cpu"}
    facts = job(teacher_folder, rule="profile", run=RUN, corpora=[str(corpus)])
    facts |= {"job": {"settings": settings, "recipe": [{"early_exit": {}}]}}
    facts["configs"] = {"student": config}
    (tmp_path / "out").mkdir()
    found = rehearsed.profile(profile_student, facts, tmp_path)()
    timed, heard = found["parts"]
    depths = len(architecture.layers_of(config)) - config["compression"]["early_exit"]["first"] + 1
    assert depths > 1 and timed["number"] == pytest.approx(depths * 0.5 * 5)
    spoken = [u for u in read(corpus) if u.split == "test"]
    assert heard["number"] == len(spoken) and heard["seconds"] > 0


def test_a_long_walk_that_waits_and_listens_is_rehearsed_in_few_steps(
    teacher_folder, corpus, tmp_path
):
    schedule = [0.02, 0.04, 0.06, 0.08, 0.1]
    walk = {"method": "data_driven_ffn_pruning", "schedule": schedule, "patience": None}
    walk |= {"steps": 25_000, "batch_seconds": 1.0, "batches": 900}
    walk |= {"units": 4, "unit_seconds": 4.0}
    facts = {"recipe": [{"iterative_pruning": walk}], "precision": "fp32", "task": None}
    facts = job(teacher_folder, job=facts | {"accumulate": 1}, run=RUN, corpora=[str(corpus)])
    found = rehearsed.compress(compress, facts | {"ratio": 0.1}, tmp_path)()
    steps = [part for part in found["parts"] if part["what"] == "step"]
    assert [part["number"] for part in steps] == 5 * [25_000]
    assert steps[2]["seconds"] == steps[1]["seconds"] == steps[4]["seconds"]
    numbers = [part["number"] for part in found["parts"] if part["what"] == "batch"]
    assert numbers == 5 * [900]
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_first_scores_are_timed_on_more_batches_than_later_ones():
    with Excerpt(4, batches=Batches) as excerpt:
        for number in (20, 900, 900):  # units, then scores twice
            assert list(Batches(lambda index: {"index": index}, number))
    assert [one.done for one in excerpt.listened] == [16, 16, 2]


def test_a_job_that_the_kernel_kills_is_a_result(teacher_folder, tmp_path, monkeypatch):
    real = subprocess.Popen

    def killed(command):
        process = real(command)
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(rehearse_job.subprocess, "Popen", killed)
    rehearse_job.main(job(teacher_folder), tmp_path / "took.json")
    took = json.loads((tmp_path / "took.json").read_text())
    assert took["status"] == "out_of_memory" and "killed" in took["reason"]
    assert [file.name for file in tmp_path.iterdir()] == ["took.json"]


@pytest.mark.slow
@pytest.mark.parametrize("others", ["still run", "have ended"])
def test_what_others_left_too_little_memory_for_runs_again_alone(others, tmp_path, monkeypatch):
    free, run, limits, died = rehearse_job._free_memory, rehearse_job._run, [], threading.Event()

    def noted(job, scratch, limit, seconds):
        limits.append(limit)
        found = run(job, scratch, limit, seconds)
        died.set()
        return found

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(rehearse_job, "_run", noted)
    monkeypatch.setattr(rehearse_job, "_free_memory", lambda: free() if died.is_set() else 6e8)
    base = job("nowhere", configs={"teacher": {"model_type": "hubert", "mask_time_prob": 0.05}})
    thread = threading.Thread(target=rehearse_job.main, args=(base, tmp_path / "took.json"))
    with rehearse_job._beside_others() if others == "still run" else nullcontext():
        thread.start()
        died.wait()
        thread.join(1)
        assert thread.is_alive()
        assert len(limits) == 1 or others == "have ended"
    thread.join()
    took = json.loads((tmp_path / "took.json").read_text())
    assert took["status"] == "ok" and len(limits) == 2, took


def test_what_a_rehearsal_runs_ends_with_it(teacher_folder, tmp_path):
    command = (
        "import rehearse_job, json, sys; rehearse_job.main(json.loads(sys.argv[1]), 'took.json')"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    words = [sys.executable, "-c", command, json.dumps(job(teacher_folder))]
    parent = subprocess.Popen(words, cwd=tmp_path, env=environment)

    def child():
        found = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        return int(found[0]) if found else None

    while (pid := child()) is None:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it goes on alone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "status"),
    [({"megabytes": 600}, "out_of_memory"), ({"minutes": 0.005}, "out_of_time")],
)
def test_a_job_that_needs_too_much_is_a_result(limits, status, tmp_path):
    config = {"model_type": "hubert", "mask_time_prob": 0.05}  # Base: 380 MB of weights, twice
    rehearse_job.main(job("nowhere", configs={"teacher": config}), tmp_path / "took.json", **limits)
    took = json.loads((tmp_path / "took.json").read_text())
    assert took["status"] == status, took
    assert took["limited"] == ("megabytes" in limits)
