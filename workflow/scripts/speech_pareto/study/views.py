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
PROBES = "Which layers a probe reads: the shares of the learned weighted sum."
CONFUSION = (
    "Which class was taken for which, by the teacher and by the student that is best on validation."
)


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
