"""Students against their teacher, and the points of a front against each other.

What is reported of a student is of the test split; what chooses between students is of validation.
"""

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speech_pareto.reporting.tables.pareto import SIGNS, areas
from speech_pareto.reporting.tables.results_table import GROUP, summarise
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.significance import (
    ALPHA,
    holm,
    interval,
    matched_pairs,
    mcnemar,
    resampled_rates,
)
from speech_pareto.study import quantities
from speech_pareto.tasks.hypotheses import WORDS

KINDS = ("deletions", "insertions", "substitutions")
NO_TEACHER = "no_teacher"  # status of a student without a row of its teacher to compare with
WORST = 100.0  # error rate of the reference point of hypervolumes: nothing is recognised

DIFFERENCE = ["difference", "difference_low", "difference_high"]
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
        tested = _Systems(own, points, hypotheses, "test")
        chosen = _Systems(own, points, hypotheses, "valid")
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
    """Return whether a task counts errors of utterances; EER, DER and F1 are no such counts."""
    done = [hypotheses[file] for file in cells[cells["status"] == "ok"]["metrics_file"]]
    return not done or any(len(Path(file).read_bytes().splitlines()) > 1 for file in done)


class _Systems:
    """Errors per utterance of a split, of a task's whole points: those that miss no seed."""

    def __init__(
        self, cells: pd.DataFrame, points: pd.DataFrame, hypotheses: dict[str, str], split: str
    ) -> None:
        whole = [row for row in points.itertuples() if row.status == "ok"]
        whole.sort(key=lambda row: row.role != TEACHER)  # teachers first: errors name them
        whole = [_key(row) for row in whole]
        seeds = {key: [] for key in whole}
        for cell in cells.itertuples():
            if _key(cell) in seeds:
                seeds[_key(cell)].append(cell)
        self.errors, self.utterances, first, totals = {}, [], None, []
        for key in whole:
            total: Any = 0
            for cell in seeds[key]:
                file = hypotheses[cell.metrics_file]
                utterances, errors, lengths = read_errors(file, cell.metric, split)
                if utterances or split == "test":
                    _check_score(file, cell, errors, lengths, split)
                if first is None:
                    first, self.utterances, self.lengths = file, utterances, lengths
                _check_utterances(file, utterances, first, self.utterances)
                total = total + errors
            totals.append(total)
            self.errors[key] = total / len(seeds[key])  # the mean over the seeds
        self.right_or_wrong = {  # of one seed, and each utterance is one error or none
            key
            for key, total in zip(whole, totals, strict=True)
            if len(seeds[key]) == 1 and (self.lengths == 1).all() and np.max(total, initial=0) <= 1
        }
        if self.utterances:
            # whole numbers are resampled: the same bytes on every machine
            drawn = resampled_rates(totals, self.lengths).T
            self.rates = {key: drawn[i] / len(seeds[key]) for i, key in enumerate(whole)}

    def rate(self, key) -> float:
        """Return the error rate in percent."""
        return float(100 * self.errors[key].sum() / self.lengths.sum())

    def test(self, a: tuple, b: tuple) -> tuple[float, float]:
        """Return z and p of the difference in errors: z above 0, `a` makes more.

        McNemar's test where both are right or wrong in each utterance, else matched pairs.
        """
        test = mcnemar if {a, b} <= self.right_or_wrong else matched_pairs
        return test(self.errors[a], self.errors[b])

    def difference(self, a: tuple, b: tuple, better: str) -> dict:
        """Return how many points of the metric `a` is above `b`, and how sure that is.

        `z` counts errors, whatever the metric: above 0, `a` makes more.
        """
        sign = SIGNS[better]
        points = sign * (self.rate(a) - self.rate(b))
        bounds = interval(sign * (self.rates[a] - self.rates[b]))
        z, p = self.test(a, b)
        # + 0.0: no -0.0
        values = [value + 0.0 for value in (points, *bounds)]
        return dict(zip(DIFFERENCE, values, strict=True)) | {"z": z, "p": p}


