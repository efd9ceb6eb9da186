"""Pieces of batches, and processes that share them: the same student, whatever their number."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

import compress
import finetune
from helpers.checkout import ROOT, called_in, run_snakemake
from helpers.corpora import write_recordings
from helpers.folders import distance
from helpers.results import PLAIN, TASK
from speech_pareto.data.batches import Epochs
from speech_pareto.models import backbone
from speech_pareto.runtime import launch, processes
from speech_pareto.training.checkpoint import newest
from speech_pareto.training.loop import Training, piece_of, train

SCRIPTS = ROOT / "workflow" / "scripts"
DRAWS = {"dropout": 0.1, "mask_share": 0.3, "mask_channels": 0.1, "speed": 0.1}
RECIPES = {
    "distillation": [{"distillation": {"steps": 6, "batch_seconds": 4.0}}],
    "starhubert": [{"starhubert": {"steps": 3, "batch_seconds": 4.0}}],
    "parp": [{"parp": {"steps": 4, "batch_seconds": 4.0}}],
}
WALK = {"method": "ffn_pruning", "schedule": [0.05], "steps": 3, "patience": 1, "units": 5}
CHAIN = [
    {"distillation": {"ratio": 0.1, "steps": 3, "batch_seconds": 4.0}},
    {"dphubert": {"ratio": 0.1, "steps": 4, "final_steps": 2, "batch_seconds": 4.0}},
    {"iterative_pruning": WALK | {"ratio": 0.1, "unit_seconds": 4.0, "batch_seconds": 4.0}},
    {"parp": {"steps": 3, "batch_seconds": 4.0}},
]
# What a job inherits below a launcher of another program: torchrun, mpirun, accelerate.
TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29511",
    "TORCHELASTIC_RUN_ID": "none",
}
OTHERS = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "PMI_SIZE": "4"}
OTHERS |= {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_MIXED_PRECISION": "fp8"}
# What Snakemake's script is: it logs, and calls a `main` in as many processes as it has GPUs.
SCRIPT = """
import sys
sys.path.insert(0, {scripts!r})
import {module} as job
from speech_pareto.runtime.log import logged
from speech_pareto.runtime.launch import spread
with logged({log!r}):
    spread(job.main, {number}, {pieces})(*{arguments!r}, **{settings!r})
