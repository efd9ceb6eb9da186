"""Students against their teacher, and the points of a front against each other.

What is reported of a student is of the test split; what chooses between students is of validation.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speech_pareto.reporting.tables.pareto import SIGNS, areas
from speech_pareto.reporting.tables.results_table import GROUP, summarise
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.significance import ALPHA, holm, interval
from speech_pareto.reporting.tables.systems import DIFFERENCE, Systems, key_of, systems_of
from speech_pareto.study import quantities

NO_TEACHER = "no_teacher"  # status of a student without a row of its teacher to compare with
WORST = 100.0  # error rate of the reference point of hypervolumes: nothing is recognised

HYPERVOLUME = ["hypervolume", "hypervolume_low", "hypervolume_high"]
COMPARISONS = [*GROUP, "metric", "better", "status", "reason", "n", "seeds", "utterances"]
COMPARISONS += ["score", "teacher_score", *DIFFERENCE, "z", "p", "p_corrected", "significant"]
FRONTS = ["task", "cost", *GROUP[1:], "status", "reason", "cost_value", "score", "valid_score"]
FRONTS += ["on_front", "on_test_front", "chosen_on"]
FRONTS += ["next_teacher", "next_recipe", "next_ratio", *DIFFERENCE, "p", "p_corrected", "tie"]
FRONTS += [*HYPERVOLUME, "reference_cost", "reference_score"]
PAIRS = [*GROUP, "other_teacher", "other_recipe", "other_ratio", "p"]
TEXTS = ["task", "cost", "teacher", "recipe", "metric", "better", "status", "reason"]
TEXTS += ["next_teacher", "next_recipe", "other_teacher", "other_recipe", "chosen_on"]
TYPES = dict.fromkeys(TEXTS, "string")
TYPES |= dict.fromkeys(["n", "seeds", "utterances"], "Int64")
TYPES |= dict.fromkeys(["significant", "on_front", "on_test_front", "tie"], "boolean")


def build(cells: pd.DataFrame, hypotheses: dict[str, str]) -> tuple[pd.DataFrame, ...]:
    """Return the comparisons with the teachers, the fronts, and all pairs, of the table of cells.

    `hypotheses` maps each `metrics_file` of the table to its TSV of utterances.  Points with a
    hole stand in the first two with their status and no numbers, and in no pair. The neighbours of
    a front and the pairs are compared on validation, or on test where a task's utterances of
    validation were not kept (SUPERB).
    """
    comparisons, fronts, pairs = [], [], []
    for task, points in summarise(cells).groupby("task", sort=True):
        own = cells[cells["task"] == task]
        if not _counted(own, hypotheses):
            continue
        tested = systems_of(own, points, hypotheses, "test")
        chosen = systems_of(own, points, hypotheses, "valid")
        if not chosen.utterances:
            chosen = tested
        comparisons += _against_teachers(points, tested)
        for cost in quantities.main_axes():
            fronts += _front(points, tested, chosen, cost)
        pairs += [{"task": task} | pair for pair in _pairs(chosen)]
    return _table(comparisons, COMPARISONS), _table(fronts, FRONTS), _table(pairs, PAIRS)


def _table(rows: list[dict], columns: list[str]) -> pd.DataFrame:
    """Return rows, in which holes may be left out, as a table."""
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({column: TYPES.get(column, "float64") for column in columns})


def _counted(cells: pd.DataFrame, hypotheses: dict[str, str]) -> bool:
    """Return whether a task's tables have rows; those of SUPERB's ASV, SD and SF have none."""
    done = [hypotheses[file] for file in cells[cells["status"] == "ok"]["metrics_file"]]
    return not done or any(len(Path(file).read_bytes().splitlines()) > 1 for file in done)


def _against_teachers(points: pd.DataFrame, systems: Systems) -> list[dict]:
    """Return a row per student of a task; Holm's correction is over all of them."""
    own = points[points["role"] == TEACHER].drop_duplicates("teacher")
    teachers: dict[str, Any] = {row.teacher: row for row in own.itertuples()}
    rows, tested = [], []
    for point in points[points["role"] != TEACHER].itertuples():
        teacher = teachers.get(point.teacher)
        row = {column: getattr(point, column) for column in COMPARISONS[: len(GROUP) + 6]}
        if point.status == "ok" and teacher is None:
            row |= {"status": NO_TEACHER, "reason": _missing(point.teacher, own)}
        elif point.status == "ok" and teacher and teacher.status != "ok":
            row |= {"status": NO_TEACHER, "reason": f"{teacher.recipe}: {teacher.status}"}
        elif point.status == "ok" and teacher:
            row |= {"utterances": len(systems.utterances)}
            row |= {"score": point.score, "teacher_score": teacher.score}
            row |= systems.difference(key_of(point), key_of(teacher), point.better)
            tested.append(row)
        rows.append(row)
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row |= {"p_corrected": float(p), "significant": bool(p < ALPHA and row["z"] > 0)}
    return rows


