"""A search: its space and pool, what each round decides, and its rounds as jobs of Snakemake."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.checkout import ROOT, run_snakemake
from helpers.planning import STUB, STUDY, dry_run, jobs_in, write_study
from speech_pareto.compression import recipes
from speech_pareto.study import config, forecast, pool, progress, space
from speech_pareto.study.search import GAIN, Search
from speech_pareto.study.surrogate import gains, improvements

SEARCH = {
    "teacher": "tiny",
    "task": "phones",
    "hours": 0.05,
    "rungs": [1],
    "at_once": 4,
    "candidates": 24,
    "front": 3,
    "seeds": [1, 2],
    "space": {
        "low-rank": {"recipe": ["low_rank"], "ratio": {"from": 0.1, "to": 0.85}},
        "thin": {
            "recipe": [
                {"distillation": {"layers": {"from": 2, "to": 6}, "steps": {"of": [3, 9]}}},
            ],
            "ratio": {"from": 0.3, "to": 0.8},
        },
        "bits": {"recipe": [{"intx": {"bits": {"of": [2, 3, 4]}}}]},
    },
}
EVALUATE = """
import math
from speech_pareto.runtime import result
from speech_pareto.runtime.provenance import meta

names = snakemake.wildcards
left = 0 if names.task == "phones" else 9
score = 30 + 50 * float(names.ratio) ** 2 + left + len(names.recipe) / 10
value = {"per": round(score, 3), "utterances": 9, "reference_length": 99}
scores = {f"{split}_metrics" if split == "valid" else "metrics": value
          for split in snakemake.params.job["splits"]}
