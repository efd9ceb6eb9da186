"""What the points of a task answered on a split, and how sure the difference of two is.

Errors of utterances are compared by matched pairs, scores of trials by a bootstrap.
"""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.significance import (
    interval,
    matched_pairs,
    mcnemar,
    resampled_rates,
)
from speech_pareto.tasks.detection import Trials, curve, resampled
from speech_pareto.tasks.hypotheses import TRIALS, WORDS

KINDS = ("deletions", "insertions", "substitutions")
DIFFERENCE = ["difference", "difference_low", "difference_high"]


class Systems:
    """A task's whole points, those that miss no seed, on one split.

    `utterances` names what all of them answered, `rates` maps each to resampled scores.
    """

    def __init__(self) -> None:
        self.utterances: list = []
        self.rates: dict[tuple, np.ndarray] = {}

    def rate(self, key: tuple) -> float:
        """Return the error rate in percent."""
        raise NotImplementedError

    def test(self, a: tuple, b: tuple) -> tuple[float, float]:
        """Return z and p of the difference in errors: z above 0, `a` makes more."""
        raise NotImplementedError

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

    def _read(
        self,
        cells: pd.DataFrame,
        points: pd.DataFrame,
        hypotheses: dict[str, str],
        read: Callable[[str, Any], tuple[list, Any]],
    ) -> dict[tuple, list]:
        """Return what `read(file, cell)` gives beside the names, of each seed of each point."""
        whole = [row for row in points.itertuples() if row.status == "ok"]
        whole.sort(key=lambda row: row.role != TEACHER)  # teachers first: errors name them
        found: dict[tuple, list] = {key_of(row): [] for row in whole}
        seeds: dict[tuple, list] = {key: [] for key in found}
        for cell in cells.itertuples():
            if key_of(cell) in seeds:
                seeds[key_of(cell)].append(cell)
        first = None
        for key, own in seeds.items():
            for cell in own:
                file = hypotheses[cell.metrics_file]
                utterances, values = read(file, cell)
                if first is None:
                    first, self.utterances = file, utterances
                _check_utterances(file, utterances, first, self.utterances)
                found[key].append(values)
        return found


class ErrorSystems(Systems):
    """Points whose answers have errors and lengths."""

    def __init__(
        self, cells: pd.DataFrame, points: pd.DataFrame, hypotheses: dict[str, str], split: str
    ) -> None:
        super().__init__()

        def read(file: str, cell: Any) -> tuple[list, np.ndarray]:
            utterances, errors, self.lengths = read_errors(file, cell.metric, split)
            if utterances or split == "test":
                rate = 100 * errors.sum() / max(1, self.lengths.sum())
                _check_score(file, cell, rate, split)
            return utterances, errors

        found = self._read(cells, points, hypotheses, read)
        totals = {key: sum(errors) for key, errors in found.items()}
        self.errors = {key: totals[key] / len(found[key]) for key in found}  # the mean of the seeds
        self.right_or_wrong = {  # of one seed, and each utterance is one error or none
            key
            for key, total in totals.items()
            if len(found[key]) == 1 and (self.lengths == 1).all() and np.max(total, initial=0) <= 1
        }
        if self.utterances:
            # whole numbers are resampled: the same bytes on every machine
            drawn = resampled_rates(list(totals.values()), self.lengths).T
            self.rates = {key: drawn[i] / len(found[key]) for i, key in enumerate(found)}

    def rate(self, key: tuple) -> float:
        """Return the error rate in percent."""
        return float(100 * self.errors[key].sum() / self.lengths.sum())

    def test(self, a: tuple, b: tuple) -> tuple[float, float]:
        """Return z and p of the difference in errors: z above 0, `a` makes more.

        McNemar's test where both are right or wrong in each utterance, else matched pairs.
        """
        test = mcnemar if {a, b} <= self.right_or_wrong else matched_pairs
        return test(self.errors[a], self.errors[b])


class TrialSystems(Systems):
    """Points whose answers are scores of trials, and whose metric is the EER."""

    def __init__(
        self, cells: pd.DataFrame, points: pd.DataFrame, hypotheses: dict[str, str], split: str
    ) -> None:
        super().__init__()

        def read(file: str, cell: Any) -> tuple[list, np.ndarray]:
            pairs, self.trials, scores = read_trials(file, split)
            rate = 100 * float(curve(scores, self.trials.target).eer())
            _check_score(file, cell, rate, split)
            return pairs, scores

        found = self._read(cells, points, hypotheses, read)
        self.eers = {
            key: 100 * np.mean([curve(one, self.trials.target).eer() for one in scores])
            for key, scores in found.items()
        }
        if self.utterances:
            drawn = 100 * resampled(self.trials, sum(found.values(), []))[..., 0].T
            ends = np.cumsum([len(scores) for scores in found.values()])
            parts = np.split(drawn, ends[:-1])
            self.rates = {key: part.mean(0) for key, part in zip(found, parts, strict=True)}

    def rate(self, key: tuple) -> float:
        """Return the equal error rate in percent, the mean over the seeds."""
        return float(self.eers[key])

    def test(self, a: tuple, b: tuple) -> tuple[float, float]:
        """Return z and the two-sided p-value of a paired bootstrap.

        z = difference in EER / its standard deviation over `detection.draws`, p = 2 (1 - Φ(|z|)).
        """
        return by_bootstrap(self.rate(a) - self.rate(b), self.rates[a] - self.rates[b])


