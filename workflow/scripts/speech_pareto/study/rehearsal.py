"""A rehearsal: which jobs stand for all jobs of a study, and what all need, judging by these.

`snakemake rehearse` runs a job of each kind for some steps and writes results/rehearsal.json. Plans
and the resources of the rules read it here. A kind is what jobs have in common that cost alike.
What was measured counts as long as the settings of its kind are those that were rehearsed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from speech_pareto.compression.recipes import make
from speech_pareto.runtime.formatting import short_bytes
from speech_pareto.runtime.result import read_json
from speech_pareto.study import cells as grid
from speech_pareto.study.forecast import Job

FILE, TEXT = "rehearsal.json", "rehearsal.txt"  # in the folder of results
# The rules that are rehearsed, and what the names of their jobs begin with.
STEMS = {
    "pretrain_one_teacher": "pretrain_teacher",
    "finetune_one_teacher": "finetune_teacher",
    "train_supernet": "train_supernet",
    **{rule: rule for rule in ("compress", "finetune", "evaluate", "profile", "analyse")},
}
TRAINING = (*list(STEMS)[:4], "finetune")
# What is asked for beyond what was measured.
MORE_MEMORY, SNAKEMAKE = 1.25, 500e6  # a job on a cluster holds two Snakemakes, too
MORE_TIME, MINUTES = 1.5, 5  # a factor, and minutes in any case
STEP_MB = 500  # memory is asked for in multiples
TIGHT = 0.9  # share of a GPU's memory beyond which another batch may not fit
Given = Callable[[str], Mapping[str, Sequence[float]]]  # of a rule: see `judged`
FAILURES = ("out_of_memory", "out_of_time", "failed")
# What an entry has at least.
KEYS = {"job", "rule", "kind", "macs", "settings", "status", "reason", "start", "parts", "memory"}
KEYS |= {"gpu_memory", "gpu_total", "disk", "checkpoint", "random", "on_gpu", "limited", "given"}


def chosen(study: Mapping, todo: Sequence[Job]) -> list[Job]:
    """Return the jobs to rehearse: of each kind those with most and with fewest MACs."""
    kinds: dict[str, list[Job]] = defaultdict(list)
    for job in todo:
        if job.rule in STEMS and job.computes and job.macs is not None:
            kinds[kind_of(study, job.benchmark)].append(job)
    found = []
    for jobs in kinds.values():
        most, fewest = max(jobs, key=_work), min(jobs, key=_work)
        found += [most, fewest] if most.macs != fewest.macs else [most]
    return found


def _work(job: Job) -> float:
    """Return a job's MACs."""
    return job.macs or 0.0


def kind_of(study: Mapping, benchmark: str) -> str:
    """Return the kind of a job, by the name of its benchmark file: `finetune/base/phones`.

    A recipe matters to `compress` alone; what its students are then used for goes by their MACs,
    but that those of early exits hear recordings in their profile. A task matters to what trains on
    it or is scored on it.
    """
    rule, *names = benchmark.split("/")
    if rule == "evaluate_condition":  # costs what `evaluate` does
        return kind_of(study, "/".join(("evaluate", *names[:5])))
    if rule == "train_supernet":
        return "/".join((rule, *names[:2]))
    if len(names) < 5:
        return benchmark
    teacher, recipe, _, _, last = names
    own: tuple[str, ...] = (last,)
    if rule == "compress":
        own = (recipe, last) if grid.task_aware(study["recipes"][recipe]) else (recipe,)
    elif rule == "profile" and grid.dynamic(study["recipes"][recipe]):
        own = (recipe, last)
    elif rule in ("profile", "analyse"):
        own = ()
    return "/".join((rule, teacher, *own))


