"""Error rates of detection: of trials, each a pair of utterances and a score.

EER     the error rate where misses and false alarms are equal
minDCF  the least over thresholds of (p C_miss P_miss + (1 - p) C_fa P_fa) / min(p, 1 - p), with
        C_miss = C_fa = 1: the cost of NIST's evaluations, over that of knowing nothing
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DIGITS = 6  # of scores in tables: what is computed from these comes out the same
RESAMPLES, SEED = 2000, 1
MEMORY = 1 << 21  # trials of all draws that are counted at a time


class Trials(NamedTuple):
    """Pairs of utterances: places of both in a list (trials,), and whether they are one voice."""

    first: np.ndarray
    second: np.ndarray
    target: np.ndarray


class Curve(NamedTuple):
    """Error rates over thresholds: a trial is accepted if its score is at least the threshold.

    `thresholds` (n,) rise; the last one accepts nothing. `misses` and `alarms` (..., n) are shares
    of the target and of the non-target trials.
    """

    thresholds: np.ndarray
    misses: np.ndarray
    alarms: np.ndarray

    def eer(self) -> np.ndarray:
        """Return the equal error rate (...), on the line between the thresholds around it."""
        gap = self.alarms - self.misses  # falls from 1 to -1
        after = np.argmax(gap <= 0, axis=-1)[..., None]
        high, low = (np.take_along_axis(gap, place, -1) for place in (after - 1, after))
        begin, end = (np.take_along_axis(self.alarms, place, -1) for place in (after - 1, after))
        return (begin + high / (high - low) * (end - begin))[..., 0]

    def min_dcf(self, p_target: float) -> np.ndarray:
        """Return the least normalised cost of detection (...), 1 at most."""
        cost = p_target * self.misses + (1 - p_target) * self.alarms
        return cost.min(-1) / min(p_target, 1 - p_target)

    def threshold(self) -> float:
        """Return the first threshold at which misses are not rarer than false alarms.

        It lies in the middle between two scores, so that rounding turns no decision.
        """
        after = int(np.argmax(self.alarms <= self.misses))
        around = self.thresholds[max(0, after - 1) : after + 1]
        finite = around[np.isfinite(around)]
        return round(float(finite.mean()), DIGITS)


def curve(scores: np.ndarray, target: np.ndarray, times: np.ndarray | None = None) -> Curve:
    """Return the error rates of trials (trials,), each counted `times` (..., trials), else once."""
    order = np.argsort(scores, kind="stable")
    scores, target = scores[order], target[order]
    times = np.ones(len(scores)) if times is None else times[..., order]
    first = np.flatnonzero(np.diff(scores, prepend=-np.inf))  # where a new score begins
    rates = []
    for sort in (target, ~target):
        below = np.cumsum(times * sort, axis=-1)
        total = below[..., -1:]
        below = np.concatenate([np.zeros_like(total), below], -1)  # below[i]: before trial i
        rates.append(np.concatenate([below[..., first], total], -1) / total)
    return Curve(np.append(scores[first], np.inf), rates[0], 1 - rates[1])


def draws(trials: Trials, count: int, random: np.random.Generator) -> np.ndarray:
    """Return how often each trial counts (count, trials) in draws of utterances with replacement.

    A trial counts as often as its two utterances were drawn, multiplied: Owen, Annals of Applied
    Statistics 2007 ("pigeonhole bootstrap"). Trials that share an utterance so rise and fall
    together, which a draw of single trials ignores: its intervals are too narrow. Still ignored is
    that one speaker says many of the utterances, and that training has a seed. Where a draw leaves
    no target or no non-target trial, all trials count once.
    """
    first, second, target = trials
    names, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    one, other = places.reshape(2, -1)
    drawn = random.integers(len(names), size=(count, len(names)))
    drawn += len(names) * np.arange(count)[:, None]
    times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(count, len(names))
    weights = (times[:, one] * times[:, other]).astype(float)
    empty = (weights[:, target].sum(1) == 0) | (weights[:, ~target].sum(1) == 0)
    weights[empty] = 1.0
    return weights


def resampled(
    trials: Trials,
    systems: Sequence[np.ndarray],
    p_targets: Sequence[float] = (),
    chunk: int | None = None,
) -> np.ndarray:
    """Return EER and each minDCF (RESAMPLES, systems, 1 + p_targets) over `draws`.

    `systems` hold scores (trials,) each. All see the same draws, so that two may be subtracted.
    """
    chunk = chunk or max(1, MEMORY // max(1, len(trials.target)))
    random = np.random.default_rng(SEED)
    values = np.empty((RESAMPLES, len(systems), 1 + len(p_targets)))
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        times = draws(trials, size, random)
        for place, scores in enumerate(systems):
            found = curve(scores, trials.target, times)
            rates = [found.eer(), *(found.min_dcf(p) for p in p_targets)]
            values[start : start + size, place] = np.stack(rates, -1)
    return values


def metrics(trials: Trials, scores: np.ndarray, p_targets: Sequence[float]) -> dict[str, float]:
    """Return EER in percent and each minDCF, with bounds of 95 % of the `draws` of utterances."""
    found = curve(scores, trials.target)
    names = ["eer", *(f"min_dcf_{p:g}" for p in p_targets)]
    values = [found.eer(), *(found.min_dcf(p) for p in p_targets)]
    drawn = resampled(trials, [scores], p_targets)[:, 0]
    bounds = np.quantile(drawn, (0.025, 0.975), axis=0)
    numbers: dict[str, float] = {}
    for name, value, low, high in zip(names, values, *bounds, strict=True):
        scale = 100 if name == "eer" else 1
        told = {name: value, f"{name}_low": low, f"{name}_high": high}
        numbers |= {key: round(float(scale * number), 4) for key, number in told.items()}
    return numbers
