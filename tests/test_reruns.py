"""Reruns are exact: each row of docs/reruns.md is a change, what it plans, and why."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from helpers.checkout import ROOT, copy_tree, no_weights, run_snakemake
from helpers.planning import (
    CELLS,
    COLLECTED,
    STUB,
    STUDY,
    append,
    dry_run,
    jobs_in,
    method_file,
    planned,
    recipes_of,
    rules_of,
    write_study,
)
from speech_pareto.study import reruns

# Each starts Snakemake; one process makes the study that all of them change.
pytestmark = [pytest.mark.slow(minutes=3), pytest.mark.xdist_group("reruns")]
PAGE = ROOT / "docs" / "reruns.md"


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory):
    """Return a copy of the checkout with a study that stubs of the scripts have run to the end."""
    folder = copy_tree(tmp_path_factory.mktemp("finished") / "tree")
    for script in (folder / "workflow" / "scripts").glob("*.py"):
        script.write_text(STUB + script.read_text())
    for weights in (folder / "resources").rglob("*.safetensors"):  # each test copies all files
        weights.write_bytes(no_weights())
    write_study(folder, STUDY)
    run_snakemake(folder, "--cores", "2")
    return folder


@pytest.fixture
def finished(finished_study, tmp_path):
    """Return a copy of the finished study, with the times of its files."""
    subprocess.run(["cp", "-a", finished_study, tmp_path / "tree"], check=True)
    yield tmp_path / "tree"
    shutil.rmtree(tmp_path)


def edit(file):
    """A change: code is added to a file that is there."""
    assert (ROOT / file).is_file(), file
    return lambda folder: append(folder / file, "\nEDITED = 1;\n")


def edit_library(name):
    return edit(f"workflow/scripts/speech_pareto/{name}")


def pin(name):
    """A change: another release of a package in one environment, for pip and for conda."""

    def change(folder):
        for file in (folder / "envs" / f"{name}.txt", folder / "envs" / f"{name}.yaml"):
            file.write_text(re.sub(r"numpy==\S+", "numpy==0.0.1", file.read_text()))

    return change


def put(*path, value):
    """A change: another value at this place of the config."""

    def change(folder):
        study = yaml.safe_load(yaml.safe_dump(STUDY))
        node = study
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        write_study(folder, study)

    return change


def comment(folder):
    for file in (folder / "workflow" / "scripts").rglob("*.py"):
        if file.stat().st_size:
            append(file, "\n# a comment\n")
    for file in (folder / "envs").rglob("*.*"):
        append(file, "# a comment\n")


def turn(folder):
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(STUDY.items())
    }
    write_study(folder, turned)


def touch(folder):
    for name in ("workflow", "config", "resources", "envs", "profiles"):
        for path in [folder / name, *(folder / name).rglob("*")]:
            os.utime(path)


def move(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("nowhere")  # what still looks here finds nothing
    return folder.with_name("elsewhere")


def retrain(folder):
    (folder / "resources" / "teachers" / "tiny" / "model.safetensors").write_bytes(
        no_weights("new")
    )


TUNED = ("tasks", "phones", "teacher", "steps")
TEACHER = {"path": "resources/teachers/tiny-phones"}
CHANGES = {
    "nothing": lambda folder: None,
    "a comment in every source and environment file": comment,
    "the order of the config's keys": turn,
    "the study's name": put("study", value="renamed"),
    "where a corpus is downloaded from": put("corpora", "prompts", "mirror", value="elsewhere"),
    "a fresh clone: every file has a new time stamp": touch,
    "the folder is moved": move,
    "a method (`head_pruning.py`)": edit_library("compression/methods/head_pruning.py"),
    "a method of no recipe (`wanda.py`)": edit_library("compression/methods/wanda.py"),
    "a method's settings": put(
        "recipes", "both", value=[{"head_pruning": {"ratio": 0.2}}, "low_rank"]
    ),
    "a setting of a supernet": put("recipes", "nested", value=[{"supernet": {"steps": 4}}]),
    "what follows a supernet": put(
        "recipes", "nested", value=[{"supernet": {"steps": 3}}, {"attention_reuse": {"ratio": 0.1}}]
    ),
    "a module that all models use (`backbone.py`)": edit_library("models/backbone.py"),
    "a module of the tests of significance (`significance.py`)": edit_library(
        "reporting/tables/significance.py"
    ),
    "a task (`ctc.py`)": edit_library("tasks/kinds/ctc.py"),
    "a kind of figure (`layers.py`)": edit_library("reporting/figures/layers.py"),
    "what planning alone uses (`cells.py`)": edit_library("study/cells.py"),
    "a task's recovery": put("tasks", "phones", "student", "steps", value=3),
    "a task's conditions": put("tasks", "phones", "conditions", value=["fast", "g722"]),
    "how a teacher that is shipped was fine-tuned": put(
        "tasks", "phones", "teacher", "steps", value=3
    ),
    "how time is measured": put("profile", value={"repeats": 3}),
    "a new ratio": put("grid", 0, "ratios", value=[0.5, 0.75]),
    "a new seed": put("grid", 0, "seeds", value=[1, 2]),
    "a new recipe": put("recipes", "new", value=["ffn_pruning"]),
    "fewer recipes": put("grid", 0, "recipes", value=["identity", "heads"]),
    "a new teacher": put("teachers", "other", value=TEACHER),
    "new weights of the bare teacher": retrain,
    "a new cost on the figures": put("figures", "costs", value=["parameters", "seconds"]),
    "a pin of `envs/plot.yaml`": pin("plot"),
    "a pin of `envs/torch.yaml`": pin("torch"),
    "a pin of `envs/data.yaml`": pin("data"),
    "a pin of `envs/export.yaml`": pin("export"),
}


def rows():
    """Return the rows of the page's table: change, planned rules, the cells, why."""
    lines = re.findall(r"^\| (.*) \|$", PAGE.read_text(), re.M)[1:]
    return [line.split(" | ") for line in lines]


