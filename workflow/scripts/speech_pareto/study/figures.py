"""Which figures a study has."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product

from speech_pareto.study import in_conditions
from speech_pareto.study.cells import cells
from speech_pareto.study.exported import measured
from speech_pareto.study.views import ALL_TASKS, FRONT, LABELS, PROBES, PUBLISHED, VIEWS
from speech_pareto.tasks.kind import kind_of


def figures_of(study: Mapping) -> dict[str, dict]:
    """Return a study's figures by name: `kind`, `task` (None: all) and what it `says`."""
    kinds = dict.fromkeys(study["figures"]["costs"], FRONT)
    kinds |= {kind: VIEWS[kind].says for kind in study["figures"]["views"]}
    tasks = dict.fromkeys(cell.task for cell in cells(study))
    only = {"runtimes": {cell.task for cell in measured(study)}}
    only["conditions"] = set(in_conditions.tasks(study))
    only["search"] = {study["search"]["task"]} if "search" in study else set()
    found: dict[str, dict] = {}
    for task, (kind, says) in product(tasks, kinds.items()):
        own = kind_of(study["tasks"][task]["kind"]).views
        reads = VIEWS[kind].reads if kind in VIEWS else "summary"
        if (reads != "utterances" or kind in own) and task in only.get(reads, tasks):
            found[f"{task}-{kind}"] = {"kind": kind, "task": task, "says": says}
    for task in tasks:
        if study["tasks"][task]["protocol"] == "probe":
            found[f"{task}-probes"] = {"kind": "probes", "task": task, "says": PROBES}
        if comparable(study, task) and f"{task}-parameters" in found:
            found[f"{task}-parameters"]["published"] = True
    for name, hours in label_budgets(study, tasks).items():
        found[f"{name}-labels"] = {"kind": "labels", "task": None, "says": LABELS, "hours": hours}
    if len(tasks) > 1:
        for cost in study["figures"]["costs"]:
            found[f"all-tasks-{cost}"] = {"kind": cost, "task": None, "says": ALL_TASKS}
    return found | {"published": {"kind": "published", "task": None, "says": PUBLISHED}}


def label_budgets(study: Mapping, tasks: Iterable[str]) -> dict[str, dict[str, float | None]]:
    """Return the tasks that differ only in `train_hours`: by the one with most, task -> hours."""
    families = defaultdict(dict)
    for task in tasks:
        settings = dict(study["tasks"][task])
        hours = settings.pop("train_hours", None)
        settings.pop("conditions", None)
        families[json.dumps(settings, sort_keys=True)][task] = hours
    most = [max(own, key=lambda task: own[task] or math.inf) for own in families.values()]
    pairs = zip(most, families.values(), strict=True)
    return {name: own for name, own in pairs if len({*own.values()}) > 1}


def looks_inside(study: Mapping) -> bool:
    """Return whether a figure shows what `analyse` sees inside students."""
    return any(VIEWS[kind].reads == "students" for kind in study["figures"]["views"])


def comparable(study: Mapping, task: str) -> bool:
    """Return whether a task's scores may stand beside published ones."""
    settings = study["tasks"][task]
    used = {study["corpora"][name]["source"] for name in settings["corpora"]}
    return kind_of(settings["kind"]).comparable(settings, used)
