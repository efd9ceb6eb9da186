"""The forecast of a study as text to read, at most 100 columns wide."""

import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from speech_pareto.compression.targets import words
from speech_pareto.runtime.formatting import aligned, short_bytes, short_count
from speech_pareto.study.cells import Cell
from speech_pareto.study.forecast import (
    CORPUS,
    EXPECTED,
    ORIGINS,
    RATE,
    SCORED_SECONDS,
    START,
    Job,
)
from speech_pareto.tasks.kind import TRAINING


def text(
    study: Mapping, expected: Mapping[Cell, dict], todo: list[Job], spent: list, machines: str = ""
) -> str:
    """Return the plan; `spent` are the jobs' `durations`, `machines` those of the rehearsal."""
    hours = sum(seconds for _, seconds in spent) / 3600
    counts = Counter(facts["feasible"] for facts in expected.values())
    words = {"yes": "feasible", "no": "infeasible", "unknown": "unknown"}
    states = ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key])
    first = (
        f"Study {study['study']}: {len(expected)} cells ({states}), {len(todo)} jobs, "
        f"{hours:.1f} hours one after another. MACs are per second of audio of "
        f"{study['profile']['audio_seconds']:g} s; counted parameters leave pruned zeros out."
    )
    blocks = [_wrap(first), _students(expected), _reasons(expected), _work(todo, spent)]
    blocks += [_wrap(_assumptions(study, todo, spent, machines))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _students(expected: Mapping[Cell, dict]) -> str:
    """Return the table of students."""
    shown = ("feasible", *EXPECTED[1:])
    points = Counter(
        (cell.teacher, cell.recipe, _ratio(cell), *(facts.get(key) for key in shown))
        for cell, facts in expected.items()
    )
    sizes = ("parameters", "counted", "bytes", "MACs/s")
    lines = [["recipe", "teacher", "ratio", *sizes, "cells", "feasible"]]
    point: tuple[Any, ...]
    for point, count in points.items():
        teacher, recipe, ratio, feasible, *numbers, size, macs = point
        cells = (*map(short_count, numbers), short_bytes(size), short_count(macs))
        lines.append([recipe, teacher, ratio, *cells, str(count), feasible])
    return "\n".join(aligned(lines, 100))


def _ratio(cell: Cell) -> str:
    """Return a cell's ratio, and what it stands for."""
    return f"{cell.ratio} ({words(cell.target)})" if cell.target else cell.ratio


def _reasons(expected: Mapping[Cell, dict]) -> str:
    """Return why cells are not known to be feasible."""
    reasons = defaultdict(list)
    for cell, facts in expected.items():
        if "reason" in facts:
            point = f"{cell.recipe} of {cell.teacher} at {_ratio(cell)}"
            reasons[facts["reason"]].append(point)
    return "\n".join(
        _wrap(f"{', '.join(dict.fromkeys(points))}: {reason}", "  ")
        for reason, points in reasons.items()
    )


def _work(todo: list[Job], spent: list[tuple[str, float]]) -> str:
    """Return the table of jobs by rule."""
    lines = [["rule", "jobs", "hours", "known from"]]
    rules = dict.fromkeys(job.rule for job in todo)
    for rule in rules:
        own = [about for job, about in zip(todo, spent, strict=True) if job.rule == rule]
        origins = Counter(origin for origin, _ in own)
        known = ", ".join(f"{origins[origin]} {origin}" for origin in ORIGINS if origins[origin])
        hours = sum(seconds for _, seconds in own) / 3600
        lines.append([rule, str(len(own)), f"{hours:.2f}", known])
    return "\n".join(aligned(lines, 100))


def _assumptions(
    study: Mapping, todo: list[Job], spent: list[tuple[str, float]], machines: str
) -> str:
    """Return what the hours rest on."""
    origins = {origin for origin, _ in spent}
    done = "also those that are done; `snakemake -n` lists the rest."
    lines = [f"All jobs of the study count, {done}"]
    if origins & {"measured", "alike"}:
        lines.append(
            "Measured: results/benchmarks, the job's last run, whatever its settings were then; "
            "alike: the median of that rule, teacher, recipe and task at other ratios and seeds."
        )
    if "rehearsed" in origins:
        where = f" ({machines})" * bool(machines)
        said = "Rehearsed: results/rehearsal.json, from some steps of each kind of job"
        lines.append(f"{said}{where}.")
    if "assumed" in origins:
        pairs = zip(todo, spent, strict=True)
        macs = sum(job.macs or 0.0 for job, (origin, _) in pairs if origin == "assumed")
        lines.append(
            f"Assumed: {START:g} s for a job, {CORPUS:g} s for a download or a corpus, "
            f"{short_count(study['throughput'])} MACs per second (profiles: {short_count(RATE)}; "
            f"{short_count(macs)} MACs in all), {TRAINING} passes' worth in a training step, "
            f"{SCORED_SECONDS / 60:g} min of audio to score."
        )
    if "unknown" in origins:
        lines.append("Unknown: its teacher is not fetched yet; no hours are counted.")
    return " ".join(lines)


def _wrap(line: str, indent: str = "") -> str:
    """Return a line as a paragraph of 100 columns."""
    further = indent and indent + "  "
    return "\n".join(textwrap.wrap(line, 100, initial_indent=indent, subsequent_indent=further))
