"""Which class was taken for which: the answers of a teacher and of its best student."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.results_table import GROUP
from speech_pareto.reporting.tables.roles import STUDENT, TEACHER


class Confusion(NamedTuple):
    """Of one model, how many utterances of each class (rows) it took for each (columns)."""

    key: tuple[str, str, float]  # teacher, recipe, ratio
    kind: str
    score: float
    counts: np.ndarray  # (classes, classes)


def build(
    cells: pd.DataFrame, summary: pd.DataFrame, hypotheses: Mapping[str, str], task: str
) -> tuple[list[str], list[Confusion]]:
    """Return a task's classes, and on test the confusions of its best student and of its teacher.

    The best is so on the split that chooses; of equals, the smallest. Each is the model of its
    first seed. `hypotheses` maps each `metrics_file` of the table `cells` to its TSV of utterances.
    """
    whole = summary[(summary["task"] == task) & (summary["status"] == "ok")]
    shown, answers = _shown(whole), []
    for point in shown:
        own = cells[(cells[GROUP] == [getattr(point, name) for name in GROUP]).all(axis=1)]
        cell = own.sort_values("seed").iloc[0]
        file = hypotheses[cell["metrics_file"]]
        rows = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
        answers.append((cell["score"], rows[rows["split"] == "test"]))
    names = [rows[column] for _, rows in answers for column in ("reference", "hypothesis")]
    classes = sorted(set().union(*names))
    index = {name: i for i, name in enumerate(classes)}
    found = []
    for point, (score, rows) in zip(shown, answers, strict=True):
        counts = np.zeros((len(classes), len(classes)), int)
        np.add.at(counts, (rows["reference"].map(index), rows["hypothesis"].map(index)), 1)
        key = (point.teacher, point.recipe, point.ratio)
        found.append(Confusion(key, point.kind, float(score), counts))
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
