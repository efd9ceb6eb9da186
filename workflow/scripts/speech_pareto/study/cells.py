"""What the rules ask of a study, that is a resolved config: its cells, methods, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from speech_pareto.compression import recipes
from speech_pareto.data import sources
from speech_pareto.tasks.kind import kind_of

if TYPE_CHECKING:
    from speech_pareto.compression.method import Method


@dataclass(frozen=True, order=True)
class Cell:
    """One point of a study's grid; `scope` is `any`, or the task that the student was made for.

    `target` is what the ratio stands for if that is not a share of parameters: `{macs: 0.5}`.
    """

    teacher: str
    recipe: str
    ratio: str
    seed: str
    task: str
    scope: str
    target: Mapping | None = field(default=None, compare=False)


def cells(study: Mapping) -> list[Cell]:
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
                            name = ratio_name(ratio)
                            target = block.get("targets", {}).get(name)
                            cell = Cell(teacher, recipe, name, str(seed), task, scope, target)
                            found.setdefault(cell, cell)
    return list(found)


def tasks_with(study: Mapping, rule: str) -> list[str]:
    """Return the tasks that a rule trains or scores."""
    return [name for name, task in study["tasks"].items() if rule in kind_of(task["kind"]).rules]


def scope_of(study: Mapping, recipe: str, task: str) -> str:
    """Return which students of a recipe a task takes: its own, or those made for `any` task.

    What a student costs that utterances leave early is known of a task's utterances alone. A rung
    of a search takes the students of its task.
    """
    steps, task = study["recipes"][recipe], study["tasks"][task].get("rung_of", task)
    own = task_aware(steps) or dynamic(steps) or teacher_scope(study, task) == task
    return task if own else "any"


def teacher_scope(study: Mapping, scope: str) -> str:
    """Return which teacher students of a scope are made from: its own, or the bare one, `any`."""
    bare = scope == "any" or study["tasks"][scope]["start"] == "backbone"
    return "any" if bare else scope


def methods_of(recipe: Sequence[dict]) -> list[Method]:
    """Return the methods in a resolved recipe, whose settings may say what they need."""
    return [recipes.make(entry) for entry in recipe]


def removes(recipe: list[dict]) -> bool:
    """Return whether a resolved recipe removes parameters."""
    return any(method.removes for method in methods_of(recipe))


def learns(recipe: Sequence[dict]) -> bool:
    """Return whether a resolved recipe needs recordings, to train or to look at."""
    return any(method.needs in ("audio", "training") for method in methods_of(recipe))


def trains_once(recipe: Sequence) -> bool:
    """Return whether one training, that of its first step, serves all ratios of a recipe."""
    first = recipes.make(recipe[0])
    return first.trains_once and first.training_steps() > 0


def after_supernet(recipe: Sequence) -> Sequence:
    """Return the steps of a resolved recipe that are left once its supernet is trained."""
    return recipe[1:] if trains_once(recipe) else recipe


def supernet_of(study: Mapping, cell: Cell) -> str | None:
    """Return the supernet that a cell's student is cut from, as its job is named; mostly None."""
    if not trains_once(study["recipes"][cell.recipe]):
        return None
    scope = teacher_scope(study, cell.scope)
    return f"{cell.teacher}/{cell.recipe}/{cell.seed}/{scope}"


def task_aware(recipe: list[dict]) -> bool:
    """Return whether a resolved recipe fine-tunes on the task while it compresses."""
    return any(method.needs == "task" for method in methods_of(recipe))


def dynamic(recipe: Sequence[dict]) -> bool:
    """Return whether how much a resolved recipe's students compute depends on what they hear."""
    return any(method.dynamic for method in methods_of(recipe))


def role_of(recipe: list[dict]) -> str:
    """Return what a resolved recipe's students are to a study: teacher, control or student."""
    roles = {method.role for method in methods_of(recipe)}
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
    """Return an entry of a recipe, a method's name or {name: settings}, as {name: settings}."""
    return {step: None} if isinstance(step, str) else step


def downloads(corpus: Mapping) -> bool:
    """Return whether a corpus is fetched: its source is published, and no `path` has a copy."""
    return "path" not in corpus and sources.published(corpus["source"])