def _missing(teacher: str, own: pd.DataFrame) -> str:
    """Return which row of a study is missing, given those it has of teachers themselves."""
    if own.empty:
        return f"the study has no recipe that leaves {teacher} as it is"
    return f"the study has no {own['recipe'].iloc[0]} of {teacher}"


def _front(points: pd.DataFrame, tested: Systems, chosen: Systems, cost: str) -> list[dict]:
    """Return a row per point of a task over a cost: its neighbour, its recipe's hypervolume."""
    points = points.assign(cost=cost, cost_value=points[quantities.QUANTITIES[cost].column])
    points = points.assign(on_front=points[f"front_{cost}"])
    points = points.assign(on_test_front=points[f"test_front_{cost}"])
    better = points["better"].iloc[0]
    whole = (points["status"] == "ok") & points["cost_value"].notna()
    points.loc[~whole, ["cost_value", "score", "valid_score"]] = np.nan
    teachers = points[whole & (points["role"] == TEACHER)]
    dearest = (points if teachers.empty else teachers)["cost_value"].max()
    reference = {"reference_cost": dearest}
    reference |= {"reference_score": WORST if better == "lower" else 100 - WORST}
    volumes = {
        name: _hypervolume(group, tested, dearest)
        for name, group in points[whole].groupby(["teacher", "recipe"])
    }
    rows = []
    for point in points.itertuples():
        row = {column: getattr(point, column) for column in FRONTS[: FRONTS.index("chosen_on") + 1]}
        row["choice_score"] = point.choice_score
        rows.append(row | volumes.get((point.teacher, point.recipe), {}) | reference)
    _ties([row for row in rows if row["on_front"]], chosen, better)
    return rows


def _hypervolume(points: pd.DataFrame, systems: Systems, dearest: float) -> dict:
    """Return what points hold of the box below (dearest, WORST), in percent, and the interval."""
    keys = [key_of(point) for point in points.itertuples()]
    measured = [[systems.rate(key) for key in keys]]
    drawn = np.stack([systems.rates[key] for key in keys], axis=1)
    held = areas(points["cost_value"], np.vstack([measured, drawn]), (dearest, WORST))
    share = 100 * held / (dearest * WORST)
    return dict(zip(HYPERVOLUME, (float(share[0]), *interval(share[1:])), strict=True))


def _pairs(systems: Systems) -> list[dict]:
    """Return a row per pair of whole points: the test between them, not corrected.

    Rounded, so that a reader of the text decides alike.
    """
    rows = []
    for one, other in itertools.combinations(sorted(systems.rates), 2):
        row = dict(zip(PAIRS[1:-1], (*one, *other), strict=True))
        rows.append(row | {"p": round(systems.test(one, other)[1], 6)})
    return rows


def _ties(front: list[dict], systems: Systems, better: str) -> None:
    """Compare each point of a front with the next dearer one; Holm's correction over the front.

    A tie: the dearer one is not shown to be better.
    """
    # of equal costs, the better score is the dearer's place
    front = sorted(front, key=lambda row: (row["cost_value"], -SIGNS[better] * row["choice_score"]))
    for row, dearer in zip(front, front[1:], strict=False):
        row |= {f"next_{name}": dearer[name] for name in GROUP[1:]}
        one, other = ((each["teacher"], each["recipe"], each["ratio"]) for each in (row, dearer))
        row |= systems.difference(one, other, better)
    for row, p in zip(front, holm([row["p"] for row in front[:-1]]), strict=False):
        row |= {"p_corrected": float(p), "tie": bool(p >= ALPHA or row["z"] <= 0)}
