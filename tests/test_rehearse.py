"""The rehearsal of a study: what it runs, what follows for the whole study, and what will fail."""

import json

import numpy as np
import pytest
import soundfile
import yaml

from helpers.checkout import ROOT, called_in, run_snakemake
from helpers.planning import STUDY
from speech_pareto.study import config, forecast, rehearsal, rehearsal_text
from speech_pareto.study.rehearsal import Rehearsal

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
    known = rehearsal.kinds_of(study)
    assert kinds <= known and all(rehearsal.settings_of(study, kind) for kind in known)
    compressed = [name.split("/")[2:4] for name in names if name.startswith("compress/")]
    assert ["distilled", "0.2"] in compressed and ["distilled", "0.5"] in compressed
    assert ["distilled", "0.3"] not in compressed
    assert len([recipe for recipe, _ in compressed if recipe == "heads"]) == 1  # it trains nothing
    tuned = [name for name in names if name.startswith("finetune/")]
    assert {name.split("/")[5] for name in tuned} == {"phones", "characters"} and len(tuned) == 4
    assert "finetune/tiny/identity/0/1/phones" in tuned  # the teacher, and one student


def test_profiles_of_early_exits_are_a_kind_of_their_own(study):
    name = "profile/tiny/{}/0/1/phones"
    leaving = {**study, "recipes": {**study["recipes"], "exits": [{"early_exit": {}}]}}
    kinds = [rehearsal.kind_of(leaving, name.format(recipe)) for recipe in ("identity", "exits")]
    assert kinds == ["profile/tiny", "profile/tiny/exits/phones"]
    corpora = {**study["corpora"], "prompts": {**study["corpora"]["prompts"], "languages": ["fr"]}}
    before, after = (
        [rehearsal.settings_of(s, k) for k in kinds]
        for s in (leaving, {**leaving, "corpora": corpora})
    )
    assert before[0] == after[0] and before[1] != after[1]


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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"jobs": [', "not readable as JSON"),
        ("[]", "holds no rehearsal; delete it"),
        ('{"jobs": 3}', "holds no rehearsal; delete it"),
        ('{"jobs": [{"kind": "compress/tiny/distilled"}]}', "is of another version"),
    ],
)
def test_a_file_that_is_no_rehearsal_is_named(study, tmp_path, content, said):
    (tmp_path / rehearsal.FILE).write_text(content)
    with pytest.raises(ValueError, match=said) as error:
        Rehearsal.read(study, tmp_path)
    assert str(tmp_path / rehearsal.FILE) in str(error.value)


def test_what_ran_without_a_gpu_says_nothing_of_jobs_that_have_one(study):
    job = forecast.Job("compress", TRAINS, 1e12)

    def asked(gpus, **measured):
        given = {"mem_mb": [], "runtime": [], "gpu": gpus}
        return Rehearsal(study, [entry(study, job, **measured)], lambda rule: given)

    found = asked([1, 1])
    assert not found.entries and found.megabytes(TRAINS) is None
    said = " ".join(rehearsal_text.warning(found).split())
    assert "rehearsal of compress is not counted: it had no GPU (a machine)" in said
    shared = asked([1, 1], on_gpu=True)
    profiled = asked([1], given={"mem_mb": [], "runtime": [], "gpu": [1]})
    for held in (asked([]), shared, profiled):
        assert held.megabytes(TRAINS) == 5500 and rehearsal_text.warning(held) == ""


def test_a_pretraining_is_rehearsed_anew_when_its_corpora_change(study):
    own = {"own": {"pretrain": {"corpora": ["prompts"], "iterations": []}}}
    french = {**study["corpora"]["prompts"], "languages": ["fr"]}
    before = {**study, "teachers": own}
    after = {**before, "corpora": {**study["corpora"], "prompts": french}}
    digests = {rehearsal.settings_of(one, "pretrain_teacher/own") for one in (before, after)}
    assert len(digests) == 2