def kinds_of(study: Mapping) -> set[str]:
    """Return the kinds of all jobs that the cells of a study may have.

    Snakemake asks at every start: ratios and seeds, which do not matter, are left out.
    """
    first = [{**x, "ratios": x["ratios"][:1], "seeds": x["seeds"][:1]} for x in study["grid"]]
    found = set()
    for cell in grid.cells({**study, "grid": first}):
        point, scope = f"{cell.teacher}/{cell.recipe}/0/0", cell.scope
        names = [f"{rule}/{point}/{scope}" for rule in ("compress", "profile", "analyse")]
        names += [f"{rule}/{point}/{cell.task}" for rule in ("finetune", "evaluate")]
        names += [f"train_supernet/{point}/{scope}", f"pretrain_teacher/{cell.teacher}"]
        if (made := grid.teacher_scope(study, scope)) != "any":
            names.append(f"finetune_teacher/{cell.teacher}/{made}")
        found |= {kind_of(study, name) for name in names}
    return found


def settings_of(study: Mapping, kind: str) -> str:
    """Return a digest of the settings that what jobs of a kind cost depends on."""
    rule, teacher, *names = kind.split("/")
    used = {"teacher": study["teachers"][teacher], "precision": study["precision"]}
    corpora: list[str] = []
    if rule == "pretrain_teacher":
        corpora += study["teachers"][teacher].get("pretrain", {}).get("corpora", ())
    if rule in ("compress", "train_supernet"):
        used |= {"recipe": study["recipes"][names[0]], "compress": study["compress"]}
        corpora += study["compress"]["corpora"]
    if rule == "profile":
        used |= {"profile": study["profile"]}
    if rule == "profile" and names:  # of early exits
        used |= {"recipe": study["recipes"][names[0]]}
        corpora += study["tasks"][names[1]]["corpora"]
    if rule not in ("profile", "analyse", "pretrain_teacher", "train_supernet"):
        tasks = [names[-1]] if rule != "compress" else names[1:]
        used |= {"tasks": [_without_conditions(study["tasks"][name]) for name in tasks]}
        corpora += [name for task in tasks for name in study["tasks"][task]["corpora"]]
    used |= {"corpora": {name: study["corpora"][name] for name in corpora}}
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:16]


def _without_conditions(task: Mapping) -> dict:
    """Return a task without what has jobs of its own."""
    return {key: value for key, value in task.items() if key != "conditions"}


class Rehearsal:
    """What a rehearsal found, as far as it holds for a study; nothing without a rehearsal.

    `entries` are its jobs, see `entry`. `given` tells what jobs of a rule will be given, if that is
    not what they would have been given then. What ran without a GPU says nothing of jobs that are
    given one: such entries are `elsewhere`.
    """

    def __init__(
        self, study: Mapping, entries: Sequence[Mapping] = (), given: Given | None = None
    ) -> None:
        self.study = study
        self.kinds: dict[str, list[Mapping]] = defaultdict(list)
        self.elsewhere: list[Mapping] = []
        kinds = kinds_of(study) if entries else set()
        known = {kind: settings_of(study, kind) for kind in kinds & {x["kind"] for x in entries}}
        for one in entries:
            kind = one["kind"]
            if one["settings"] != known.get(kind):
                continue
            now = given(one["rule"]) if given else one["given"]
            if _with_gpu(now) and not (one["on_gpu"] or _with_gpu(one["given"])):
                self.elsewhere.append(one)
            else:
                self.kinds[kind].append(judged(one["rule"], {**one, "given": now}))

    @classmethod
    def read(cls, study: Mapping, results: str | Path, given: Given | None = None) -> Rehearsal:
        """Return what was rehearsed into a folder of results; ValueError as of `kept`."""
        return cls(study, kept(results), given)

    @property
    def entries(self) -> list[Mapping]:
        """The rehearsed jobs that hold for the study."""
        return [one for own in self.kinds.values() for one in own]

    def failures(self) -> list[Mapping]:
        """Return the rehearsed jobs that failed."""
        return [one for one in self.entries if one["status"] in FAILURES]

    def _sound(self, benchmark: str) -> list[Mapping]:
        """Return what was measured of the kind of a job, by rising MACs."""
        own = self.kinds.get(kind_of(self.study, benchmark), ()) if self.kinds else ()
        sound = (one for one in own if one["status"] == "ok" or one["short"])
        return sorted(sound, key=lambda one: one["macs"])

    def seconds(self, job: Job) -> float | None:
        """Return how long a job will take, None if its kind was not rehearsed.

        Between two rehearsed jobs of a kind time rises with MACs; beside one it is proportional.
        """
        own = self._sound(job.benchmark)
        if not own or job.macs is None or not job.computes:
            return None
        low, high = own[0], own[-1]
        if low["macs"] == high["macs"]:
            share = job.macs / low["macs"] if low["macs"] else 1.0
            return low["start"] + share * (seconds_of(low) - low["start"])
        where = (job.macs - low["macs"]) / (high["macs"] - low["macs"])
        where = min(1.0, max(0.0, where))
        return seconds_of(low) + where * (seconds_of(high) - seconds_of(low))

    def megabytes(self, benchmark: str) -> int | None:
        """Return the memory to ask for, with a margin, None if that is not known."""
        own = self._sound(benchmark)
        if not own or len(own) < len(self.kinds[kind_of(self.study, benchmark)]):
            return None  # the largest one may be the one that failed
        return memory_to_ask(max(one["memory"] for one in own))

    def minutes(self, benchmark: str) -> int | None:
        """Return the time to ask for, with a margin, None if that is not known."""
        own = self._sound(benchmark)
        return time_to_ask(max(map(seconds_of, own))) if own else None

    def disk(self, job: Job) -> float | None:
        """Return the bytes that a job leaves, None if its kind was not rehearsed."""
        own = self._sound(job.benchmark)
        return sum(one["disk"] for one in own) / len(own) if own and job.computes else None


