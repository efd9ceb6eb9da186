"""The candidates of a search, known before it begins: recipes at ratios, and their exact costs.

They are drawn from the space by the config and its seed alone, spread over the cost. A candidate is
a recipe like any other, so all rules make, fine-tune and score it; its rungs are tasks like the
searched one that end their fine-tuning earlier.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from speech_pareto.compression import recipes
from speech_pareto.models import architecture, storage
from speech_pareto.runtime.result import read_json
from speech_pareto.study import cells as grid
from speech_pareto.study import forecast, paths, space
from speech_pareto.study.config import ConfigError

STRATA = 12  # of equal width on the logarithm of the cost
DRAWS = 3  # so many times the candidates, from which these are taken
COSTS = ("parameters", "bytes", "macs_per_second")


def with_candidates(study: Mapping, results: Path) -> dict:
    """Return a resolved config in which the candidates of its search are recipes, its rungs tasks.

    `search` gets `pool`, a list of candidates, and `rungs`, a list of tasks from the fewest steps
    to all. ConfigError if the teacher's config is not known before it is fetched, or if nothing in
    the space is feasible.
    """
    if "search" not in study:
        return dict(study)
    search, task = study["search"], study["tasks"][study["search"]["task"]]
    config = forecast.teacher_config(study, search["teacher"], search["task"], results)
    if config is None:
        said = f"search.teacher: {search['teacher']} has no known costs before it is fetched."
        raise ConfigError([said])
    made: dict[str, list] = {}
    pool = [
        one
        for name, steps, one in _spread(study, config)
        if made.setdefault(name, steps) == steps  # else another recipe has that name
    ]
    if not pool:
        raise ConfigError(["search.space: no recipe in it is feasible."])
    steps = [*search["rungs"], task["student"]["steps"]]
    rungs = [*(f"{search['task']}_{number}" for number in search["rungs"]), search["task"]]
    below = {
        name: {**task, "until": number, "rung_of": search["task"]}
        for name, number in zip(rungs, search["rungs"], strict=False)
    }
    named = {"recipes": list(study["recipes"]), "tasks": list(study["tasks"])}
    return {
        **study,
        "recipes": study["recipes"] | made,
        "tasks": study["tasks"] | below,
        "grid": [named | block for block in study["grid"]],
        "search": search
        | {"pool": pool, "rungs": rungs, "steps": steps, "dearest": costs(study, config)},
    }


def costs(study: Mapping, config: Mapping) -> dict[str, float]:
    """Return the costs of a model that are known from its config alone."""
    return {
        "parameters": architecture.count(config)["total"],
        "bytes": storage.stored_bytes(config),
        "macs_per_second": forecast.macs_per_second(study, config),
    }


def traits(steps: Sequence[dict]) -> dict[str, Any]:
    """Return by what recipes are alike: their methods, and the steps of their training."""
    training = sum(int(method.training_steps()) for method in grid.methods_of(steps))
    return {"methods": [name for step in steps for name in step], "training": training}


def _spread(study: Mapping, config: Mapping) -> Iterator[tuple[str, list, dict]]:
    """Yield the feasible candidates, so that each beginning is spread over costs and methods."""
    search, drawn = study["search"], {}
    draws = space.draws(search["space"], search["seeds"][0])
    for _, (name, steps, chosen, ratio) in zip(
        range(DRAWS * search["candidates"]), draws, strict=False
    ):
        key = (name, grid.ratio_name(ratio))
        if key not in drawn:
            solution = recipes.solve(steps, config, ratio)
            drawn[key] = None if solution.reason else (steps, chosen, solution.config)
    found = []
    for (name, written), own in drawn.items():
        if own is not None:
            steps, chosen, sized = own
            one = {"recipe": name, "ratio": written, "chosen": chosen, **traits(steps)}
            found.append((name, steps, one | costs(study, sized)))
    if not found:
        return
    cost = search["cost"]
    low, high = (math.log(end(one[cost] for *_, one in found)) for end in (min, max))
    strata: list[list] = [[] for _ in range(STRATA)]
    for made in found:
        share = (math.log(made[2][cost]) - low) / ((high - low) or 1.0)
        strata[min(STRATA - 1, int(share * STRATA))].append(made)
    yield from islice(
        _dealt([strata[number] for number in sorted(range(STRATA), key=_turned)]),
        search["candidates"],
    )


def _dealt(strata: list[list[tuple[str, list, dict]]]) -> Iterator[tuple[str, list, dict]]:
    """Yield a candidate of each stratum in turn, of the methods that had fewest turns so far."""
    turns: Counter = Counter()
    while any(strata):
        for own in filter(None, strata):
            methods = [tuple(one["methods"]) for *_, one in own]
            chosen = min(range(len(own)), key=lambda place: turns[methods[place]])
            turns[methods[chosen]] += 1
            yield own.pop(chosen)


def _turned(number: int) -> str:
    """Return the bits of a number from the last on: in their order, neighbours stand far apart."""
    return f"{number:08b}"[::-1]


def rung_below(study: Mapping, task: str) -> str | None:
    """Return the rung whose fine-tuning this one goes on from, None of the lowest and of others."""
    rungs = study.get("search", {}).get("rungs", [])
    return rungs[rungs.index(task) - 1] if task in rungs[1:] else None


def cell_of(study: Mapping, one: Mapping, rung: int, seed: int | None = None) -> grid.Cell:
    """Return the cell of a candidate at a rung, by default of the seed that searches."""
    search = study["search"]
    task = search["rungs"][rung]
    scope = grid.scope_of(study, one["recipe"], task)
    number = str(search["seeds"][0] if seed is None else seed)
    return grid.Cell(search["teacher"], one["recipe"], one["ratio"], number, task, scope)


def prices(study: Mapping, results: Path) -> list[list[float]]:
    """Return by candidate and rung the seconds that are foretold, as `snakemake plan` would.

    A rung costs what it adds to the one below. They follow from the config, not from what ran
    before, so that a search is the same wherever it runs.
    """
    found = []
    for one in study["search"]["pool"]:
        own = []
        for rung in range(len(study["search"]["rungs"])):
            jobs = forecast.jobs_of_rung(study, cell_of(study, one, rung), one, results)
            rate = study["throughput"]
            own.append(sum(job.start + (job.macs or 0.0) / rate for job in jobs))
        found.append(own)
    return found


def found_cells(study: Mapping, found: Mapping) -> list[grid.Cell]:
    """Return the cells in which a search's front is trained anew, with each seed."""
    top = len(study["search"]["rungs"]) - 1
    seeds = study["search"]["seeds"]
    return [cell_of(study, one, top, seed) for one in found["front"] for seed in seeds]


