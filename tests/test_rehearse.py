"""The rehearsal of a study: what it runs, what follows for the whole study, and what will fail."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

import compress
import rehearse_job
import rehearsed
from helpers.checkout import ROOT, called_in, run_snakemake
from helpers.compressing import STEM
from helpers.planning import STUDY
from helpers.results import RUN
from speech_pareto.compression import catalogue, recipes
from speech_pareto.data.batches import Epochs
from speech_pareto.models import backbone
from speech_pareto.models.model_folder import read_config
from speech_pareto.study import config, forecast, rehearsal, rehearsal_text
from speech_pareto.study.rehearsal import Rehearsal
from speech_pareto.training.excerpt import Excerpt
from speech_pareto.training.loop import piece_of
from speech_pareto.training.settings import FineTuning
from speech_pareto.training.stand_ins import random_model

GIB = 2**30
MEASURED = {
    "status": "ok",
    "reason": None,
    "start": 20.0,
    "parts": [{"what": "step", "number": 1000, "seconds": 0.5, "audio": 24.0}],
    "memory": 4e9,
    "gpu_memory": 0,
    "gpu_total": 0,
    "disk": 3e8,
    "checkpoint": 2e9,
    "random": False,
    "on_gpu": False,
    "limited": False,
    "given": {"mem_mb": [], "runtime": []},
    "machine": "a machine",
}
TRAINS = "compress/tiny/distilled/0.5/1/any"
NESTED = "train_supernet/tiny/nested/1/any"
TUNES = "finetune/tiny/heads/0.5/1/phones"


@pytest.fixture(scope="module")
def study():
    """Return a resolved study with recipes of every kind, at three ratios."""
    given = STUDY | {"grid": [{"ratios": [0.2, 0.3, 0.5], "seeds": [1, 2]}]}
    return config.resolve(yaml.safe_load(yaml.safe_dump(given)))


@pytest.fixture(scope="module")
def todo(study, tmp_path_factory):
    """Return all jobs of the study."""
    results = tmp_path_factory.mktemp("nothing")
    return forecast.jobs(study, forecast.expect(study, results), results)


def entry(study, job, **measured):
    """Return what a rehearsal keeps of a job."""
    return rehearsal.entry(study, job, {**MEASURED, **measured})


def judged(study, job, **measured):
    """Return the same as it is read."""
    return Rehearsal(study, [entry(study, job, **measured)]).entries[0]


def job_of(todo, benchmark):
    return next(job for job in todo if job.benchmark == benchmark)


def test_each_kind_of_job_is_rehearsed_at_its_ends(study, todo):
    chosen = rehearsal.chosen(study, todo)
    names = [job.benchmark for job in chosen]
    assert len(names) == len(set(names)) < len(todo) / 4
    kinds = {rehearsal.kind_of(study, job.benchmark) for job in todo if job.rule in rehearsal.STEMS}
    assert {rehearsal.kind_of(study, name) for name in names} == kinds
    compressed = [name.split("/")[2:4] for name in names if name.startswith("compress/")]
    assert ["distilled", "0.2"] in compressed and ["distilled", "0.5"] in compressed
    assert ["distilled", "0.3"] not in compressed
    assert len([recipe for recipe, _ in compressed if recipe == "heads"]) == 1  # it trains nothing
    tuned = [name for name in names if name.startswith("finetune/")]
    assert {name.split("/")[5] for name in tuned} == {"phones", "characters"} and len(tuned) == 4
    assert "finetune/tiny/identity/0/1/phones" in tuned  # the teacher, and one student


def test_cells_without_a_student_are_not_rehearsed(study):
    idle = forecast.Job("compress", TRAINS, 1e12, computes=False)
    unknown = forecast.Job("compress", TRAINS, None)
    assert rehearsal.chosen(study, [idle, unknown]) == []


def test_time_is_start_and_all_steps_and_rises_with_macs(study):
    low = forecast.Job("compress", TRAINS, 1e12)
    high = forecast.Job("compress", TRAINS.replace("0.5", "0.2"), 3e12)
    between = forecast.Job("compress", TRAINS.replace("0.5", "0.3"), 2e12)
    alone = Rehearsal(study, [entry(study, low)])
    assert alone.seconds(low) == 20 + 1000 * 0.5
    assert alone.seconds(high) == 20 + 3 * 1000 * 0.5
    slow = [{**MEASURED["parts"][0], "seconds": 1.5}]
    both = Rehearsal(study, [entry(study, low), entry(study, high, parts=slow)])
    assert both.seconds(between) == 20 + 1000 * 1.0
    assert both.seconds(forecast.Job("compress", "compress/tiny/both/0.5/1/any", 1e12)) is None
    assert both.disk(between) == 3e8


def test_jobs_ask_for_what_was_measured_and_a_margin(study):
    job = forecast.Job("compress", TRAINS, 1e12)
    found = Rehearsal(study, [entry(study, job)])
    assert found.megabytes(TRAINS) == 5500  # a quarter more than 4000, two Snakemakes, in 500s
    assert found.minutes(TRAINS) == 13 + 5  # half as much again as 8:40, and some
    other = TRAINS.replace("0.5/1", "0.3/7")
    assert found.megabytes(other) == 5500 and found.megabytes(TUNES) is None
    assert Rehearsal(study).megabytes(TRAINS) is None


def test_what_was_rehearsed_holds_while_its_settings_do(study, tmp_path):
    jobs = [forecast.Job("compress", TRAINS, 1e12), forecast.Job("finetune", TUNES, 1e12)]
    entries = [entry(study, job) for job in jobs]
    (tmp_path / rehearsal.FILE).write_text(json.dumps({"study": "x", "jobs": entries}))
    assert len(Rehearsal.read(study, tmp_path).entries) == 2
    changed = json.loads(json.dumps(study))
    changed["recipes"]["distilled"][0]["distillation"]["steps"] = 4
    assert [one["job"] for one in Rehearsal.read(changed, tmp_path).entries] == [TUNES]
    del changed["recipes"]["distilled"], changed["tasks"]["phones"]
    assert Rehearsal.read(changed, tmp_path).entries == []
    assert Rehearsal.read(study, tmp_path / "elsewhere").entries == []


def test_plans_take_rehearsed_hours_before_those_of_other_cells(study):
    names = [f"compress/tiny/distilled/0.5/{seed}/any" for seed in (1, 2)]
    jobs = [forecast.Job("compress", name, 1e12) for name in names]
    found = Rehearsal(study, [entry(study, jobs[0])])
    spent = forecast.durations(jobs, {names[0]: 7.0}, rehearsed=found.seconds)
    assert spent == [("measured", 7.0), ("rehearsed", 520.0)]


@pytest.mark.parametrize(
    ("measured", "status", "said"),
    [
        ({"given": {"mem_mb": [2000, 3000], "runtime": []}}, "out_of_memory", "mem_mb=5500"),
        ({"given": {"mem_mb": [2000, 4000], "runtime": []}}, "ok", None),
        ({"given": {"mem_mb": [], "runtime": [2, 4]}}, "out_of_time", "runtime=18"),
        ({"given": {"mem_mb": [], "runtime": [3, 6]}}, "ok", None),  # training goes on
    ],
)
def test_a_profile_that_gives_too_little_is_a_failure(study, measured, status, said):
    kept = entry(study, forecast.Job("compress", TRAINS, 1e12), **measured)
    found = Rehearsal(study, [kept])
    (one,) = found.entries
    assert one["status"] == status and found.failures() == [one] * (status != "ok")
    assert found.megabytes(TRAINS) == 5500 and found.minutes(TRAINS) == 18
    later = Rehearsal(study, [kept], lambda rule: {"mem_mb": [], "runtime": []})
    assert not later.failures()  # the profile no longer says so
    if said:
        assert "the profile or the command line gives" in one["reason"]
        assert said in rehearsal.remedy(study, one)


@pytest.mark.parametrize(
    ("rule", "name", "setting"),
    [
        ("compress", TRAINS, "`compress: {accumulate: 16}`"),
        ("train_supernet", NESTED, "`compress: {accumulate: 16}`"),
        ("finetune", TUNES, "`tasks: {phones: {student: {accumulate: 16}}}`"),
        (
            "finetune_one_teacher",
            "finetune_teacher/tiny/characters",
            "`tasks: {characters: {teacher: {accumulate: 16}}}`",
        ),
    ],
)
def test_what_runs_out_of_memory_is_told_how_to_need_less(study, rule, name, setting):
    short = {"status": "out_of_memory", "reason": "too large"}
    job = forecast.Job(rule, name, 1e12)
    one = judged(study, job, **short, fits={"pieces": 16, "memory": 9e9})
    assert rehearsal.remedy(study, one) == f"With {setting} in the config it fits, in 9.00 GB."
    one = judged(study, job, **short, fits=None)
    assert "a machine with more memory" in rehearsal.remedy(study, one)
    assert "GPU with more memory" in rehearsal.remedy(study, {**one, "on_gpu": True})
    assert "rehearse_job:mem_mb=" in rehearsal.remedy(study, {**one, "limited": True})


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


def test_failures_are_told_in_full_when_a_study_starts(study, todo, tmp_path):
    jobs = rehearsal.chosen(study, todo)
    entries = [entry(study, job) for job in jobs]
    assert rehearsal_text.warning(Rehearsal(study, entries)) == ""
    failed = {"status": "failed", "reason": "ValueError: no training utterance suits the task"}
    entries[-1] = entry(study, jobs[-1], **failed)
    found = Rehearsal(study, entries)
    said = " ".join(rehearsal_text.warning(found).split())
    assert jobs[-1].benchmark in said and "no training utterance suits the task" in said
    assert "Ctrl-C" in said and "results/rehearsal.json" in said
    expected = forecast.expect(study, tmp_path)
    infeasible = {"feasible": "no", "reason": "it can remove 0.4", "reachable": 0.4}
    expected |= {next(iter(expected)): infeasible}
    text = rehearsal_text.text(found, expected, todo, tmp_path)
    assert max(map(len, text.splitlines())) <= 100
    plain = " ".join(text.split())
    for words in (
        "1 of which will fail",
        "no student, since it can remove 0.4. The grid may ask for 0.4",
        "FAILED",
        "5500",
    ):
        assert words in plain, words


def test_what_takes_weeks_is_told(study, todo, tmp_path):
    parts = [{**MEASURED["parts"][0], "number": 2_000_000}]
    entries = [entry(study, job_of(todo, TRAINS), parts=parts)]
    text = " ".join(rehearsal_text.text(Rehearsal(study, entries), {}, todo, tmp_path).split())
    assert f"{TRAINS} takes 12 days in one job" in text and "compress:runtime=2880" in text


def test_a_full_disk_is_foretold(study, todo, tmp_path):
    entries = [entry(study, job, disk=1e15) for job in rehearsal.chosen(study, todo)]
    text = rehearsal_text.text(Rehearsal(study, entries), {}, todo, tmp_path)
    assert "make room" in text


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


@pytest.mark.parametrize("name", catalogue.names())
def test_stand_ins_have_the_shapes_of_students(name, teacher_folder, tmp_path):
    settings = dict(catalogue.load(name).example)
    whole = read_config(teacher_folder)
    solution = recipes.solve([{name: settings}], whole, 0.3)
    model = backbone.load(random_model(solution.config, tmp_path / "student"))
    described = forecast.architecture.count(solution.config)["total"]
    assert forecast.architecture.count(backbone.describe(model))["total"] == described
    with torch.no_grad():
        assert model(torch.randn(1, 4000)).last_hidden_state.isfinite().all()


def job(folder, **more):
    """Return the description of a job that compresses the model in a folder."""
    facts = {"recipe": ["identity"], "precision": "fp32", "task": None, "accumulate": 1}
    found = {"rule": "compress", "job": facts, "run": {}, "ratio": 0.0, "seed": 1, "corpora": []}
    found |= {"teacher": str(folder), "configs": {}, "threads": 1}
    return found | {"given": MEASURED["given"]} | more


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


def test_one_rehearsal_of_a_supernet_holds_for_all_seeds(study, todo):
    (chosen,) = [job for job in rehearsal.chosen(study, todo) if job.rule == "train_supernet"]
    found = Rehearsal(study, [entry(study, chosen)])
    assert {found.minutes(NESTED.replace("1", seed)) for seed in "12"} == {13 + 5}


def test_files_that_come_and_go_are_counted_without_a_fault(tmp_path):
    ended = threading.Event()

    def come_and_go():
        while not ended.is_set():
            (tmp_path / "state/step1").mkdir(parents=True)
            (tmp_path / "state/step1/checkpoint").write_bytes(b"123")
            shutil.rmtree(tmp_path / "state")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        found, end = set(), time.monotonic() + 2
        while time.monotonic() < end or 3 not in found:
            found.add(rehearse_job._bytes(tmp_path / "state"))
    finally:
        ended.set()
        thread.join()
    assert found == {0, 3}


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


def write_recordings(folder):
    """Write noise as recordings of a corpus: their lengths and texts are all that matters here."""
    generator, rows = np.random.default_rng(0), ["path\ttext\tspeaker\tsplit"]
    for number in range(20):
        name = f"{number}.wav"
        length = generator.integers(16_000, 48_000)
        soundfile.write(folder / name, 0.1 * generator.standard_normal(length), 16_000)
        split = ("test", "valid", "train", "train")[number % 4]
        rows.append(f"{name}\tsome words\ts{number % 3}\t{split}")
    (folder / "recordings.tsv").write_text("\n".join(rows) + "\n")


@pytest.mark.slow(minutes=2)
def test_a_study_is_rehearsed_planned_and_given_what_it_needs(tmp_path):
    write_recordings(tmp_path)
    training = {"steps": 300, "batch_seconds": 4, "learning_rate": 1e-3}
    given = {
        "study": "own",
        "corpora": {"own": {"source": "manifest", "path": "recordings.tsv", "language": "en"}},
        "teachers": {"tiny": {"path": str(ROOT / "resources" / "teachers" / "tiny")}},
        "recipes": {"distilled": [{"distillation": {"steps": 200, "batch_seconds": 4.0}}]},
        "tasks": {
            "letters": {
                "corpora": ["own"],
                "unit": "characters",
                "metric": "cer",
                "start": "backbone",
                "teacher": training,
                "student": training,
            }
        },
        "grid": [{"ratios": [0.3], "seeds": [1, 2]}],
        "profile": {"audio_seconds": 1, "repeats": 3},
        "figures": {"costs": ["parameters"], "views": []},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(given))
    command = [*called_in(tmp_path, 1), "--configfile", tmp_path / "study.yaml"]
    done = run_snakemake(ROOT, "rehearse", *command, "--show-failed-logs")
    results = tmp_path / "results"
    assert "4 jobs, 0 of which will fail" in done.stdout
    assert (results / "rehearsal.txt").read_text() in done.stdout
    assert sorted(path.name for path in results.iterdir()) == [
        *("benchmarks", "corpora", "rehearsal.json", "rehearsal.txt", "run_config.yaml")
    ]
    took = {
        one["rule"]: one for one in json.loads((results / "rehearsal.json").read_text())["jobs"]
    }
    assert took["compress"]["parts"][0]["number"] == 200
    assert took["finetune"]["parts"][0]["number"] == 300
    assert took["evaluate"]["parts"][0]["seconds"] > 0
    for one in took.values():
        assert 0.2 * GIB < one["memory"] < 2 * GIB
    assert took["compress"]["checkpoint"] > 2 * 3 * took["compress"]["disk"]  # weights and moments
    plan = run_snakemake(ROOT, "plan", *command).stdout
    assert "2 rehearsed" in plan and "Rehearsed: results/rehearsal.json" in plan
    ahead = run_snakemake(ROOT, *command, "--dry-run").stdout
    asked = rehearsal.memory_to_ask(took["compress"]["memory"])
    assert f"mem_mb={asked}" in ahead and "mem_mb=8000" not in ahead

    fits = {"pieces": 4, "memory": 1e9}
    took["finetune"] |= {"status": "out_of_memory", "reason": "too large", "fits": fits}
    (results / "rehearsal.json").write_text(json.dumps({"jobs": list(took.values())}))
    little = ("--set-resources", "compress:mem_mb=100 * attempt", "--retries", "1")
    done = run_snakemake(ROOT, *command, *little, "--force", "results/corpora/own")
    said = " ".join(done.stderr.split())
    assert "student: {accumulate: 4}" in said and "They are tried all the same" in said
    assert "of which the profile or the command line gives 200" in said
