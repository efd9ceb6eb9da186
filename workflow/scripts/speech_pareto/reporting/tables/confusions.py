"""Which class was taken for which: the answers of a teacher and of its best student."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from speech_pareto.reporting.tables.answers import Answered
from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.results_table import GROUP
from speech_pareto.reporting.tables.roles import STUDENT, TEACHER


class Confusion(NamedTuple):
    """Of one model, how many utterances of each class (rows) it took for each (columns)."""

    key: tuple[str, str, float]  # teacher, recipe, ratio
    kind: str
    score: float
    counts: np.ndarray  # (classes, classes)
    target: str | None  # what the ratio stands for, if that is no share of parameters


def build(answered: Answered, task: str) -> tuple[list[str], list[Confusion]]:
    """Return a task's classes, and on test the confusions of its best student and of its teacher.

    The best is so on the split that chooses; of equals, the smallest.
    """
    summary = answered.summary
    whole = summary[(summary["task"] == task) & (summary["status"] == "ok")]
    shown = list(answered.by(_shown(whole)))
    pairs = [(row["reference"], row["hypothesis"]) for _, _, rows in shown for row in rows]
    classes = sorted(set().union(*pairs))
    index = {name: i for i, name in enumerate(classes)}
    found = []
    for point, score, rows in shown:
        counts = np.zeros((len(classes), len(classes)), int)
        for row in rows:
            counts[index[row["reference"]], index[row["hypothesis"]]] += 1
        key = (point.teacher, point.recipe, point.ratio)
        found.append(Confusion(key, point.kind, score, counts, point.target))
    return classes, found


def _shown(whole: pd.DataFrame) -> list:
    """Return the teacher and its best student, of a task's whole points, as far as there are."""
    students = whole[whole["kind"] == STUDENT]
    teachers = whole[whole["kind"] == TEACHER]
    if len(students):
        loss = students["choice_score"] * students["better"].map(SIGNS)
        best = students.assign(loss=loss).sort_values(["loss", "parameters", *GROUP]).iloc[:1]
        teachers = teachers[teachers["teacher"] == best["teacher"].iloc[0]]
        return [*teachers.iloc[:1].itertuples(), *best.itertuples()]
    return list(teachers.iloc[:1].itertuples())
