"""What the rules ask of a study, that is a resolved config: its cells, methods, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from speech_pareto.compression import catalogue
from speech_pareto.data import sources
from speech_pareto.runtime import source_digest
from speech_pareto.tasks.kind import kind_of

if TYPE_CHECKING:
    from speech_pareto.compression.method import Method

ROOT = source_digest.SCRIPTS.parents[1]
# Figures of each task, with what they say; `plot.py` names the module that draws them.
FRONT = (
    "Score against cost. Points are means over seeds, bars their spread; joined points are beaten "
    "by no other. A ring marks a student with no significant increase in errors over its teacher."
)
TASKS = "The front of each task over one cost, side by side."
PUBLISHED = (
    "Published systems, as papers and the SUPERB leaderboard state them, on their own tasks: not "
    "comparable with scores on other corpora."
)
VIEWS = {
    "ratios": "Score against the share of parameters that was removed.",
    "speedup": "Measured speed-up against saved multiply-accumulates; dotted: all saved work is "
    "saved time.",
    "layers": "What each layer of a student keeps: heads, feed-forward rows, weights.",
    "diagonality": "How diagonal the teacher's heads attend, and which of them pruning keeps.",
    "similarity": "Which layers of the teacher the student's hidden states resemble (linear CKA).",
}
PROBES = "How much a probe listens to each layer: the shares of the learned weighted sum."


@dataclass(frozen=True, order=True)
class Cell:
    """One point of a study's grid; `scope` is `any`, or the task that the student was made for."""

    teacher: str
    recipe: str
    ratio: str
    seed: str
    task: str
    scope: str


def cells(study: dict) -> list[Cell]:
    """Return a resolved config's cells, each once; what removes nothing stands at ratio 0."""
    found = {}
    for block in study["grid"]:
        for teacher in block.get("teachers", study["teachers"]):
            for recipe in block.get("recipes", study["recipes"]):
                ratios = block["ratios"] if removes(study["recipes"][recipe]) else [0]
                for ratio in ratios:
                    for seed in block["seeds"]:
                        for task in block.get("tasks", study["tasks"]):
                            scope = scope_of(study, recipe, task)
                            cell = Cell(teacher, recipe, ratio_name(ratio), str(seed), task, scope)
                            found[cell] = None
    return list(found)


def figures_of(study: dict) -> dict[str, dict]:
    """Return a study's figures by name: `kind`, `task` (None: all) and what it `says`."""
    kinds = dict.fromkeys(study["figures"]["costs"], FRONT) | VIEWS
    tasks = dict.fromkeys(cell.task for cell in cells(study))
    found = {
        f"{task}-{kind}": {"kind": kind, "task": task, "says": says}
        for task in tasks
        for kind, says in kinds.items()
    }
    for task in tasks:
        if study["tasks"][task]["protocol"] == "probe":
            found[f"{task}-probes"] = {"kind": "probes", "task": task, "says": PROBES}
        if comparable(study, task) and f"{task}-parameters" in found:
            found[f"{task}-parameters"]["published"] = True
    if len(tasks) > 1:
        found |= {
            f"all-tasks-{cost}": {"kind": cost, "task": None, "says": TASKS}
            for cost in study["figures"]["costs"]
        }
    return found | {"published": {"kind": "published", "task": None, "says": PUBLISHED}}


def comparable(study: dict, task: str) -> bool:
    """Return whether a task's scores may stand beside published ones."""
    settings = study["tasks"][task]
    used = {study["corpora"][name]["source"] for name in settings["corpora"]}
    return kind_of(settings["kind"]).comparable(settings, used)


def tasks_with(study: dict, rule: str) -> list[str]:
    """Return the tasks that a rule trains or scores."""
    return [name for name, task in study["tasks"].items() if rule in kind_of(task["kind"]).rules]


def scope_of(study: dict, recipe: str, task: str) -> str:
    """Return which students of a recipe a task takes: its own, or those made for `any` task."""
    own = task_aware(study["recipes"][recipe]) or teacher_scope(study, task) == task
    return task if own else "any"


def teacher_scope(study: dict, scope: str) -> str:
    """Return which teacher students of a scope are made from: its own, or the bare one, `any`."""
    bare = scope == "any" or study["tasks"][scope]["start"] == "backbone"
    return "any" if bare else scope


def methods_of(steps: list[dict]) -> list[type[Method]]:
    """Return the methods in a resolved recipe."""
    return [catalogue.load(name) for step in steps for name in step]


def removes(steps: list[dict]) -> bool:
    """Return whether a resolved recipe removes parameters."""
    return any(method.removes for method in methods_of(steps))


def learns(steps: list[dict]) -> bool:
    """Return whether a resolved recipe needs recordings, to train or to look at."""
    return any(method.needs in ("audio", "training") for method in methods_of(steps))


def task_aware(steps: list[dict]) -> bool:
    """Return whether a resolved recipe fine-tunes on the task while it compresses."""
    return any(method.needs == "task" for method in methods_of(steps))


def role_of(steps: list[dict]) -> str:
    """Return what a resolved recipe's students are to a study: teacher, control or student."""
    roles = {method.role for method in methods_of(steps)}
    return next(role for role in ("student", "control", "teacher") if role in roles)


def pretrained(teacher: Mapping) -> bool:
    """Return whether a teacher of the config was pretrained, as far as the config tells."""
    made_here = not {"path", "hub", "checkpoint"} & set(teacher)
    untrained = made_here and not teacher["pretrain"]["iterations"]
    return teacher.get("pretrained", not untrained)


def ratio_name(ratio: float) -> str:
    """Return a ratio as the shortest decimal: "0", "0.25"."""
    return format(Decimal(repr(ratio)).normalize(), "f")


def settings_of(step: str | dict) -> dict:
    """Return a step of a recipe, a method's name or {name: settings}, as {name: settings}."""
    return {step: None} if isinstance(step, str) else step


def downloads(corpus: Mapping) -> bool:
    """Return whether a corpus is fetched: its source is published, and no `path` has a copy."""
    return "path" not in corpus and sources.published(corpus["source"])


def locate(path: str) -> Path:
    """Return a path of the config, seen from the working directory or else the workflow's."""
    here, shipped = Path(path).expanduser(), ROOT / path
    return shipped if shipped.exists() and not here.exists() else here
