"""What the rules ask of a study, that is a resolved config: its cells, methods, files."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from speech_pareto import digest

ROOT = digest.SCRIPTS.parents[1]
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
    """Return whether a task's scores may stand beside published ones.

    That is SUPERB's phone recognition: a probe on LibriSpeech. PER on any other corpus is
    another quantity.
    """
    settings = study["tasks"][task]
    if settings.get("kind") == "superb":
        return settings["problem"] == "PR" and "data" in settings
    sources = {study["corpora"][name]["source"] for name in settings["corpora"]}
    probed = settings["protocol"] == "probe" and settings["metric"] == "per"
    return probed and sources == {"librispeech"}


def scope_of(study: dict, recipe: str, task: str) -> str:
    """Return which students of a recipe a task takes: its own, or those made for `any` task."""
    own = task_aware(study["recipes"][recipe]) or teacher_scope(study, task) == task
    return task if own else "any"


def teacher_scope(study: dict, scope: str) -> str:
    """Return which teacher students of a scope are made from: its own, or the bare one, `any`."""
    bare = scope == "any" or study["tasks"][scope]["start"] == "backbone"
    return "any" if bare else scope


def removes(steps: list[dict]) -> bool:
    """Return whether a resolved recipe removes parameters."""
    files = [digest.SCRIPTS / file for file in methods_of(steps)]
    return any(digest.attribute(file, "removes") is not False for file in files)


def ratio_name(ratio: float) -> str:
    """Return a ratio as the shortest decimal: "0", "0.25"."""
    return format(Decimal(repr(ratio)).normalize(), "f")


def settings_of(step: str | dict) -> dict:
    """Return a step of a recipe, a method's name or {name: settings}, as {name: settings}."""
    return {step: None} if isinstance(step, str) else step


def methods_of(steps: list[dict]) -> list[str]:
    """Return the files, relative to the scripts, of the methods in a resolved recipe."""
    return [f"speech_pareto/methods/{name}.py" for step in steps for name in step]


def learns(steps: list[dict]) -> bool:
    """Return whether a resolved recipe looks at recordings: to train (`loss`), or `listens`."""
    files = [digest.SCRIPTS / file for file in methods_of(steps)]
    return any(digest.defines(f, "loss") or digest.attribute(f, "listens") for f in files)


def task_aware(steps: list[dict]) -> bool:
    """Return whether a resolved recipe fine-tunes on the task while it compresses."""
    files = [digest.SCRIPTS / file for file in methods_of(steps)]
    return any(digest.attribute(file, "task_aware") for file in files)


def downloads(corpus: dict) -> bool:
    """Return whether a corpus is fetched: its source is published, and no `path` has a copy."""
    return "path" not in corpus and published(corpus["source"])


def published(source: str) -> bool:
    """Return whether a corpus source knows where to fetch what it reads."""
    return digest.defines(digest.SCRIPTS / "speech_pareto" / "corpora" / f"{source}.py", "fetch")


def locate(path: str) -> Path:
    """Return a path of the config, seen from the working directory or else the workflow's."""
    here, shipped = Path(path).expanduser(), ROOT / path
    return shipped if shipped.exists() and not here.exists() else here
