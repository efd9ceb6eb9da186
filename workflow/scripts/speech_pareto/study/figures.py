"""Which figures a study has, and what each says; `reporting/figures/` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from speech_pareto.study.cells import cells
from speech_pareto.tasks.kind import kind_of

FRONT = (
    "Score against cost. Points are means over seeds, bars their spread; joined points are beaten "
    "by no other. A ring marks a student with no significant increase in errors over its teacher."
)
ALL_TASKS = "The front of each task over one cost, side by side."
PUBLISHED = (
    "Published systems, as papers and the SUPERB leaderboard state them, on their own tasks: not "
    "comparable with scores on other corpora."
)
PROBES = "Which layers a probe reads: the shares of the learned weighted sum."


@dataclass(frozen=True)
class View:
    """A figure of a task: `draw` of a module in `reporting/figures/`, and its caption.

    It is drawn from the summary over seeds, or from what `analyse` saw inside the students.
    """

    module: str
    reads: Literal["summary", "students"]
    says: str


VIEWS = {
    "ratios": View("ratios", "summary", "Score against the share of parameters that was removed."),
    "speedup": View(
        "speedup",
        "summary",
        "Measured speed-up against saved multiply-accumulates; dotted: all saved work is saved "
        "time.",
    ),
    "layers": View(
        "layers",
        "students",
        "What each layer of a student keeps: heads, feed-forward rows, weights.",
    ),
    "diagonality": View(
        "head_diagonality",
        "students",
        "How diagonal the teacher's heads attend, and which of them pruning keeps.",
    ),
    "similarity": View(
        "layer_similarity",
        "students",
        "Which layers of the teacher the student's hidden states resemble (linear CKA).",
    ),
}


def figures_of(study: Mapping) -> dict[str, dict]:
    """Return a study's figures by name: `kind`, `task` (None: all) and what it `says`."""
    kinds = dict.fromkeys(study["figures"]["costs"], FRONT)
    kinds |= {kind: view.says for kind, view in VIEWS.items()}
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
            f"all-tasks-{cost}": {"kind": cost, "task": None, "says": ALL_TASKS}
            for cost in study["figures"]["costs"]
        }
    return found | {"published": {"kind": "published", "task": None, "says": PUBLISHED}}


def comparable(study: Mapping, task: str) -> bool:
    """Return whether a task's scores may stand beside published ones."""
    settings = study["tasks"][task]
    used = {study["corpora"][name]["source"] for name in settings["corpora"]}
    return kind_of(settings["kind"]).comparable(settings, used)