def machines(entries: Sequence[Mapping]) -> str:
    """Return the names of the machines on which jobs were rehearsed."""
    return ", ".join(dict.fromkeys(one["machine"] for one in entries if one.get("machine")))


def _with_gpu(given: Mapping) -> bool:
    """Return whether jobs are given a GPU."""
    return any(given.get("gpu", ()))


def seconds_of(one: Mapping) -> float:
    """Return how long a rehearsed job takes as a whole: start, then each part as often as it is."""
    return one["start"] + sum(part["number"] * part["seconds"] for part in one["parts"])


def memory_to_ask(measured: float) -> int:
    """Return the megabytes to ask a scheduler for, for a peak of so many bytes."""
    return STEP_MB * math.ceil((MORE_MEMORY * measured + SNAKEMAKE) / (STEP_MB * 1e6))


def time_to_ask(seconds: float) -> int:
    """Return the minutes to ask a scheduler for, for a job of so many seconds."""
    return math.ceil(MORE_TIME * seconds / 60) + MINUTES


def kept(results: str | Path) -> list[Mapping]:
    """Return the entries in a folder of results, none without a rehearsal.

    ValueError if their file is damaged, or not what this version writes.
    """
    file = Path(results) / FILE
    if not file.is_file():
        return []
    found = read_json(file)
    entries = found.get("jobs") if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ValueError(f"{file}: holds no rehearsal; delete it and run again")
    if not all(set(one) >= KEYS for one in entries):
        said = (
            "is of another version of this workflow; delete it and run `snakemake rehearse` again"
        )
        raise ValueError(f"{file}: {said}")
    return entries


def beside(entries: Sequence[Mapping], earlier: Sequence[Mapping]) -> list[Mapping]:
    """Return `entries`, and those of an `earlier` rehearsal that they do not replace.

    Studies share a folder of results. Of a kind that both have, what went well on the same machine
    stays: it tells of students of other sizes.
    """

    def stays(old: Mapping) -> bool:
        kind = old["kind"], old["settings"]
        again = [one for one in entries if (one["kind"], one["settings"]) == kind]
        anew = old["job"] in {one["job"] for one in again}
        alike = old.get("machine") in {one.get("machine") for one in again}
        return not again or (old["status"] == "ok" and alike and not anew)

    return [*entries, *filter(stays, earlier)]