def _key(row) -> tuple[str, str, float]:
    """Return what names a point within its task."""
    return row.teacher, row.recipe, row.ratio


def read_errors(file, metric: str, split: str = "test") -> tuple[list, np.ndarray, np.ndarray]:
    """Return (id, reference), errors and reference length of each utterance of a split in a TSV.

    They are counted in the symbols that the task recognises; for `wer` in words, where the task
    writes these apart.
    """
    try:
        with Path(file).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        rows = [row for row in rows if row["split"] == split]
        utterances = [(row["id"], row["reference"]) for row in rows]
        worded = metric == "wer" and rows and WORDS[0] in rows[0]
        errors, length = (WORDS[:1], WORDS[1]) if worded else (KINDS, "length")
        counts = [(sum(int(row[kind]) for kind in errors), int(row[length])) for row in rows]
    except KeyError as error:
        raise ValueError(f"{file} has no column {error}; evaluate this cell again")
    except (
        csv.Error,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:  # a cut row
        raise ValueError(f"{file} is damaged ({error}); evaluate this cell again")
    if any(errors < 0 or length < 0 for errors, length in counts):
        raise ValueError(f"{file} has counts below 0; evaluate this cell again")
    errors, lengths = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    return utterances, errors, lengths


def _check_score(file, cell, errors: np.ndarray, lengths: np.ndarray, split: str) -> None:
    """Raise a ValueError if the counts in a TSV do not give the cell's score."""
    rate = 100 * errors.sum() / max(1, lengths.sum())
    score = rate if cell.better == "lower" else 100 - rate
    said = cell.score if split == "test" else cell.valid_score
    if not abs(score - said) <= 1e-3:
        raise ValueError(
            f"{file}: its errors of split {split} give {cell.metric} {score:.4f}, but "
            f"{cell.metrics_file} says {said:.4f}; evaluate this cell again"
        )


def _check_utterances(file, utterances: list, other, expected: list) -> None:
    """Raise a ValueError that names two files of different utterances or references."""
    if utterances == expected:
        return
    ids, others = ([name for name, _ in each] for each in (utterances, expected))
    if ids == others:
        name = next(a[0] for a, b in zip(utterances, expected, strict=True) if a != b)
        what = f"{name} has another reference"
    elif odd := sorted(set(ids) ^ set(others)):
        what = f"{odd[0]} is in one alone"
    else:
        what = "the utterances stand in another order"
    raise ValueError(f"{file} and {other} cannot be compared: {what}; evaluate both again")


def _against_teachers(points: pd.DataFrame, systems: _Systems) -> list[dict]:
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
            row |= systems.difference(_key(point), _key(teacher), point.better)
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


def _front(points: pd.DataFrame, tested: _Systems, chosen: _Systems, cost: str) -> list[dict]:
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


def _hypervolume(points: pd.DataFrame, systems: _Systems, dearest: float) -> dict:
    """Return what points hold of the box below (dearest, WORST), in percent, and the interval."""
    keys = [_key(point) for point in points.itertuples()]
    measured = [[systems.rate(key) for key in keys]]
    drawn = np.stack([systems.rates[key] for key in keys], axis=1)
    held = areas(points["cost_value"], np.vstack([measured, drawn]), (dearest, WORST))
    share = 100 * held / (dearest * WORST)
    return dict(zip(HYPERVOLUME, (float(share[0]), *interval(share[1:])), strict=True))


def _pairs(systems: _Systems) -> list[dict]:
    """Return a row per pair of whole points: the test between them, not corrected.

    Rounded, so that a reader of the text decides alike.
    """
    rows = []
    for one, other in itertools.combinations(sorted(systems.errors), 2):
        row = dict(zip(PAIRS[1:-1], (*one, *other), strict=True))
        rows.append(row | {"p": round(systems.test(one, other)[1], 6)})
    return rows


def _ties(front: list[dict], systems: _Systems, better: str) -> None:
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
