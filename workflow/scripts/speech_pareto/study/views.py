"""What the figures of a study say, and which module draws which; scripts that draw read this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FRONT = (
    "Score against cost. Points are means over seeds, bars their spread; joined points are beaten "
    "by no other. A ring marks a student with no significant increase in errors over its teacher."
)
ALL_TASKS = "The front of each task over one cost, side by side."
PUBLISHED = (
    "Published systems, as papers and the SUPERB leaderboard state them, on their own tasks: not "
    "comparable with scores on other corpora."
)
LABELS = "What labels are worth: tasks that differ only in their hours of labelled speech."
PROBES = "Which layers a probe reads: the shares of the learned weighted sum."


@dataclass(frozen=True)
class View:
    """A figure of a task: `draw` of a module in `reporting/figures/`, and its caption.

    It is drawn from the summary over seeds, from what `analyse` saw inside the students, or from
    the utterances, where the task's kind names it (`tasks/kind.py`). Exported files are drawn of
    studies that measure them, conditions of tasks that have some, a search of its task.
    """

    module: str
    reads: Literal["summary", "students", "utterances", "runtimes", "conditions", "search"]
    says: str


VIEWS = {
    "ratios": View(
        "ratios",
        "summary",
        "Score against what was removed: a share of parameters, or of the cost that was asked for.",
    ),
    "speedup": View(
        "speedup",
        "summary",
        "Measured speed-up against saved multiply-accumulates; dotted: all saved work is saved "
        "time.",
    ),
    "runtimes": View(
        "runtime_times",
        "runtimes",
        "Time of each student in torch and as exported files in onnxruntime.",
    ),
    "robustness": View(
        "robustness",
        "conditions",
        "What compression costs in each condition of the task, against what it costs without it.",
    ),
    "search": View(
        "search_progress",
        "search",
        "How the search went, and the front that it found beside the grid.",
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
    "confusion": View(
        "confusion",
        "utterances",
        "Which class was taken for which, by the teacher and by the student that is best on "
        "validation.",
    ),
    "errors": View(
        "error_rates",
        "utterances",
        "The errors that compression adds most: students of the front beside their teacher.",
    ),
}
