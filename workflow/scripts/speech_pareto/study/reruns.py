"""Why Snakemake plans what it plans: a line for each group of jobs, from its dry run."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from speech_pareto.runtime.extras import extra

SHOWN = 3  # so many values of a wildcard, so many changes are listed
PARAMS = re.compile(r"Params have changed .*?before: (.*) now: (.*)")
DERIVED = "Input files updated by another job"
# What Snakemake says, and what that means here.
PLAIN = {
    "Missing output files": "not made yet",
    "Incomplete output files": "interrupted the last time",
    "Set of input files has changed": "it starts from other files than the last time",
    "Forced execution": "forced",
    "Software environment definition": "its environment changed",
}


@dataclass(frozen=True)
class Job:
    """One job of a dry run, and why it is planned, in Snakemake's words."""

    rule: str
    wildcards: tuple[tuple[str, str], ...]
    reason: str


def dry_run(arguments: Sequence[str]) -> str:
    """Return what `snakemake --dry-run` prints; raises CalledProcessError if it refuses."""
    with extra("workflow"):
        import snakemake  # noqa: F401 (it is run by name)
    command = [sys.executable, "-m", "snakemake", "--dry-run", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def jobs(text: str) -> list[Job]:
    """Return the jobs in what a dry run prints."""
    found = []
    parts = re.split(r"^ *(?:local)?(?:rule|checkpoint) (\w+):$", text, flags=re.M)
    for rule, rest in zip(parts[1::2], parts[2::2], strict=True):  # those of a group are indented
        facts = dict(re.findall(r"^ +(reason|wildcards): (.*)$", rest, re.M))
        wildcards = re.findall(r"(\w+)=([^,]*)", facts.get("wildcards", ""))
        found.append(Job(rule, tuple(wildcards), facts.get("reason", "").strip()))
    return found


def explain(text: str) -> str:
    """Return why there is what there is in what a dry run prints."""
    causes, derived = {}, Counter()
    for job in jobs(text):
        if job.reason.startswith(DERIVED):
            derived[job.rule] += 1
        elif job.reason:
            causes.setdefault((job.rule, cause(job.reason)), []).append(job)
    groups = causes.items()
    lines = [f"{rule}: {_count(g)}{_which(g)}, because {why}" for (rule, why), g in groups]
    derived.pop("all", None)
    if derived:
        rules = ", ".join(f"{number} {rule}" for rule, number in derived.items())
        lines.append(f"then, from what these make: {rules}")
    return "\n".join(lines or ["nothing is planned: all is made, and nothing changed"]) + "\n"


def cause(reason: str) -> str:
    """Return Snakemake's reason in plain words."""
    if found := PARAMS.search(reason):
        return _changes(*map(_values, found.groups()))
    if reason.startswith("Updated input files: "):
        return f"{reason.removeprefix('Updated input files: ')} is newer"
    return next((plain for start, plain in PLAIN.items() if reason.startswith(start)), reason)


def _values(text: str) -> dict:
    """Return the params of a job, as Snakemake lists them, as one mapping."""
    if text.strip() == "<nothing exclusive>":
        return {}
    values = ast.literal_eval(f"[{text}]")
    return {k: v for value in values if isinstance(value, dict) for k, v in value.items()}


def _changes(before: dict, now: dict) -> str:
    """Return what differs between the params of a job then and now."""
    changed, others = [], []
    for path, old, new in _differences(before, now):
        if not re.fullmatch(r"[0-9a-f]{8}", str(old or new)):
            others.append(f"{'.'.join(path)} is {new}, was {old}")
        elif old and new:
            changed.append(f"{path[-1]} changed")
        else:
            others.append(f"it {'now' if new else 'no longer'} uses {path[-1]}")
    found = list(dict.fromkeys(changed + others)) or ["its params changed"]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _differences(
    before: dict, now: dict, path: tuple = ()
) -> Iterator[tuple[tuple, object, object]]:
    """Yield path, former and present value where two mappings differ; None where there is none."""
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, (*path, str(key)))
        elif old != new:
            yield (*path, str(key)), old, new


def _count(group: list) -> str:
    """Return how many jobs a group has."""
    return f"{len(group)} job{'s' * (len(group) > 1)}"


def _which(group: list[Job]) -> str:
    """Return the wildcards of a group of jobs that take few values."""
    values = {}
    for job in group:
        for name, value in job.wildcards:
            values.setdefault(name, set()).add(value)
    few = [f"{name} {', '.join(sorted(v))}" for name, v in values.items() if len(v) <= SHOWN]
    return f" ({'; '.join(few)})" if few else ""
