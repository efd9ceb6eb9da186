"""How far a study is while it runs: its grid as a table, from files alone.

A job is done when its output is there, runs while Snakemake keeps a mark that its output is not
complete, and failed when its log says so. Nothing is locked or written, so a run is not disturbed.
"""

import base64
import binascii
import re
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speech_pareto.runtime.formatting import aligned
from speech_pareto.study import forecast, paths, pool
from speech_pareto.study.cells import Cell, cells, supernet_of
from speech_pareto.study.rehearsal import Rehearsal

STATES = ("done", "running", "failed", "waiting")
STAGES = {"compress": "scope", "finetune": "task", "evaluate": "task", "superb": "task"}
STAGES |= {"profile": "scope", "analyse": "scope"}  # a cell's jobs, and their last wildcard


@dataclass(frozen=True)
class State:
    """What is known of a job: one of `STATES`, where it is or why it failed, how long it runs."""

    word: str
    says: str = ""
    seconds: float = 0.0


def running_since(root: Path) -> float | None:
    """Return when the Snakemake that holds the lock of the folder `root` took it, if one does."""
    locks = (root / ".snakemake" / "locks").glob("*.lock")
    return min((lock.stat().st_mtime for lock in locks), default=None)


def marks(root: Path) -> dict[str, float]:
    """Return output -> start of the jobs that Snakemake has begun in the folder `root`."""
    folder, found = root / ".snakemake" / "incomplete", {}
    for file in folder.rglob("*"):
        try:
            name = "".join(part.lstrip("@") for part in file.relative_to(folder).parts)
            output = base64.urlsafe_b64decode(name).decode()
            if file.is_file():
                found[output] = file.stat().st_mtime
        except (binascii.Error, UnicodeDecodeError, FileNotFoundError):
            continue  # a folder of a long name, or a job that has just ended
    return found


def state(job: forecast.Job, root: Path, begun: Mapping[str, float], since: float | None) -> State:
    """Return the state of a job of a study in the folder `root`.

    `begun` are the `marks`; those that a killed Snakemake left are of no job, so it is empty if
    none runs. `since` is when the present one began: what logs say of former ones is past.
    """
    rule, _, name = job.benchmark.partition("/")
    output = paths.filled(paths.OUTPUTS[job.rule], name)
    log = root / "logs" / f"{job.benchmark}.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    if output in begun:
        began, now = begun[output], time.time()
        if not text or log.stat().st_mtime < began:
            return State("running", "starts", now - began)
        steps = re.findall(r"step (\d+) of (\d+)", text)
        says = "step {} of {}".format(*steps[-1]) if steps else ""
        return State("running", says, now - began)
    if (root / output).exists():
        return State("done")
    if not log.is_file() or (since and log.stat().st_mtime < since):
        return State("waiting")
    where = f"({log.relative_to(root)})"
    if " ERROR root: failed" in text:
        return State("failed", f"{text.strip().splitlines()[-1]} {where}")
    if not since:  # Ctrl-C ended all
        return State("waiting")
    if output in marks(root):  # it began a moment ago
        return State("running", "starts")
    return State("failed", f"it was ended from outside, perhaps for its memory {where}")


def text(study: Mapping, root: Path) -> str:
    """Return the state of a study in the folder `root` to read, at most 100 columns wide."""
    results, since = root / "results", running_since(root)
    todo = pool.jobs(study, results)
    begun = marks(root) if since else {}
    states = {job.benchmark: state(job, root, begun, since) for job in todo}
    every = dict.fromkeys([*cells(study), *pool.front_cells(study, results)])
    grid = {cell: _cell(study, cell, states) for cell in every}
    counts = Counter(found.word for found in grid.values())
    numbers = ", ".join(f"{counts[word]} {word}" for word in STATES)
    jobs = Counter(found.word for found in states.values())
    blocks = [
        f"Study {study['study']}: {len(grid)} cells, {numbers}; "
        f"{jobs['done']} of {len(states)} jobs done.\n"
        f"{'' if since else 'No Snakemake runs here. '}{_left(study, todo, states, results)}",
        textwrap.fill(pool.progress(study, results), 100),
        "\n".join(_table(grid)),
        "\n".join(_lines("running", states)),
        "\n".join(_lines("failed", states)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _cell(study: Mapping, cell: Cell, states: Mapping[str, State]) -> State:
    """Return the state of a cell: failed or running if one of its jobs is, done if all are."""
    point = f"{cell.teacher}/{cell.recipe}/{cell.ratio}/{cell.seed}"
    names = [f"{rule}/{point}/{getattr(cell, last)}" for rule, last in STAGES.items()]
    names.append(f"train_supernet/{supernet_of(study, cell)}")
    found = [states[name] for name in names if name in states]  # some have fewer
    for word in ("failed", "running"):
        for one in found:
            if one.word == word:
                return one
    return State("done" if all(one.word == "done" for one in found) else "waiting")


def _table(grid: Mapping[Cell, State]) -> list[str]:
    """Return the grid: a row for each teacher, recipe and ratio."""
    counts = defaultdict(Counter)
    for cell, found in grid.items():
        counts[cell.recipe, cell.teacher, cell.ratio][found.word] += 1
    rows = [["recipe", "teacher", "ratio", "cells", *STATES, ""]]
    for (recipe, teacher, ratio), found in counts.items():
        numbers = [str(found[word] or "–") for word in STATES]
        bar = "█" * round(10 * found["done"] / found.total())
        rows.append([recipe, teacher, ratio, str(found.total()), *numbers, bar.ljust(10, "░")])
    return aligned(rows, 100)


def _lines(word: str, states: Mapping[str, State]) -> list[str]:
    """Return the jobs in a state, with what is known of them."""
    found = {name: one for name, one in states.items() if one.word == word}
    lines = [f"{word}:"] * bool(found)
    for name, one in found.items():
        took = f", {_duration(one.seconds)}" if word == "running" else ""
        lines.append(f"  {name}{took}{f': {one.says}' * bool(one.says)}")
    return lines


def _left(study: Mapping, todo: list, states: Mapping[str, State], results: Path) -> str:
    """Return how long the rest will take, as far as former jobs and a rehearsal tell."""
    past, rehearsed = forecast.benchmarks(results), Rehearsal.read(study, results)
    spent = forecast.durations(todo, past, study["throughput"], rehearsed.seconds)
    rest, guessed, running = 0.0, 0, 0
    for job, (origin, seconds) in zip(todo, spent, strict=True):
        found = states[job.benchmark]
        running += found.word == "running"
        if found.word in ("running", "waiting"):
            rest += max(0.0, seconds - found.seconds)
            guessed += origin not in ("measured", "rehearsed", "alike")
    if not rest:
        if any(found.word == "failed" for found in states.values()):
            return "Nothing is left to do but what failed; the next run tries that again."
        return "The last jobs are about to end." if running else "Nothing is left to do."
    at_once = f"{running} at a time" if running > 1 else "one after another"
    note = f"; {guessed} jobs are of a kind that has not run yet, so assumed" if guessed else ""
    return f"Left: about {_duration(rest / max(1, running))}, {at_once}{note}."


def _duration(seconds: float) -> str:
    """Return a duration in the two units that matter: 2 h 5 min, 40 s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