def entry(study: Mapping, job: Job, measured: Mapping) -> dict:
    """Return what a rehearsal keeps of a job: what was measured, and what that holds for.

    `measured` has status and reason, `start` in seconds, `parts` of the whole job ({what, number,
    seconds of one}), `memory`, `gpu_memory`, `gpu_total`, `disk` and `checkpoint` in bytes, whether
    weights were `random`, what the real job will be `given`, what `fits` if it did not (pieces,
    memory), and the `machine`.
    """
    kind = kind_of(study, job.benchmark)
    facts = {"job": job.benchmark, "rule": job.rule, "kind": kind, "macs": job.macs}
    return facts | {"settings": settings_of(study, kind)} | dict(measured)


def judged(rule: str, measured: Mapping) -> dict:
    """Return what was measured; a job that needs more than it will be given has failed.

    `given` are megabytes, minutes and GPUs of each try, where a profile or a command line names
    them. Which of the first two is too small is noted as `short`.
    """
    found = {**measured, "short": None}
    if measured["status"] != "ok":
        return found
    given = measured["given"]
    most_mb, tries = max(given["mem_mb"], default=math.inf), given["runtime"]
    # Training goes on from its state at the next try, what else there is begins anew.
    most_minutes = (sum(tries) if rule in TRAINING else max(tries)) if tries else math.inf
    needs, takes = measured["memory"] / 1e6, seconds_of(measured) / 60
    said = "{:,.0f} {}, of which the profile or the command line gives {:,}"
    if needs > most_mb:
        reason = f"it needs {said.format(needs, 'MB of memory', most_mb)}"
        found |= {"status": "out_of_memory", "short": "mem_mb", "reason": reason}
    elif takes > most_minutes:
        reason = f"it takes {said.format(takes, 'minutes', most_minutes)}"
        found |= {"status": "out_of_time", "short": "runtime", "reason": reason}
    return found


def remedy(study: Mapping, one: Mapping) -> str:
    """Return what to do about a rehearsed job that failed, in one or two sentences."""
    if short := one["short"]:
        enough = memory_to_ask(one["memory"]), time_to_ask(seconds_of(one))
        asked = f"{short}={enough[0] if short == 'mem_mb' else enough[1]}"
        return (
            f"Without {short} for {one['rule']} in `set-resources`, jobs ask for what was measured "
            f"here and a margin: {asked}."
        )
    if one["status"] == "out_of_time":
        return "Give the rehearsal more time: --set-resources rehearse_job:runtime=240."
    if one["status"] == "failed":
        return "The real job would end in the same way."
    if fits := one.get("fits"):
        setting = _pieces(study, one, fits["pieces"])
        return f"With {setting} in the config it fits, in {short_bytes(fits['memory'])}."
    if one["on_gpu"]:
        return "It takes a GPU with more memory."
    if one["limited"]:
        return "With --set-resources rehearse_job:mem_mb=64000 it may have more."
    return "It takes a machine with more memory."


def trains(recipe: Sequence) -> bool:
    """Return whether `compress` has batches that can be cut into pieces: a method trains there."""
    return any(make(entry).training_steps() for entry in grid.after_supernet(recipe))


def _pieces(study: Mapping, one: Mapping, times: int) -> str:
    """Return the setting that cuts a job's batches into `times` as many pieces."""
    _, teacher, *names = one["job"].split("/")
    if one["rule"] in ("compress", "train_supernet"):
        return f"`compress: {{accumulate: {times * study['compress']['accumulate']}}}`"
    if one["rule"] == "pretrain_one_teacher":
        iterations = study["teachers"][teacher]["pretrain"]["iterations"]
        most = max(each.get("accumulate", 1) for each in iterations)
        return f"`accumulate: {times * most}` in `teachers: {{{teacher}: {{pretrain: ...}}}}`"
    who = "student" if one["rule"] == "finetune" else "teacher"
    pieces = times * study["tasks"][names[-1]][who].get("accumulate", 1)
    return f"`tasks: {{{names[-1]}: {{{who}: {{accumulate: {pieces}}}}}}}`"
