"""The plan of a study: what it estimates is what is made, job by job and to the last MAC."""

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

import compress
import plan as script
from helpers.checkout import ROOT
from helpers.planning import STUDY, planned, write_study
from speech_pareto.models import architecture, backbone, operations
from speech_pareto.profiling import cost
from speech_pareto.runtime.result import read_status
from speech_pareto.study import config, forecast
from speech_pareto.study.cells import cells

SMALL = {"hidden": 48, "layers": 3, "heads": 6, "ffn": 160, "pos_conv": 16}
TINY = {"tiny": {"path": "resources/teachers/tiny"}}
HEARD = STUDY["tasks"]["phones"] | {"conditions": ["fast", "opus-12k"]}
HUB = {"hub": "someone/model", "revision": "0" * 40}
PRETRAINED = {
    "pretrain": {
        "corpora": ["prompts"],
        "model": SMALL,
        "iterations": [{"units": 4, "steps": 2, "batch_seconds": 8, "learning_rate": 0.1}],
    }
}
RECIPES = {
    "identity": ["identity"],
    "heads": ["head_pruning"],
    "rows": ["ffn_pruning"],
    "layers": ["layer_drop"],
    "random": ["random_pruning"],
    "weights": ["weight_pruning"],
    "low-rank": ["low_rank"],
    "distilled": [{"distillation": {"steps": 0}}],
    "both": [{"head_pruning": {"ratio": 0.1}}, "low_rank"],
}


def resolved(**changes):
    """Return the resolved config of `STUDY` with other sections."""
    return config.resolve(yaml.safe_load(yaml.safe_dump({**STUDY, **changes})))


def expected(study, results=Path("nowhere")):
    return forecast.expect(study, results)