def by_bootstrap(difference: float, drawn: np.ndarray) -> tuple[float, float]:
    """Return z and the two-sided p-value of a difference, of how it is over draws (draws,)."""
    if difference == 0:
        return 0.0, 1.0
    spread = float(np.std(drawn, ddof=1))
    z = difference / spread if spread else math.copysign(math.inf, difference)
    return z, math.erfc(abs(z) / math.sqrt(2))


def systems_of(
    cells: pd.DataFrame, points: pd.DataFrame, hypotheses: dict[str, str], split: str
) -> Systems:
    """Return the points of a task on a split: of trials where its tables hold these."""
    done = cells.loc[cells["status"] == "ok", "metrics_file"]
    made = TrialSystems if any(_holds_trials(hypotheses[file]) for file in done) else ErrorSystems
    return made(cells, points, hypotheses, split)


def _holds_trials(file) -> bool:
    """Return whether a table has a row for each trial."""
    with Path(file).open("rb") as stream:
        return stream.readline().rstrip(b"\n") == "\t".join(TRIALS).encode()


def key_of(row) -> tuple[str, str, float]:
    """Return what names a point within its task."""
    return row.teacher, row.recipe, row.ratio


def read_errors(file, metric: str, split: str = "test") -> tuple[list, np.ndarray, np.ndarray]:
    """Return (id, reference), errors and reference length of each utterance of a split in a TSV.

    They are counted in the symbols that the task recognises; for `wer` in words, where the task
    writes these apart.
    """

    def parse(rows: list[dict]) -> tuple[list, list]:
        worded = metric == "wer" and rows and WORDS[0] in rows[0]
        errors, length = (WORDS[:1], WORDS[1]) if worded else (KINDS, "length")
        counts = [(sum(int(row[kind]) for kind in errors), int(row[length])) for row in rows]
        return [(row["id"], row["reference"]) for row in rows], counts

    utterances, counts = _rows(file, split, parse)
    if any(errors < 0 or length < 0 for errors, length in counts):
        raise ValueError(f"{file} has counts below 0; evaluate this cell again")
    errors, lengths = np.array(counts, dtype=np.int64).reshape(-1, 2).T
    return utterances, errors, lengths


def read_trials(file, split: str = "test") -> tuple[list, Trials, np.ndarray]:
    """Return (pair, reference), the trials and the score of each trial of a split in a TSV."""

    def parse(rows: list[dict]) -> tuple[list, list, list[float]]:
        sides = ("corpus", "id"), ("other_corpus", "other")
        pairs = [tuple(f"{row[corpus]}/{row[name]}" for corpus, name in sides) for row in rows]
        named = [(" ".join(pair), row["reference"]) for pair, row in zip(pairs, rows, strict=True)]
        return named, pairs, [float(row["score"]) for row in rows]

    named, pairs, scores = _rows(file, split, parse)
    if not np.isfinite(scores).all() or not {reference for _, reference in named} <= {"0", "1"}:
        raise ValueError(f"{file} has scores or references that are none; evaluate this cell again")
    places: dict[str, int] = {}
    numbers = [[places.setdefault(name, len(places)) for name in pair] for pair in pairs]
    first, second = np.array(numbers, dtype=np.int64).reshape(-1, 2).T
    target = np.array([reference == "1" for _, reference in named], dtype=bool)
    return named, Trials(first, second, target), np.array(scores)


def _rows(file, split: str, parse: Callable[[list[dict]], tuple]) -> tuple:
    """Return what `parse` makes of a split's rows; ValueError with the file's name if it cannot."""
    try:
        with Path(file).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        return parse([row for row in rows if row["split"] == split])
    except KeyError as error:
        raise ValueError(f"{file} has no column {error}; evaluate this cell again")
    except (csv.Error, ValueError, TypeError, AttributeError) as error:  # a cut row
        raise ValueError(f"{file} is damaged ({error}); evaluate this cell again")


def _check_score(file, cell, rate: float, split: str) -> None:
    """Raise a ValueError if the rows of a TSV do not give the cell's score."""
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