def test_what_was_rehearsed_of_another_study_is_kept_and_does_not_count(study):
    tuned = entry(study, forecast.Job("finetune", TUNES, 1e12))
    bad = {"status": "failed", "reason": "too short"}
    failed = entry(study, forecast.Job("compress", TRAINS, 1e12), **bad)
    other = json.loads(json.dumps(study))
    other["grid"][0]["recipes"] = ["heads"]
    mended = entry(study, forecast.Job("compress", TRAINS, 1e12))
    held = rehearsal.beside([mended], [failed, tuned])
    assert held == [mended, tuned]
    smaller = entry(study, forecast.Job("compress", TRAINS.replace("0.5", "0.3"), 2e12))
    assert rehearsal.beside([mended], [smaller, mended]) == [mended, smaller]
    assert rehearsal.beside([mended], [{**smaller, "machine": "another"}]) == [mended]
    kept = rehearsal.beside([tuned], [failed, tuned])
    assert Rehearsal(study, kept).failures() and not Rehearsal(other, kept).failures()
    assert [one["job"] for one in Rehearsal(other, kept).entries] == [TUNES]


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
            "finetune_teacher/tiny/phones",
            "`tasks: {phones: {teacher: {accumulate: 16}}}`",
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
    unknown = {"feasible": "unknown", "reason": "the teacher a/b is not fetched yet"}
    expected |= dict(zip(expected, (infeasible, unknown), strict=False))
    text = rehearsal_text.text(found, expected, todo, tmp_path)
    assert max(map(len, text.splitlines())) <= 100
    plain = " ".join(text.split())
    for words in (
        "1 of which will fail",
        "no student, since it can remove 0.4. The grid may ask for 0.4",
        "What was not rehearsed:",
        "the teacher a/b is not fetched yet. `snakemake teachers` fetches it.",
        "FAILED",
        "5500",
    ):
        assert words in plain, words


@pytest.mark.parametrize(
    ("what", "rate"), [("second of audio", "8.0"), ("batch", rehearsal_text.MISSING)]
)
def test_batches_are_no_seconds_of_audio(study, todo, tmp_path, what, rate):
    parts = [{"what": what, "number": 900, "seconds": 1 / 8}]
    found = Rehearsal(study, [entry(study, job_of(todo, TRAINS), parts=parts)])
    (line,) = [
        x for x in rehearsal_text.text(found, {}, todo, tmp_path).splitlines() if TRAINS in x
    ]
    assert line.split()[1:3] == [rehearsal_text.MISSING, rate]


def test_what_takes_weeks_is_told(study, todo, tmp_path):
    days = {TRAINS: 12, TRAINS.replace("0.5", "0.2"): 10, TUNES: 90}
    entries = []
    for name, number in days.items():
        parts = [{**MEASURED["parts"][0], "number": 2 * 86_400 * number}]
        entries.append(entry(study, job_of(todo, name), parts=parts))
    text = " ".join(rehearsal_text.text(Rehearsal(study, entries), {}, todo, tmp_path).split())
    both = f"{TRAINS} takes 12 days in one job, {TRAINS.replace('0.5', '0.2')} 10 days. Where a job"
    assert both in text and "compress:runtime=2880 --retries 7`" in text
    assert f"{TUNES} takes 90 days in one job. It takes a faster machine, or fewer steps" in text


def test_many_jobs_that_take_weeks_are_counted(study, tmp_path):
    entries = []
    for days in range(8, 13):
        job = forecast.Job("finetune", TUNES.replace("0.5", f"0.{days}"), 1e12)
        parts = [{**MEASURED["parts"][0], "number": 2 * 86_400 * days}]
        entries.append(entry(study, job, parts=parts))
    text = " ".join(rehearsal_text.text(Rehearsal(study, entries), {}, [], tmp_path).split())
    longest = TUNES.replace("0.5", "0.12")
    assert f"5 jobs take 8 days or more each; the longest, {longest}, 12 days. Where a job" in text


def test_a_full_disk_is_foretold(study, todo, tmp_path):
    entries = [entry(study, job, disk=1e15) for job in rehearsal.chosen(study, todo)]
    text = rehearsal_text.text(Rehearsal(study, entries), {}, todo, tmp_path)
    assert "make room" in text


def test_one_rehearsal_of_a_supernet_holds_for_all_seeds(study, todo):
    (chosen,) = [job for job in rehearsal.chosen(study, todo) if job.rule == "train_supernet"]
    found = Rehearsal(study, [entry(study, chosen)])
    assert {found.minutes(NESTED.replace("1", seed)) for seed in "12"} == {13 + 5}


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
    assert took["compress"]["machine"] in " ".join(plan.split())
    ahead = run_snakemake(ROOT, *command, "--dry-run").stdout
    asked = rehearsal.memory_to_ask(took["compress"]["memory"])
    assert f"mem_mb={asked}" in ahead and "mem_mb=8000" not in ahead
    on_gpus = run_snakemake(ROOT, *command, "--dry-run", "--set-resources", "compress:gpu=1")
    assert "mem_mb=8000" in on_gpus.stdout and f"mem_mb={asked}" in on_gpus.stdout

    fits = {"pieces": 4, "memory": 1e9}
    took["finetune"] |= {"status": "out_of_memory", "reason": "too large", "fits": fits}
    (results / "rehearsal.json").write_text(json.dumps({"jobs": list(took.values())}))
    little = ("--set-resources", "compress:mem_mb=100 * attempt", "--retries", "1")
    done = run_snakemake(ROOT, *command, *little, "--force", "results/corpora/own")
    said = " ".join(done.stderr.split())
    assert "student: {accumulate: 4}" in said and "They are tried all the same" in said
    assert "of which the profile or the command line gives 200" in said