def front_cells(study: Mapping, results: Path) -> list[grid.Cell]:
    """Return these cells of a search that has ended, none before."""
    file = results / PurePath(paths.FOUND.format(study=study["study"])).relative_to("results")
    if "search" not in study or not file.is_file():
        return []
    return found_cells(study, read_json(file))


def asked_cells(study: Mapping, results: Path) -> list[grid.Cell]:
    """Return the cells that the rounds of a search asked for so far."""
    known = candidates(study)
    return [
        cell_of(study, one, one["rung"])
        for state in rounds(study, results)
        for one in state["ask"]
        if (one["recipe"], one["ratio"]) in known
    ]


def rounds(study: Mapping, results: Path) -> list[dict]:
    """Return what the rounds of a search wrote so far."""
    found: list[dict] = []
    while "search" in study:
        names = {"study": study["study"], "round": len(found)}
        file = results / PurePath(paths.ROUND.format(**names)).relative_to("results")
        if not file.is_file():
            break
        found.append(read_json(file))
    return found


def jobs(study: Mapping, results: Path) -> list[forecast.Job]:
    """Return the jobs of a study's cells and of its search, as far as that has got, each once."""
    expected = forecast.expect(study, results)
    known = candidates(study)
    for cell in front_cells(study, results):
        expected.setdefault(cell, {"feasible": "yes", **known[cell.recipe, cell.ratio]})
    found = forecast.jobs(study, expected, results)
    for cell in asked_cells(study, results):
        found += forecast.jobs_of_rung(study, cell, known[cell.recipe, cell.ratio], results)
    return list({job.benchmark: job for job in found}.values())


def progress(study: Mapping, results: Path) -> str:
    """Return how far a search has got, as a sentence; nothing without one."""
    found = rounds(study, results)
    if not found or not found[-1]["rounds"]:
        return "Search: nothing is scored yet." if "search" in study else ""
    last, search = found[-1]["rounds"][-1], study["search"]
    return (
        f"Search: round {len(found[-1]['rounds'])}, {last['scored']} scores, "
        f"{last['seconds'] / 3600:.2f} of {search['hours']:g} foretold hours; hypervolume "
        f"{last['hypervolume']:.1f} %{'; it has ended' if found[-1]['ended'] else ''}."
    )


def summary(study: Mapping, results: Path) -> str:
    """Return what a search may cost, as a sentence; nothing without one."""
    if "search" not in study:
        return ""
    search, spent = study["search"], prices(study, results)
    lowest = sum(own[0] for own in spent) / 3600
    return (
        f"Search: {len(spent)} candidates, which would all take {lowest:.2f} hours at the lowest "
        f"rung; {search['hours']:g} hours are to be spent, before the front is trained with "
        f"{len(search['seeds'])} seeds."
    )


def candidates(study: Mapping) -> dict[tuple[str, str], Any]:
    """Return the candidates of a study's search, by recipe and ratio."""
    pool = study.get("search", {}).get("pool", [])
    return {(one["recipe"], one["ratio"]): one for one in pool}