def facts_of(study, results=Path("nowhere"), **names):
    """Return what is expected of the first cell with these names."""
    found = forecast.expect(study, results).items()
    return next(f for cell, f in found if names.items() <= vars(cell).items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "study",
    [
        None,  # the default one
        STUDY | {"teachers": {"fetched": HUB, "made": PRETRAINED, **STUDY["teachers"]}},
        STUDY
        | {"recipes": {"heads": ["head_pruning"]}, "compress": {"corpora": ["fillets"]}}
        | {"onnx": {}, "tasks": STUDY["tasks"] | {"phones": HEARD}},
    ],
    ids=["default", "three-sources", "nothing-learns-files-and-conditions"],
)
def test_jobs_are_those_that_snakemake_plans(tree, study):
    if study:
        write_study(tree, study)
    given = yaml.safe_load((tree / "config" / "config.yaml").read_text())
    mine = config.resolve(given)
    foretold = Counter(job.rule for job in forecast.jobs(mine, expected(mine), Path("nowhere")))
    theirs = Counter(rule for rule, _ in planned(tree))
    del theirs["all"]
    assert foretold == theirs


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return the folder of a small real teacher."""
    folder = tmp_path_factory.mktemp("small") / "teacher"
    torch.manual_seed(0)
    backbone.save(backbone.new(backbone.tiny_config(**SMALL)), folder)
    return folder


@pytest.mark.slow
def test_students_are_as_planned(small, tmp_path):
    study = resolved(
        recipes=RECIPES,
        teachers={"small": {"path": str(small)}},
        tasks={"characters": STUDY["tasks"]["characters"]},
        grid=[{"ratios": [0.2, 0.5, 0.9], "seeds": [1]}],
        profile={"audio_seconds": 1.5},
    )
    seen = Counter()
    for cell, facts in expected(study).items():
        seen[facts["feasible"]] += 1
        folder = tmp_path / cell.recipe / cell.ratio
        steps = study["recipes"][cell.recipe]
        compress.main(steps, float(cell.ratio), 1, small, [], {}, folder)
        if status := read_status(folder):
            assert facts["feasible"] == "no"
            assert (facts["reason"], facts["reachable"]) == (status["reason"], status["reachable"])
            continue
        student = backbone.load(folder)
        described = cost.parameters(student)["total"], backbone.describe(student)
        assert facts["parameters"] == described[0]
        assert facts["counted_parameters"] == forecast.architecture.remaining(described[1])
        file = folder / "model.safetensors"
        header = 8 + int.from_bytes(file.open("rb").read(8), "little")
        assert facts["bytes"] == file.stat().st_size - header
        assert facts["macs_per_second"] == cost.macs(student, cost.noise(1.5)) / 1.5
    assert seen["yes"] > 15 and seen["no"] > 2


def test_a_teacher_to_be_pretrained_is_known_before(small):
    study = resolved(teachers={"made": PRETRAINED})
    assert facts_of(study, recipe="identity")["parameters"] == sum(
        parameter.numel() for parameter in backbone.load(small).parameters()
    )


def test_a_teacher_of_the_hub_is_known_once_it_is_fetched(small, tmp_path):
    study = resolved(teachers={"base": HUB})
    row = facts_of(study, tmp_path, recipe="heads")
    assert row == {
        "feasible": "unknown",
        "reason": "the teacher someone/model is not fetched yet",
    }
    todo = forecast.jobs(study, expected(study), tmp_path)
    spent = dict(zip((job.benchmark for job in todo), forecast.durations(todo, {}), strict=True))
    assert spent["finetune/base/heads/0.5/1/characters"] == ("unknown", 0.0)
    assert spent["fetch_teacher/base"] == ("assumed", forecast.CORPUS)
    (tmp_path / "teachers" / "base").mkdir(parents=True)
    (tmp_path / "teachers" / "base" / "backbone").symlink_to(small)
    assert facts_of(study, tmp_path, recipe="identity")["feasible"] == "yes"


def test_settings_that_a_method_refuses_are_not_feasible():
    study = resolved(recipes={"wrong": [{"distillation": {"layers": 99}}]})
    row = facts_of(study, recipe="wrong")
    assert row["feasible"] == "no" and "layers is 99, the model has" in row["reason"]


def work_of(study, benchmark):
    """Return the MACs of a job."""
    todo = forecast.jobs(study, expected(study), Path("nowhere"))
    return next(job.macs for job in todo if job.benchmark == benchmark)


def test_macs_of_a_job_are_those_of_its_steps():
    training = {"steps": 10, "batch_seconds": 6, "learning_rate": 0.1}
    distilled = [{"distillation": {"steps": 7, "batch_seconds": 5.0}}]
    task = STUDY["tasks"]["characters"] | {"student": training}
    tasks = {"characters": task, "probed": task | {"protocol": "probe"}}
    recipes = {"identity": ["identity"], "distilled": distilled}
    study = resolved(tasks=tasks, recipes=recipes, teachers=TINY)
    teacher = facts_of(study, recipe="identity")["macs_per_second"]
    student = facts_of(study, recipe="distilled")["macs_per_second"]
    assert work_of(study, "finetune/tiny/distilled/0.5/1/characters") == 3 * 10 * 6 * student
    assert work_of(study, "finetune/tiny/distilled/0.5/1/probed") == 10 * 6 * student
    assert work_of(study, "compress/tiny/distilled/0.5/1/any") == 7 * 5 * (3 * student + teacher)
    assert work_of(study, "compress/tiny/identity/0/1/any") == 0
    made = resolved(teachers={"made": PRETRAINED})
    own = facts_of(made, recipe="identity")["macs_per_second"]
    assert work_of(made, "pretrain_teacher/made") == 3 * 2 * 8 * own
    counted = {"iterations": [PRETRAINED["pretrain"]["iterations"][0] | {"batch_utterances": 5}]}
    made = resolved(teachers={"made": {"pretrain": PRETRAINED["pretrain"] | counted}})
    assert work_of(made, "pretrain_teacher/made") == pytest.approx(3 * 2 * 5 * 4 * own)  # windows
    cropped = {"steps": 7, "batch_utterances": 6, "crop_seconds": 10}
    for more, seconds in (({}, 10), ({"crop_seconds": None}, 12.3)):  # LibriSpeech's mean
        recipes = {"identity": ["identity"], "distilled": [{"distillation": cropped | more}]}
        study = resolved(recipes=recipes, teachers=TINY)
        expected = 7 * 6 * seconds * (3 * student + teacher)
        assert work_of(study, "compress/tiny/distilled/0.5/1/any") == pytest.approx(expected)
    tasks = {"characters": STUDY["tasks"]["characters"]}  # batches of 24 s
    default = resolved(tasks=tasks, teachers=TINY)
    assert work_of(default, "finetune/tiny/identity/0/1/characters") == 3 * 2 * 24 * teacher


def test_a_supernet_is_planned_once_for_all_ratios():
    recipes = {"nested": [{"supernet": {"steps": 7, "batch_seconds": 5.0, "drawn": 3}}]}
    grid = [{"ratios": [0.2, 0.5, 0.99], "seeds": [1, 2]}]
    tasks = {"characters": STUDY["tasks"]["characters"]}
    study = resolved(recipes=recipes, teachers=TINY, grid=grid, tasks=tasks)
    jobs = forecast.jobs(study, expected(study), Path("nowhere"))
    found = {job.benchmark: job for job in jobs if job.rule == "train_supernet"}
    assert list(found) == [f"train_supernet/tiny/nested/{seed}/any" for seed in (1, 2)]
    cut = [job for job in jobs if job.rule == "compress"]
    assert len(cut) == 6 and {job.macs for job in cut} == {0.0}
    assert [job.computes for job in cut if "/0.99/" in job.benchmark] == [False, False]

    def macs(width, layers, heads, rows):
        config = architecture.tiny(hidden=width, layers=layers, heads=width // 32)
        shape = [architecture.Layer(tuple(range(heads)), rows)] * layers
        return operations.macs(architecture.with_layers(config, shape), 10)["total"] / 10

    whole, least, middle = macs(192, 6, 6, 768), macs(96, 3, 2, 96), macs(160, 5, 4, 480)
    work = 7 * 5 * (whole + 3 * (whole + least + 3 * middle))
    for job in found.values():
        assert job.macs == pytest.approx(work) and job.computes
    alone = resolved(recipes=recipes, teachers=TINY, grid=[{"ratios": [0.99], "seeds": [1]}])
    jobs = forecast.jobs(alone, expected(alone), Path("nowhere"))
    assert not next(job for job in jobs if job.rule == "train_supernet").computes


def write_benchmark(folder, name, seconds):
    file = folder / "benchmarks" / f"{name}.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t-\n")


def test_hours_are_measured_where_they_can_be(tmp_path):
    write_benchmark(tmp_path, "finetune/tiny/heads/0.5/1/phones", 7)
    write_benchmark(tmp_path, "finetune/tiny/heads/0.2/1/phones", 9)
    write_benchmark(tmp_path, "finetune/tiny/heads/0.2/1/characters", 99)
    write_benchmark(tmp_path, "finetune/tiny/heads/0.9/1/phones", 1)
    names = [f"finetune/tiny/{name}" for name in ("heads/0.5/1", "heads/0.5/2", "other/0.5/1")]
    todo = [forecast.Job("finetune", f"{name}/phones", 2 * forecast.RATE) for name in names]
    for seed in (1, 2):  # too much for heads
        name = f"finetune/tiny/heads/0.9/{seed}/phones"
        todo.append(forecast.Job("finetune", name, computes=False))
    assert forecast.durations(todo, forecast.benchmarks(tmp_path)) == [
        ("measured", 7.0),
        ("alike", 8.0),
        ("assumed", forecast.START + 2),
        ("measured", 1.0),
        ("assumed", forecast.START),
    ]


def test_the_plan_to_read(small, tmp_path, capsys):
    study = resolved(
        recipes=RECIPES,
        teachers={"small": {"path": str(small)}, "base": HUB},
        grid=[{"ratios": [0.5, 0.9], "seeds": [1, 2]}],
    )
    write_benchmark(tmp_path, "compress/small/random/0.5/1/any", 3600)
    script.main(study, tmp_path)
    text = (tmp_path / "plan.txt").read_text()
    assert text in capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    for words in (
        "1 measured, 1 alike, ",
        "head_pruning can remove",
        "the teacher someone/model is not fetched yet",
        "50.0 G MACs per second",
    ):
        assert words in " ".join(text.split()), words
    with (tmp_path / "plan.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(cells(study)) and tuple(rows[0]) == forecast.COLUMNS
    assert {row["feasible"] for row in rows} == {"yes", "no", "unknown"}


@pytest.mark.slow
def test_the_target_prints_each_time_and_needs_no_data(tree, snakemake):
    for _ in range(2):
        done = snakemake(tree, "plan", "--cores", "1")
        assert "Study default: 39 cells (39 feasible), 239 jobs" in done.stdout
    made = {path.name for path in (tree / "results").iterdir()}
    assert made == {"plan.csv", "plan.txt", "run_config.yaml"}


def test_planning_needs_no_torch(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(resolved(recipes=RECIPES)))
    code = (
        "import sys, yaml; absent = ('torch', 'transformers', 'safetensors'); "
        "sys.modules.update(dict.fromkeys(absent)); import plan; "
        f"plan.main(yaml.safe_load(open({str(study)!r})), {str(tmp_path)!r})"
    )
    paths = {"PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    subprocess.run([sys.executable, "-c", code], check=True, env=paths, cwd=ROOT)
    assert (tmp_path / "plan.txt").is_file()
