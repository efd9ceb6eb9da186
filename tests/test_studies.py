"""The papers as studies: they load, plan without data and make students of published sizes."""

import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from snakemake.utils import update_config

from generate.systems import SYSTEMS
from helpers.checkout import ROOT
from speech_pareto.models import architecture
from speech_pareto.study import config, forecast
from speech_pareto.study.cells import cells
from speech_pareto.study.forecast_text import text

PAPERS = ("lin2022", "self_pinching", "saspg", "armhubert", "rivals", "all")
MADE = {  # recipes, and the published systems that they make
    "armhubert": "ARMHuBERT",
    "armhubert-s": "ARMHuBERT-S",
    "maskhubert": "MaskHuBERT",
    "starhubert": "STaRHuBERT",
    "starhubert-l": "STaRHuBERT-L",
    "distilhubert": "DistilHuBERT",
    "fithubert": "FitHuBERT",
    "lighthubert-small": "LightHuBERT Small",
    "dphubert": "DPHuBERT",
}
each_paper = pytest.mark.parametrize("name", PAPERS)


def command(name):
    """Return the files that a study's own head line gives Snakemake, after the target `plan`."""
    text = (ROOT / "config" / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
    words = shlex.split(next(line for line in text.splitlines() if "--configfile" in line)[1:])
    assert words[:5] == ["snakemake", "plan", "--cores", "1", "--configfile"]
    return words[5:]


def merged(files, **changes):
    """Return the resolved config of these files, merged as Snakemake merges them."""
    found = {}
    for file in files:
        update_config(found, yaml.safe_load((ROOT / file).read_text(encoding="utf-8")))
    return config.resolve(found | changes, [ROOT / file for file in files])


@pytest.fixture(scope="module")
def planned():
    """Return a function that gives a study, what is expected of its cells, and the plan's text."""
    found = {}

    def get(name):
        if name not in found:
            study = merged(command(name))
            expected = forecast.expect(study, Path("nowhere"))
            todo = forecast.jobs(study, expected, Path("nowhere"))
            spent = forecast.durations(todo, {}, study["throughput"])
            found[name] = study, expected, text(study, expected, todo, spent), todo, spent
        return found[name]

    return get


@each_paper
def test_a_paper_is_feasible_and_its_hours_rest_on_a_stated_throughput(name, planned):
    study, expected, text, todo, spent = planned(name)
    assert study["study"] == name.replace("_", "-")
    assert {facts["feasible"] for facts in expected.values()} == {"yes"}
    assert "20.0 T MACs per second" in text
    training = [s for job, (_, s) in zip(todo, spent, strict=True) if job.rule == "compress"]
    assert sum(training) > 3600
    macs = max(job.macs for job in todo if job.rule == "compress")
    assert max(training) == pytest.approx(forecast.START + macs / study["throughput"])


@each_paper
@pytest.mark.slow
def test_snakemake_plans_a_paper_without_any_data(name, tree, snakemake):
    files = command(name)
    done = snakemake(tree, "--configfile", *files, "--dry-run", "--quiet", "rules")
    study = merged(files)
    students = {(c.teacher, c.recipe, c.ratio, c.seed, c.scope) for c in cells(study)}
    counted = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    assert int(counted["compress"]) == len(students)
    assert int(counted["fetch_teacher"]) == len(study["teachers"])


@each_paper
def test_students_have_the_published_sizes(name, planned):
    """docs/sizes.md compares the systems with what was printed."""
    systems = {system.name: system for system in SYSTEMS}
    study, expected, *_ = planned(name)
    for cell, facts in expected.items():
        kind = study["teachers"][cell.teacher]["hub"]
        if cell.recipe in MADE and "hubert-base" in kind:
            system = systems[MADE[cell.recipe]]
            size = architecture.count(system.config)["total"]
            masked = 768 + 480  # DistilHuBERT and others of the list have no mask vector
            assert facts["parameters"] == pytest.approx(size, abs=masked), cell
        elif cell.recipe == "identity":
            assert facts["expected_ratio"] == 0
        else:
            assert facts["expected_ratio"] == pytest.approx(float(cell.ratio), abs=0.0101), cell


def test_walks_stop_where_the_published_curves_have_points(planned):
    """MelHuBERT and HuBERT Base differ by the stem alone: the same cuts remove as many."""
    rows = pd.read_csv(ROOT / "resources" / "published.csv")
    rows = rows[(rows["metric"] == "PER_%") & (rows["provenance"] == "digitised")]
    points = {
        "lin-weights": "weight-pruned MelHuBERT",
        "lin-heads": "head-pruned MelHuBERT",
        "lin-heads-by-data": "head-pruned MelHuBERT",
        "lin-rows": "row-pruned MelHuBERT",
        "lin-distilled": "KD 6-layer student",
        "lin-distilled-2": "KD 2-layer student",
        "lin-combined": "KD 6L + head + row pruning",
        "layer-drop": "MelHuBERT-first",
    }
    _, expected, *_ = planned("lin2022")
    base = architecture.count({"model_type": "hubert"})["total"]
    for cell, facts in expected.items():
        if cell.recipe in points:
            published = rows[rows["model"].str.startswith(points[cell.recipe])]["params_m"]
            removed = (base - facts["counted_parameters"]) / 1e6
            assert min(abs(90.231 - published - removed)) < 0.7, cell  # as a figure can be read
    assert set(points) < {cell.recipe for cell in expected}


def test_from_tiny_to_hubert_base_by_editing_names():
    default = merged(["config/config.yaml"], teachers={"tiny": {"hub": "hubert-base"}}, grid=[
        {"recipes": ["layer-drop", "weight-pruning", "low-rank"], "ratios": [0.5], "seeds": [1]}
    ])  # fmt: skip
    facts = forecast.expect(default, Path("nowhere")).values()
    assert {f["feasible"] for f in facts} == {"yes"}
    assert all(f["counted_parameters"] == pytest.approx(47.2e6, rel=0.03) for f in facts)


@pytest.mark.slow
def test_and_back_to_tiny(tree, snakemake):
    """The names of the teacher and of the file with corpora change, nothing else."""
    study = tree / "config" / "studies" / "all.yaml"
    text = study.read_text().replace("hub: hubert-base", "path: resources/teachers/tiny")
    study.write_text(text)
    done = snakemake(
        tree,
        "--configfile",
        "config/librispeech.yaml",
        "config/config.yaml",
        "config/recipes.yaml",
        "config/studies/all.yaml",
        "--cores",
        "1",
        "plan",
    )
    assert "infeasible" in done.stdout  # students of a fixed shape
    for recipe in ("low-rank", "lin-weights", "self-pinching"):
        assert f"  {recipe} " in done.stdout


def test_superb_in_an_afternoon_is_feasible_and_keeps_its_features(planned):
    study, expected, said, _, _ = planned("superb-mini")
    assert len(expected) == 15 and "infeasible" not in said
    problems = {task["problem"]: task for task in study["tasks"].values() if "problem" in task}
    assert set(problems) == {"ASR", "PR", "KS"}
    assert all(task["cache_features"] and task["train_hours"] == 10 for task in problems.values())


def test_the_page_on_real_runs_says_what_the_plans_say(planned):
    page = (ROOT / "docs" / "real-runs.md").read_text(encoding="utf-8")
    for name in PAPERS:
        _, expected, _, _, spent = planned(name)
        hours = [seconds / 3600 for _, seconds in spent]
        row = f"{name}.yaml) | {len(expected)} | {sum(hours):,.0f} | {max(hours):,.0f} |"
        assert row in page, row
