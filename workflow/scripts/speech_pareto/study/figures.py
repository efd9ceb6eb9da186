"""Which figures a study has."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from speech_pareto.study.cells import cells
from speech_pareto.study.views import ALL_TASKS, CONFUSION, FRONT, PROBES, PUBLISHED, VIEWS
from speech_pareto.tasks.kind import kind_of


def figures_of(study: Mapping) -> dict[str, dict]:
    """Return a study's figures by name: `kind`, `task` (None: all) and what it `says`."""
    kinds = dict.fromkeys(study["figures"]["costs"], FRONT)
    kinds |= {kind: VIEWS[kind].says for kind in study["figures"]["views"]}
    tasks = dict.fromkeys(cell.task for cell in cells(study))
    pairs = product(tasks, kinds.items())
    found = {f"{t}-{kind}": {"kind": kind, "task": t, "says": says} for t, (kind, says) in pairs}
    for task in tasks:
        if study["tasks"][task]["protocol"] == "probe":
            found[f"{task}-probes"] = {"kind": "probes", "task": task, "says": PROBES}
        if kind_of(study["tasks"][task]["kind"]).classifies:
            found[f"{task}-confusion"] = {"kind": "confusion", "task": task, "says": CONFUSION}
        if comparable(study, task) and f"{task}-parameters" in found:
            found[f"{task}-parameters"]["published"] = True
    if len(tasks) > 1:
        for cost in study["figures"]["costs"]:
            found[f"all-tasks-{cost}"] = {"kind": cost, "task": None, "says": ALL_TASKS}
    return found | {"published": {"kind": "published", "task": None, "says": PUBLISHED}}


def looks_inside(study: Mapping) -> bool:
    """Return whether a figure shows what `analyse` sees inside students."""
    return any(VIEWS[kind].reads == "students" for kind in study["figures"]["views"])


def comparable(study: Mapping, task: str) -> bool:
    """Return whether a task's scores may stand beside published ones."""
    settings = study["tasks"][task]
    used = {study["corpora"][name]["source"] for name in settings["corpora"]}
    return kind_of(settings["kind"]).comparable(settings, used)
