"""What a rehearsal found, as text to read, at most 100 columns wide."""

import math
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from speech_pareto.runtime.formatting import MISSING, aligned, short_bytes, short_seconds
from speech_pareto.study.cells import Cell
from speech_pareto.study.forecast import Job
from speech_pareto.study.rehearsal import (
    FILE,
    MORE_MEMORY,
    MORE_TIME,
    STEMS,
    TIGHT,
    TRAINING,
    Rehearsal,
    machines,
    remedy,
    seconds_of,
)

DAY = 24 * 3600.0  # seconds
LONG = 7 * DAY  # more than most clusters give a job
MANY = 30  # tries of a job
FEW = 3  # jobs that are named, each with its time
STATES = {"ok": "ok", "out_of_memory": "OUT OF MEMORY", "out_of_time": "OUT OF TIME"}
STATES |= {"failed": "FAILED"}


def text(
    found: Rehearsal, expected: Mapping[Cell, dict], todo: Sequence[Job], results: Path
) -> str:
    """Return the whole report."""
    entries, failures = found.entries, found.failures()
    told = machines(entries)
    counts = f"{len(entries)} jobs, {len(failures)} of which will fail"
    head = (
        f"Rehearsal of study {found.study['study']}: {counts}{told and f' ({told})'}. Each was run "
        "for some steps, with the longest recordings."
    )
    blocks = [_wrap(head), _jobs(entries), problems(found, expected), _unknown(expected)]
    blocks.append(_work(found, todo))
    blocks += [_wrap(line) for line in _notes(found, todo, results)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def warning(found: Rehearsal) -> str:
    """Return what to tell somebody who starts a study; "" if its rehearsal went well.

    Jobs failed in it, or what it measured does not hold where the study runs.
    """
    blocks = [_elsewhere(found.elsewhere)] if found.elsewhere else []
    if found.failures():
        said = (
            "The rehearsal of this study found jobs that will fail. They are tried all the same, "
            "and the others are not stopped by them. To stop: Ctrl-C. Once they are mended, "
            f"`snakemake rehearse` measures them anew; without results/{FILE} nothing is said."
        )
        blocks += [problems(found), _wrap(said)]
    return "\n\n".join(blocks) + "\n" * bool(blocks)


def _elsewhere(entries: Sequence[Mapping]) -> str:
    """Return that jobs were rehearsed without the GPU that they are given now."""
    rules = ", ".join(dict.fromkeys(one["rule"] for one in entries))
    return _wrap(
        f"The rehearsal of {rules} is not counted: it had no GPU ({machines(entries)}), and these "
        "jobs ask for one. `snakemake rehearse` with the `--profile` of this run measures them "
        "anew."
    )


def problems(found: Rehearsal, expected: Mapping[Cell, dict] | None = None) -> str:
    """Return what will fail, each with a remedy; with `expected`, also cells without a student."""
    lines = []
    for one in found.failures():
        lines.append(_item(f"{one['job']}: {one['reason']}. {remedy(found.study, one)}"))
    lines += _cells(expected or {}, "no")
    return "\n".join(["What will fail:", *lines]) if lines else ""


def _unknown(expected: Mapping[Cell, dict]) -> str:
    """Return which cells could not be rehearsed."""
    lines = _cells(expected, "unknown")
    return "\n".join(["What was not rehearsed:", *lines]) if lines else ""


def _cells(expected: Mapping[Cell, dict], feasible: str) -> list[str]:
    """Return the cells that are so feasible, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for cell, facts in expected.items():
        if facts["feasible"] == feasible:
            point = f"{cell.recipe} of {cell.teacher} at {cell.ratio}"
            reasons.setdefault(_without(facts), []).append(point)
    return [_item(f"{', '.join(dict.fromkeys(own))}: {why}") for why, own in reasons.items()]


def _without(facts: Mapping) -> str:
    """Return why a cell has no student, or was not rehearsed, and what to do about it."""
    if facts["feasible"] == "unknown":
        return f"{facts['reason']}. `snakemake teachers` fetches it."
    nearest = facts.get("reachable")
    ask = f" The grid may ask for {nearest:g}." if nearest else ""
    return f"there will be no student, since {facts['reason']}.{ask} Other cells are not touched."


def _jobs(entries: Sequence[Mapping]) -> str:
    """Return the table of rehearsed jobs."""
    lines = [["job", "a step", "audio/s", "whole", "memory", "GPU", "state"]]
    for one in entries:
        ok, parts = one["status"] == "ok" or one["short"], one["parts"]
        steps = [part for part in parts if part["what"] == "step"]
        longest = max(steps, key=lambda part: part["number"] * part["seconds"], default=None)
        step = rate = MISSING
        if longest:
            step, rate = short_seconds(longest["seconds"]), _rate(longest)
        elif parts and parts[0]["what"] == "second of audio" and parts[0]["seconds"]:
            rate = f"{1 / parts[0]['seconds']:.1f}"
        whole = _duration(seconds_of(one)) if ok else MISSING
        sizes = map(short_bytes, (one["memory"], one["gpu_memory"] or None))
        lines.append([one["job"], step, rate, whole, *sizes, STATES[one["status"]]])
    return "\n".join(aligned(lines, 100))


def _rate(part: Mapping) -> str:
    """Return the seconds of audio that a training goes through in a second."""
    return f"{part['audio'] / part['seconds']:.1f}" if part["seconds"] else MISSING


def _work(found: Rehearsal, todo: Sequence[Job]) -> str:
    """Return the table of what all jobs of the rehearsed rules will take."""
    lines = [["rule", "jobs", "hours", "longest", "mem_mb", "runtime", "disk", "rehearsed"]]
    for rule in STEMS:
        own = [job for job in todo if job.rule == rule and job.computes]
        known = [(job, found.seconds(job)) for job in own]
        seconds = [spent for _, spent in known if spent is not None]
        if not own:
            continue
        asked = [found.megabytes(job.benchmark) or 0 for job in own]
        minutes = [found.minutes(job.benchmark) or 0 for job in own]
        disk = sum(found.disk(job) or 0.0 for job in own)
        row = [f"{sum(seconds) / 3600:,.2f}", _duration(max(seconds))] if seconds else [MISSING] * 2
        row += [str(max(asked) or MISSING), str(max(minutes) or MISSING), short_bytes(disk)]
        lines.append([rule, str(len(own)), *row, f"{len(seconds)} of {len(own)}"])
    return "\n".join(aligned(lines, 100))


def _notes(found: Rehearsal, todo: Sequence[Job], results: Path) -> list[str]:
    """Return what the numbers rest on, and what is tight."""
    notes = [
        "mem_mb and runtime (minutes) are what jobs ask for from now on, where a profile does not "
        f"say: {MORE_MEMORY:g} times the memory and {MORE_TIME:g} times the time of the largest "
        "job of their kind, and as much again at each further try. `snakemake plan` counts these "
        "hours. Not rehearsed: downloads, corpora, tasks of SUPERB, tables and figures."
    ]
    if any(one["random"] for one in found.entries):
        notes.append("Teachers that are not there yet had random weights of their shape.")
    for one in found.entries:
        if one["status"] == "ok" and one["gpu_memory"] > TIGHT * (one["gpu_total"] or float("inf")):
            notes.append(
                f"{one['job']} takes {short_bytes(one['gpu_memory'])} of the GPU's "
                f"{short_bytes(one['gpu_total'])}: there is little room for a larger batch."
            )
    notes += _long([one for one in found.entries if one["status"] == "ok"])
    free = shutil.disk_usage(results).free if results.is_dir() else float("inf")
    needed = sum(found.disk(job) or 0.0 for job in todo)
    needed += max((one["checkpoint"] for one in found.entries), default=0)
    if needed > free:
        notes.append(
            f"The study leaves about {short_bytes(needed)}, the disk of {results} has "
            f"{short_bytes(free)}: make room, or put `results` on another disk."
        )
    return notes


def _long(entries: Sequence[Mapping]) -> list[str]:
    """Return what to do about jobs that take weeks, one paragraph for all that it helps."""
    remedies: dict[str, list[Mapping]] = {}
    for one in entries:
        if seconds_of(one) > LONG:
            in_parts = one["rule"] in TRAINING and _tries(one) <= MANY
            remedies.setdefault(one["rule"] if in_parts else "", []).append(one)
    notes = []
    for rule, own in remedies.items():
        said = _lasting(sorted(own, key=seconds_of, reverse=True))
        notes.append(
            f"{said}. Where a job may not last as long, `--set-resources {rule}:runtime=2880 "
            f"--retries {max(map(_tries, own))}` asks for two days at a time: training goes on "
            "from its state."
            if rule
            else f"{said}. It takes a faster machine, or fewer steps."
        )
    return notes


def _lasting(jobs: Sequence[Mapping]) -> str:
    """Return how long jobs take, the longest first; the table above has all of many."""
    named = [(one["job"], _duration(seconds_of(one))) for one in jobs]
    (name, days), *others = named
    if len(named) > FEW:
        return f"{len(named)} jobs take {named[-1][1]} or more each; the longest, {name}, {days}"
    return ", ".join([f"{name} takes {days} in one job", *map(" ".join, others)])


def _tries(one: Mapping) -> int:
    """Return in how many jobs of two days a training ends."""
    return math.ceil(seconds_of(one) / (2 * DAY))


def _duration(seconds: float) -> str:
    """Return a duration: 12.0 s, 3.5 min, 17.2 h, 131 days."""
    if seconds < 60:
        return short_seconds(seconds)
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:,.0f} days"


def _item(said: str) -> str:
    """Return an item of a list."""
    return _wrap(said, "  ", "    ")


def _wrap(line: str, first: str = "", later: str = "") -> str:
    """Return a paragraph, its lines indented; names of jobs and options stay whole."""
    return "\n".join(
        textwrap.wrap(
            line, 100, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
        )
    )