metric = {"name": "per", "better": "lower"}
value = result.compose(snakemake.params.run, meta(1), metric=metric, **scores)
result.write(snakemake.output.metrics, value)
open(snakemake.output.hypotheses, "w").close()
"""


def searching(**changes):
    """Return a study with a search, its candidates drawn."""
    study = {**STUDY, "search": {**SEARCH, **changes}}
    return pool.with_candidates(config.resolve(study), ROOT / "results")


@pytest.fixture
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_pool_follows_from_the_config_and_is_spread_over_the_cost(here):
    study = searching()
    assert searching() == study
    found, costs = study["search"]["pool"], []
    assert len(found) == 24 == len({(one["recipe"], one["ratio"]) for one in found})
    teacher = forecast.teacher_config(study, "tiny", "phones", ROOT)
    for one in found:
        solution = recipes.solve(study["recipes"][one["recipe"]], teacher, float(one["ratio"]))
        assert solution.reason is None
        assert pool.costs(study, solution.config)["macs_per_second"] == one["macs_per_second"]
        costs.append(one["macs_per_second"])
    # the first eight already reach over the range of all
    width = max(costs) - min(costs)
    gaps = np.diff(sorted([min(costs), *costs[:8], max(costs)]))
    assert gaps.max() < 0.4 * width
    assert {name.split("-")[0] for name in study["recipes"]} >= {"low", "thin", "bits"}
    assert searching(seeds=[2])["search"]["pool"] != found


def test_grid_blocks_that_name_nothing_have_no_candidates_and_no_rungs(here):
    assert pool.grid.cells(searching()) == pool.grid.cells(config.resolve(STUDY))


def test_ranges_are_drawn_within_their_ends():
    shares = np.linspace(0, 1, 50)
    drawn = {space.value_at({"from": 2, "to": 5}, share) for share in shares}
    assert drawn == {2, 3, 4, 5}
    rates = [space.value_at({"from": 1e-4, "to": 1e-2}, share) for share in shares]
    assert (
        min(rates) == 1e-4 and max(rates) == 1e-2 and np.median(rates) == pytest.approx(1e-3, 0.1)
    )
    assert {space.value_at({"of": ["a", 7]}, share) for share in shares} == {"a", 7}
    assert space.value_at([0.9, 0.98], 0.5) == [0.9, 0.98]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher": "tini"}, "search.teacher: unknown teacher 'tini'; did you mean 'tiny'?"),
        ({"rungs": [2]}, "search.rungs: steps must rise, and end below those"),
        ({"space": {"a": {"recipe": ["low_rank"]}}}, "search.space.a.ratio: 0 must be above 0"),
        (
            {"space": {"a": {"recipe": ["int8"], "ratio": 0.5}}},
            "search.space.a.ratio: 0.5 must be 0, as the recipe removes nothing.",
        ),
        (
            {"space": {"a": {"recipe": [{"intx": {"bits": {"from": 4, "to": 2}}}]}}},
            "search.space.a.recipe[0].intx.bits: 'from' (4) must be below 'to' (2).",
        ),
        (
            {"space": {"a": {"recipe": [{"intx": {"bits": {"min": 4}}}]}}},
            "search.space.a.recipe[0].intx.bits: a mapping must be {from: 2, to: 6}",
        ),
        (
            {"space": {"a": {"recipe": [{"intx": {"bits": {"from": 2, "to": 99}}}]}}},
            "search.space.a.recipe[0].intx.bits: 99 must be",
        ),
        ({"space": {"a": {"recipe": ["early_exit"]}}}, "is not known before they run"),
        ({"space": {"a": {"recipe": ["supernet"], "ratio": 0.5}}}, "its place is the grid"),
        ({"hours": 0}, "search.hours: 0 must be above 0"),
    ],
)
def test_mistakes_in_a_search_are_told_before_it_runs(change, said, here):
    with pytest.raises(config.ConfigError) as error:
        config.resolve({**STUDY, "search": {**SEARCH, **change}})
    assert any(said in problem for problem in error.value.problems), error.value.problems


def of_costs(costs, steps=(1, 3), prices=None, **more):
    """Return a search over candidates of these costs."""
    made = [
        {"parameters": c, "bytes": c, "macs_per_second": c, "methods": [], "chosen": {"at": c}}
        | {"training": 0}
        for c in costs
    ]
    prices = prices or [[1.0] * len(steps)] * len(costs)
    settings = {"dearest": 100.0, "seconds": 1e9, "at_once": 2} | more
    return Search(made, prices, steps, "macs_per_second", **settings)


def test_the_better_half_of_a_rung_goes_on_by_fronts_and_then_by_volume():
    search = of_costs([10, 20, 30, 40, 50])
    errors = {(0, 0): 85, (1, 0): 90, (2, 0): 40, (3, 0): 39, (4, 0): None}
    # 0, 2 and 3 are the front: alone they hold 20 x 15, 10 x 45 and 60 x 1; 4 diverged
    assert search.promoted(errors) == [(2, 1), (0, 1)]
    assert search.promoted({**errors, (2, 1): 35}) == [(0, 1)]
    assert search.promoted({(0, 0): 80}) == []


def test_a_search_ends_with_its_hours_its_gain_or_its_pool():
    search = of_costs([10, 20, 30, 40], seconds=2.5, patience=2)
    asked = search.next({}, [])
    assert asked == {"ask": [(0, 0), (1, 0)], "ended": None}
    errors = {(0, 0): 50.0, (1, 0): 40.0}
    assert search.next(errors, [10.0]) == {"ask": [], "ended": "budget"}
    rich = of_costs([10, 20, 30, 40], patience=2)
    assert rich.next(errors, [10.0, 11.0, 11.0 + GAIN / 2])["ended"] is None
    assert rich.next(errors, [11.0, 11.0, 11.0 + GAIN / 2])["ended"] == "still"
    everything = dict.fromkeys(itertools.product(range(4), range(2)), 50.0)
    assert rich.next(everything, [1.0]) == {"ask": [], "ended": "pool"}


def test_the_front_is_of_the_highest_rungs_and_keeps_what_holds_most():
    search = of_costs([10, 20, 30, 40, 100], most=2)
    errors = {(0, 0): 60, (0, 1): 50, (1, 0): 55, (2, 0): 49, (3, 0): 20, (4, 1): 5}
    assert search.latest(errors) == {0: 50, 1: 55, 2: 49, 3: 20, 4: 5}
    assert search.front(errors) == [0, 3]  # 1 is beaten, 4 costs what the teacher does
    assert search.hypervolume(errors) == pytest.approx((50 * 20 + 51 * 10 + 80 * 60) / 100)


def test_expected_gains_are_those_of_many_draws():
    generator = np.random.default_rng(0)
    front, reference = np.array([[20.0, 60.0], [50.0, 30.0]]), (100.0, 100.0)
    costs = np.array([10.0, 30.0, 60.0, 100.0])
    mean, deviation = np.log1p([70.0, 35.0, 35.0, 1.0]), np.array([0.1, 0.4, 0.2, 0.1])
    drawn = np.expm1(generator.normal(mean, deviation, (20_000, 4)))
    found = gains(costs, mean, deviation, front, reference)

    def held(points):
        grid = np.linspace(0.25, 99.75, 200)  # middles of strips
        best = np.full(200, 100.0)
        for cost, error in points:
            best = np.where(grid >= cost, np.minimum(best, error), best)
        return (100 - best).sum() * 0.5

    before = held(front)
    for one in range(4):
        added = [held([*front, (costs[one], error)]) - before for error in drawn[:2000, one]]
        assert found[one] == pytest.approx(np.mean(added), rel=0.08, abs=1e-6)
    improved = improvements(mean, deviation, np.array([60.0] * 4))
    assert improved == pytest.approx(np.maximum(0, 60 - drawn).mean(axis=0), rel=0.05, abs=0.01)
    assert found[3] == 0.0  # nothing is held at the teacher's cost


@pytest.mark.slow
def test_a_third_of_the_grids_steps_finds_its_hypervolume():
    command = [sys.executable, ROOT / "benchmarks/search.py", "--costs", "macs_per_second", "bytes"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [re.split(r" *\| *", line)[1:-1] for line in done.stdout.splitlines()[2:]]
    mean, worst, attained, distance = (
        {row[0]: float(row[column]) for row in rows} for column in range(1, 5)
    )
    assert worst["macs_per_second, search"] >= 99 and worst["bytes, search"] >= 99.95
    for cost in ("macs_per_second", "bytes"):
        assert mean[f"{cost}, search"] > mean[f"{cost}, random"] + 5
        assert attained[f"{cost}, search"] > attained[f"{cost}, random"] + 5
        assert distance[f"{cost}, search"] < distance[f"{cost}, random"]


def seen(folder):
    """Return the content of each round of a search, and of what it found."""
    return {file.name: file.read_bytes() for file in (folder / "results/search").rglob("*.json")}


@pytest.mark.slow
def test_rounds_are_jobs_that_go_on_where_a_killed_search_was(tree, monkeypatch):
    scripts = tree / "workflow" / "scripts"
    for script in scripts.glob("*.py"):
        if script.name not in ("search.py", "evaluate.py"):
            script.write_text(STUB + script.read_text())
    (scripts / "evaluate.py").write_text(EVALUATE)
    search = SEARCH | {"hours": 0.03, "candidates": 8, "at_once": 3}
    study = {**STUDY, "study": "found", "search": search, "recipes": {"identity": ["identity"]}}
    grid = [{"ratios": [0], "seeds": [1], "tasks": ["phones"]}]
    write_study(tree, {**study, "grid": grid, "figures": {"costs": ["parameters"], "views": []}})
    run = ["--cores", "2", "results/search/found/"]
    run_snakemake(tree, *run[:2], f"{run[2]}round-1.json")  # as if it was killed behind it
    begun = {file: file.stat().st_mtime_ns for file in (tree / "results/metrics").rglob("*.json")}
    assert len(begun) == 3
    run_snakemake(tree, *run[:2], f"{run[2]}found.json")
    assert all(file.stat().st_mtime_ns == time for file, time in begun.items())

    found = json.loads((tree / "results/search/found/found.json").read_text())
    assert found["ended"] in ("budget", "still") and 0 < len(found["front"]) <= 3
    assert found["rounds"][-1]["seconds"] <= 3600 * search["hours"]
    volumes = [one["hypervolume"] for one in found["rounds"]]
    assert volumes == sorted(volumes) and volumes[-1] > volumes[0]
    rungs = [one["rung"] for one in found["pool"]]
    assert {0, 1, None} == set(rungs)

    once = seen(tree)
    for file in (tree / "results/search").rglob("*.json"):
        file.unlink()
    again = run_snakemake(tree, *run[:2], f"{run[2]}found.json")
    assert seen(tree) == once
    assert "rule finetune" not in again.stdout + again.stderr

    # status and plan know its jobs
    monkeypatch.chdir(tree)
    resolved, results = config.load("results/run_config.yaml"), Path("results")
    known = {job.benchmark for job in pool.jobs(resolved, results)}
    scored = {
        f"evaluate/{file.parent.relative_to(tree / 'results/metrics')}/{file.stem}"
        for file in begun
    }
    assert scored < known
    text = progress.text(resolved, Path())
    assert f"Search: round {len(volumes)}, " in text and "it has ended" in text
    assert "8 candidates" in pool.summary(resolved, results)

    # the front is trained with each seed, and stands in the tables beside the grid
    planned = jobs_in(dry_run(tree, "tables"))
    for one in found["front"]:
        for seed in SEARCH["seeds"]:
            cell = (tree / "results/metrics/tiny").joinpath(one["recipe"], one["ratio"], str(seed))
            names = f"recipe={one['recipe']}, ratio={one['ratio']}, seed={seed}, task=phones"
            asked = ("evaluate", f"teacher=tiny, {names}") in planned
            assert asked != (cell / "phones.json").is_file()
