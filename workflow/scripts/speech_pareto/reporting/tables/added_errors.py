"""Which errors compression adds: how often a teacher and its students make each one on test."""

from collections import Counter
from typing import NamedTuple

import pandas as pd
from rapidfuzz.distance import Levenshtein

from speech_pareto.reporting.tables import answers
from speech_pareto.reporting.tables.roles import STUDENT, TEACHER

STUDENTS, MOST = 3, 8  # how many are shown at most, and errors of either sort
Error = tuple[str, str]  # of the reference, of the hypothesis; "" for a symbol that is not there


class Model(NamedTuple):
    """A teacher or a student, and its errors per 1,000 symbols of the references."""

    key: tuple[str, str, float]  # teacher, recipe, ratio
    kind: str
    score: float
    rates: dict[Error, float]
    target: str | None  # what the ratio stands for, if that is no share of parameters


def build(answered: answers.Answered, task: str) -> tuple[list[list[Error]], list[Model]]:
    """Return the errors that students add most, and their teacher before these students.

    Errors are of two sorts: symbols taken for others, and symbols left out or put in. The students
    are up to three of the task's front over parameters: the largest, the smallest and the middle
    one; of several teachers, those of the largest's. An error counts by how much more often they
    make it than their teacher, all together; those that are not more frequent are left out.
    Alignments have the fewest errors, as those of the score have.
    """
    models = [
        Model(
            (point.teacher, point.recipe, point.ratio),
            point.kind,
            score,
            rates(rows),
            point.target,
        )
        for point, score, rows in answered.by(_shown(answered.summary, task))
    ]
    if len(models) < 2:
        return [], models
    teacher, *students = models
    added = {
        error: sum(one.rates.get(error, 0) - teacher.rates.get(error, 0) for one in students)
        for error in set().union(*(student.rates for student in students))
    }
    ranked = sorted(added, key=lambda error: (-added[error], error))
    more = [error for error in ranked if added[error] > 0]
    sorts = [[error for error in more if all(error)], [error for error in more if not all(error)]]
    return [sort[:MOST] for sort in sorts if sort], models


def rates(rows: list[answers.Row]) -> dict[Error, float]:
    """Return each error's number per 1,000 symbols of the references."""
    counts: Counter[Error] = Counter()
    total = 0
    for row in rows:
        length = int(row["length"])
        one, other, _ = answers.symbols(row["reference"], row["hypothesis"], length)
        for edit in Levenshtein.editops(one, other):
            missed = "" if edit.tag == "insert" else one[edit.src_pos]
            given = "" if edit.tag == "delete" else other[edit.dest_pos]
            counts[missed, given] += 1
        total += length
    return {error: 1000 * count / total for error, count in counts.items()}


def _shown(summary: pd.DataFrame, task: str) -> list:
    """Return the rows of the teacher and of its students; none where there is no student."""
    rows = summary[(summary["task"] == task) & (summary["status"] == "ok")]
    front = rows[rows["front_parameters"] & (rows["kind"] == STUDENT)]
    front = front.sort_values(["parameters", "recipe", "ratio"], ascending=[False, True, True])
    teachers = rows[(rows["kind"] == TEACHER) & rows["teacher"].isin(front["teacher"].iloc[:1])]
    if teachers.empty:
        return []
    front = front[front["teacher"] == teachers["teacher"].iloc[0]]
    places = sorted({0, len(front) // 2, len(front) - 1})[:STUDENTS]
    return [*teachers.iloc[:1].itertuples(), *front.iloc[places].itertuples()]