def test_the_page_has_a_row_for_each_change():
    assert [row[0] for row in rows()] == list(CHANGES)


@pytest.mark.parametrize(("change", "rules", "cells", "causes"), rows())
def test_a_change_plans_what_its_row_says(finished, change, rules, cells, causes):
    text = dry_run(CHANGES[change](finished) or finished)
    jobs = jobs_in(text)
    assert (", ".join(sorted(rules_of(jobs) - {"all"})) or "–") == rules.replace("`", "")
    values = {}
    for rule, wildcards in jobs:
        if rule in CELLS:
            for name, value in re.findall(r"(\w+)=([^,]+)", wildcards):
                values.setdefault(name, set()).add(value)
    all_recipes = values.get("recipe") == set(STUDY["recipes"])
    if cells == "–":
        assert not values
    elif cells == "all":
        assert all_recipes and values["ratio"] == {"0.5", "0"}
    else:
        name, _, wanted = cells.partition(": ")
        assert values[name] == set(wanted.split(", "))
        if name == "recipe":
            assert recipes_of(jobs) == values[name]  # each with all its jobs
    found = set(re.findall(r", because (.*)$", reruns.explain(text), re.M))
    assert ("; ".join(sorted(found)) or "–") == causes.replace("`", "")


def test_why_is_a_command(finished):
    edit_library("compression/methods/low_rank.py")(finished)
    command = [sys.executable, "-m", "speech_pareto", "why", "--configfile", "config/config.yaml"]
    path = os.environ | {"PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    done = subprocess.run(
        command, cwd=finished, env=path, check=True, stdout=subprocess.PIPE, text=True
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("compress: 4 jobs (teacher tiny; recipe both, low-rank;")
    assert first.endswith(", because speech_pareto/compression/methods/low_rank.py changed")
    assert second.startswith("then, from what these make: ")
    refused = subprocess.run([*command, "--config", "profil=1"], cwd=finished, env=path)
    assert refused.returncode == 1


def test_software_is_that_of_the_rules_environment():
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for rule in re.split(r"\n(?=rule )", file.read_text()):
            for name in re.findall(r'software=pins\("(\w+)"\)', rule):
                assert f"envs/{name}.yaml" in rule, file.name


def test_resolved_config_lies_beside_the_results(finished_study):
    resolved = yaml.safe_load((finished_study / "results" / "run_config.yaml").read_text())
    assert resolved["profile"]["repeats"] == 7


@pytest.mark.parametrize(
    ("method", "recipes"),
    [
        ("low_rank", {"low-rank", "both"}),
        ("distillation", {"distilled"}),
        ("identity", {"identity"}),
        ("self_pinching", {"pinched"}),
        ("supernet", {"nested"}),
    ],
)
def test_an_edited_method_plans_its_own_cells(finished, method, recipes):
    append(method_file(finished, method), "\nEDITED = True\n")
    jobs = planned(finished)
    assert recipes_of(jobs) == recipes
    once = {"train_supernet"} if method == "supernet" else set()
    assert rules_of(jobs) == {*CELLS, *COLLECTED, *once}


@pytest.mark.parametrize(
    ("file", "rules"),
    [
        ("compress.py", {*CELLS, *COLLECTED}),
        ("train_supernet.py", {"train_supernet", *CELLS, *COLLECTED}),
        ("finetune.py", {"finetune", "evaluate", *COLLECTED}),
        ("evaluate.py", {"evaluate", *COLLECTED}),
        ("profile_student.py", {"profile", *COLLECTED}),
        ("analyse.py", {"analyse", *COLLECTED}),
        ("speech_pareto/profiling/diagonality.py", {"analyse", *COLLECTED}),
        ("aggregate.py", COLLECTED),
        ("compare.py", COLLECTED - {"aggregate"}),
        ("plot.py", {"plot", "all"}),
        ("speech_pareto/reporting/figures/fronts.py", {"plot", "report", "all"}),
        ("speech_pareto/reporting/figures/labels.py", {"plot", "report", "all"}),
        ("speech_pareto/reporting/leaderboard.py", {"report", "all"}),
        ("report.py", {"report", "all"}),
        ("interim.py", set()),
        ("speech_pareto/reporting/budget.py", set()),
        ("speech_pareto/reporting/page/assets/chart.js", {"report", "all"}),
        ("speech_pareto/study/config.py", set()),
    ],
)
def test_edited_code_plans_what_runs_it(finished, file, rules):
    append(finished / "workflow" / "scripts" / file, "\nEDITED = 1;\n")
    assert rules_of(planned(finished)) == rules


@pytest.mark.parametrize("file", ["training/finetuning.py", "tasks/task.py", "tasks/kinds/ctc.py"])
def test_only_recipes_that_fine_tune_are_compressed_anew_with_the_task(finished, file):
    append(finished / "workflow" / "scripts" / "speech_pareto" / file, "\nEDITED = True\n")
    compressed = {wildcards for rule, wildcards in planned(finished) if rule == "compress"}
    scopes = ("phones", "characters")  # one starts from a fine-tuned teacher, one from the bare one
    pinched = [
        f"teacher=tiny, recipe=pinched, ratio=0.5, seed=1, scope={scope}" for scope in scopes
    ]
    assert compressed == set(pinched)


def test_recipes_that_fine_tune_start_where_their_task_does(finished):
    (finished / "resources" / "teachers" / "tiny" / "model.safetensors").write_bytes(
        no_weights("new")
    )
    compressed = {wildcards for rule, wildcards in planned(finished) if rule == "compress"}
    pinched = {wildcards for wildcards in compressed if "recipe=pinched" in wildcards}
    assert {wildcards.rpartition("scope=")[2] for wildcards in pinched} == {"characters"}