"""


@pytest.fixture(scope="module", params=[False, True], ids=["post-norm", "pre-norm"])
def teacher(request, tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher") / "backbone", request.param)


def write_teacher(folder, stable=False, **settings):
    """Write a small random backbone without dropout."""
    torch.manual_seed(0)
    shape = {"hidden": 48, "layers": 3, "heads": 6, "ffn": 96, "pos_conv": 16}
    off = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout"), 0.0)
    off |= {"feat_proj_dropout": 0.0, "layerdrop": 0.0, "do_stable_layer_norm": stable}
    backbone.save(backbone.new(backbone.tiny_config(**shape, **off, **settings)), folder)
    return folder


def start(tmp_path, module, number, pieces, *arguments, told=None, **settings):
    """Start a job in `number` processes, below a launcher that `told` it these variables."""
    file = tmp_path / f"{module}{number}.py"
    values = {"scripts": str(SCRIPTS), "module": module, "log": str(tmp_path / "job.log")}
    values |= {"number": number, "pieces": pieces, "settings": settings}
    file.write_text(SCRIPT.format(arguments=arguments, **values))
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (told or {})
    return subprocess.Popen([sys.executable, file], env=environment, stderr=subprocess.PIPE)


def finish(job, code=0):
    said = job.communicate(timeout=300)[1].decode()
    assert job.returncode == code, said
    return said


def test_a_batch_is_dealt_out_by_rows():
    batch = {"waves": torch.arange(10).view(5, 2), "names": list("abcde"), "step": 3}
    pieces = [piece_of(batch, index, 3) for index in range(3)]
    assert [piece["names"] for piece in pieces] == [["a", "d"], ["b", "e"], ["c"]]
    assert [piece["waves"][:, 0].tolist() for piece in pieces] == [[0, 6], [2, 8], [4]]
    assert all(piece["step"] == 3 for piece in pieces)
    assert piece_of((7, list("ab")), 2, 3) == (7, [])


@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_pieces_add_up_to_the_batch(pieces):
    """Means over the real frames of unlike rows; some batches have fewer than 8 rows."""

    def run(accumulate):
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 3)

        def batch(step, generator):
            rows = 4 + step % 5
            real = torch.from_numpy(generator.integers(1, 9, rows))
            values = torch.from_numpy(generator.normal(size=(rows, 8, 3)).astype(np.float32))
            return values, torch.arange(8) < real[:, None]

        def loss(pair):
            values, real = pair
            return (net(values) - values.roll(1, -1))[real].square().mean(), {}

        settings = Training(steps=20, learning_rate=1e-2, precision="fp32", accumulate=accumulate)
        curve = train(net, batch, loss, settings, 1, size=lambda pair: pair[1].sum())
        return torch.cat([p.detach().flatten() for p in net.parameters()]), curve

    (whole, curve), (cut, same) = run(1), run(pieces)
    assert torch.allclose(whole, cut, rtol=1e-5, atol=1e-6) and not torch.equal(whole, cut)
    assert [x["loss"] for x in same] == pytest.approx([x["loss"] for x in curve], abs=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RECIPES))
def test_students_do_not_tell_pieces(name, teacher, transcribed, tmp_path):
    """Nothing is drawn here; whatever a method averages over, its pieces weigh as they should."""
    for pieces in (1, 4):
        compress.main(
            RECIPES[name],
            *(0.4, 1, teacher, [transcribed], {}, tmp_path / str(pieces)),
            precision="fp32",
            task=TASK,
            accumulate=pieces,
        )
    assert 0 < distance(tmp_path / "1", tmp_path / "4") < 1e-3


def test_fine_tuning_does_not_tell_pieces(teacher, transcribed, tmp_path):
    lengths = np.array([5000, *[20_000] * 3])  # of what `corpus` has, a batch of few rows
    assert min(len(Epochs(lengths, 64_000, 1)(step)) for step in range(3)) < 4
    for pieces in (1, 4):
        training = PLAIN | {"accumulate": pieces}
        finetune.main(TASK, training, teacher, [transcribed], 1, tmp_path / str(pieces))
    assert 0 < distance(tmp_path / "1", tmp_path / "4") < 1e-3


@pytest.mark.slow
def test_two_processes_make_the_same_student(transcribed, tmp_path):
    """Several trainings in one job, with masks and gates drawn; only the order of sums differs."""
    teacher = write_teacher(tmp_path / "teacher")
    arguments = [CHAIN, 0.4, 1, str(teacher), [str(transcribed)], {}]
    settings = {"precision": "fp32", "task": TASK, "accumulate": 4, "threads": 1}
    compress.main(*arguments, tmp_path / "one", **settings)
    output, state = tmp_path / "two", tmp_path / "state"
    finish(start(tmp_path, "compress", 2, 4, *arguments, str(output), str(state), **settings))
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-4
    assert not state.exists()
    said = [line.partition(" INFO ")[2] for line in (tmp_path / "job.log").open()]
    assert "speech_pareto.runtime.launch: 2 processes\n" in said and len(set(said)) == len(said)


@pytest.mark.slow
def test_fine_tuning_in_two_processes_goes_on_after_a_stop(transcribed, tmp_path):
    """SIGTERM: the state is saved once, by the first; dropout and masks are drawn as before.

    What goes on does so below another launcher, and starts its own processes all the same.
    """
    teacher = write_teacher(tmp_path / "teacher")
    training = PLAIN | DRAWS | {"steps": 30, "accumulate": 2, "checkpoint_seconds": 0}
    arguments = [TASK, training, str(teacher), [str(transcribed)], 1]
    finetune.main(*arguments, tmp_path / "one")
    more = str(tmp_path / "two"), str(tmp_path / "state")
    job = start(tmp_path, "finetune", 2, 2, *arguments, *more)
    end = time.monotonic() + 120
    while not list((tmp_path / "state").rglob("checkpoint-*")) and time.monotonic() < end:
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    finish(job, 143)
    (state,) = (tmp_path / "state").iterdir()
    step = torch.load(newest(state, "checkpoint"), weights_only=True)["step"]
    assert 0 < step < 30 and not (tmp_path / "two").exists()
    assert len(list(state.iterdir())) <= 2  # nobody's half-written file
    told = TORCHRUN | {"PET_NNODES": "2", "PET_NODE_RANK": "1"}  # PET: of Kubernetes
    finish(start(tmp_path, "finetune", 2, 2, *arguments, *more, told=told))
    assert f"continuing after step {step}" in (tmp_path / "job.log").read_text()
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-4


@pytest.mark.slow
def test_rules_start_a_process_for_each_gpu(tmp_path, prompts_en, monkeypatch):
    """The workstation's profile reserves two GPUs of two; this machine need not have any."""
    shutil.copytree(ROOT / "tests" / "smoke", tmp_path, dirs_exist_ok=True)
    write_recordings(tmp_path, prompts_en, 20)
    write_teacher(tmp_path / "teacher")
    file = tmp_path / "config" / "config.yaml"
    study = yaml.safe_load(file.read_text())
    study["teachers"]["small"] = {"path": "teacher"}
    task = study["tasks"]["characters"]
    task["start"], study["compress"], student = "backbone", {"accumulate": 2}, task["student"]
    student["accumulate"] = 3
    file.write_text(yaml.safe_dump(study))
    monkeypatch.setenv("SPEECH_PARETO_GPUS", "0,1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    command = called_in(tmp_path, 2)
    command += ["--profile", ROOT / "profiles" / "workstation", "--resources", "gpu=2"]
    command += ["--set-resources", "compress:gpu=2", "finetune:gpu=2", "--show-failed-logs"]
    distilled, pruned = "small/distillation/0.2/1", "small/ffn-pruning/0.2/1"
    targets = [f"results/finetuned/{distilled}/characters", f"results/models/{pruned}/any"]
    run_snakemake(ROOT, *command, *targets)
    trained = [f"compress/{distilled}/any", f"finetune/{distilled}/characters"]
    for job in (*trained, f"compress/{pruned}/any"):
        log = (tmp_path / "logs" / f"{job}.log").read_text()
        assert "GPU 0,1" in log and ("2 processes" in log) == (job in trained), log
    for target in targets:
        backbone.load(tmp_path / target)
    del student["accumulate"]
    file.write_text(yaml.safe_dump(study))
    refused = run_snakemake(ROOT, *command, "--retries", "0", targets[0], check=False)
    assert refused.returncode and "the job has 2 GPUs, but `accumulate` is 1" in refused.stderr


@pytest.mark.slow
def test_what_fails_in_a_process_ends_all_with_its_reason(tmp_path):
    arguments = [TASK, PLAIN | {"accumulate": 2}, str(tmp_path / "nothing"), [], 1, "x"]
    said = finish(start(tmp_path, "finetune", 2, 2, *arguments), 1)
    assert "nothing: no config.json here" in said.split("The traceback is in")[0]
    assert "Traceback" in (tmp_path / "job.log").read_text()


def test_more_gpus_than_pieces_are_refused():
    with pytest.raises(ValueError, match="the job has 4 GPUs, but `accumulate` is 1: set it to 4"):
        launch.spread(finetune.main, 4, 1)
    for number in (None, 0, 1):
        assert launch.spread(finetune.main, number, 1) is finetune.main


@pytest.mark.slow
def test_a_job_below_other_launchers_trains_alone(transcribed, tmp_path):
    teacher = write_teacher(tmp_path / "teacher")
    arguments = [TASK, PLAIN | {"accumulate": 2}, str(teacher), [str(transcribed)], 1]
    finetune.main(*arguments, tmp_path / "plain")
    told = TORCHRUN | OTHERS
    finish(start(tmp_path, "finetune", 1, 2, *arguments, str(tmp_path / "one"), told=told))
    assert distance(tmp_path / "plain", tmp_path / "one") == 0


def test_only_the_first_process_logs_what_is_no_error(tmp_path, monkeypatch):
    from speech_pareto.runtime.log import logged

    file = tmp_path / "job.log"
    for rank in (None, 0, 1):
        if rank is not None:
            monkeypatch.setattr(processes, "LAUNCHED", True)
            monkeypatch.setenv("RANK", str(rank))
        with logged(file):
            logging.getLogger("speech_pareto").info("of %s", rank)
            logging.getLogger("speech_pareto").error("error of %s", rank)
    said = [line.rpartition(": ")[2] for line in file.read_text().splitlines()]
    assert said == ["of None", "error of None", "of 0", "error of 0", "error of 1"]
