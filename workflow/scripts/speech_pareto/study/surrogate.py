"""What a search expects of candidates that it has not run: a Gaussian process over all rungs.

The cost of a candidate is known, so only the error is modelled, as log(1 + error in percent): its
spread grows with the error. Two candidates are alike by their methods, the settings and the costs
that are known of them, and by the steps of their fine-tuning. Rasmussen & Williams 2006, as
scikit-learn has it: a Matérn kernel (5/2) with one length, and noise, both by maximum likelihood.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

ALIKE = (
    0.5  # how far apart two methods, or rungs a factor of three apart, are; ranges have length 1
)
STARTS = 4  # of the maximisation of the likelihood
INTERVAL = 1.96  # standard deviations on either side that hold 95 %


class Surrogate:
    """A model of the error of `pool` after so many steps of fine-tuning."""

    def __init__(self, pool: Sequence[Mapping], steps: Sequence[int]) -> None:
        self.features, self.steps = _features(pool), steps
        self.kernel = None

    def _rows(self, points: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return the features of (candidate, rung), the rung's among them."""
        rungs = [ALIKE * math.log(self.steps[rung] / self.steps[-1], 3) for _, rung in points]
        return np.column_stack([self.features[[one for one, _ in points]], rungs])

    def fit(self, errors: Mapping[tuple[int, int], float]) -> None:
        """Learn from the errors, in percent, of (candidate, rung).

        The first call chooses the kernel's numbers, later ones keep them.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        first = self.kernel is None
        start = ConstantKernel(1.0, (0.05, 20)) * Matern(1.0, (0.1, 10), nu=2.5)
        start += WhiteKernel(0.01, (1e-4, 1.0))
        self.process = GaussianProcessRegressor(
            start if first else self.kernel,
            optimizer="fmin_l_bfgs_b" if first else None,
            n_restarts_optimizer=STARTS,
            normalize_y=True,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a number at its limit
            self.process.fit(self._rows(list(errors)), np.log1p(list(errors.values())))
        self.kernel = self.process.kernel_

    def predict(self, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of log(1 + error) of candidates after all steps."""
        top = len(self.steps) - 1
        return self.process.predict(self._rows([(one, top) for one in chosen]), return_std=True)

    def intervals(self, chosen: Sequence[int]) -> list[dict[str, float]]:
        """Return the error that is expected of candidates, the median, and what holds 95 %."""
        mean, deviation = self.predict(chosen)
        bounds = {"error": mean, "low": mean - INTERVAL * deviation}
        bounds["high"] = mean + INTERVAL * deviation
        columns = {name: np.expm1(np.maximum(values, 0.0)) for name, values in bounds.items()}
        return [
            {name: round(float(values[row]), 2) for name, values in columns.items()}
            for row in range(len(chosen))
        ]


def gains(
    costs: np.ndarray, mean: np.ndarray, deviation: np.ndarray, front: np.ndarray, reference
) -> np.ndarray:
    """Return the hypervolume that candidates are expected to add to a front.

    As the `costs` (candidates,) are known, that is an expected improvement in the error integrated
    over all costs from the candidate's own on: the front (points, 2) of cost and error is a stair,
    and on each of its steps the improvement has the closed form of Jones et al. 1998, here of an
    error whose log(1 + error) is normal, with `mean` and `deviation`. Emmerich et al. 2006 have the
    integral for two unknown objectives.
    """
    dearest, worst = reference
    front = front[front[:, 0].argsort(kind="stable")] if len(front) else np.empty((0, 2))
    left = np.concatenate([[-np.inf], front[:, 0]])
    right = np.concatenate([front[:, 0], [np.inf]])
    best = np.minimum.accumulate(np.concatenate([[worst], front[:, 1]]))
    widths = np.minimum(right, dearest) - np.maximum(left, costs[:, None])  # (candidates, steps)
    improved = improvements(mean[:, None], deviation[:, None], best[None])
    return (np.maximum(widths, 0.0) * improved).sum(axis=1)


def improvements(mean: np.ndarray, deviation: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return E[max(0, best - error)], where log(1 + error) is normal."""
    from scipy.special import ndtr

    deviation = np.maximum(deviation, 1e-9)
    place = (np.log1p(best) - mean) / deviation
    below = np.exp(mean + deviation**2 / 2) * ndtr(place - deviation)
    return np.maximum((1 + best) * ndtr(place) - below, 0.0)


def _features(pool: Sequence[Mapping]) -> np.ndarray:
    """Return what is known of each candidate, in ranges of length 1 or less (candidates, features).

    The methods of its recipe, the values that were chosen, its training, its costs.
    """
    methods = sorted({name for one in pool for name in one["methods"]})
    columns = [[ALIKE * (name in one["methods"]) for one in pool] for name in methods]
    columns.append(_scaled([math.log1p(one["training"]) for one in pool]))
    for cost in ("parameters", "bytes", "macs_per_second"):
        columns.append(_scaled([math.log(one[cost]) for one in pool]))
    for name in sorted({name for one in pool for name in one["chosen"]}):
        values = [one["chosen"].get(name) for one in pool]
        if all(isinstance(value, int | float) for value in values if value is not None):
            columns.append(_scaled(values))
        else:
            for kind in sorted({str(value) for value in values}):
                columns.append([ALIKE * (str(value) == kind) for value in values])
    return np.array(columns, dtype=float).T


def _scaled(values: Sequence[float | None]) -> list[float]:
    """Return numbers between 0 and 1, those that are missing in the middle."""
    known = [value for value in values if value is not None]
    low, width = min(known), (max(known) - min(known)) or 1.0
    return [0.5 if value is None else (value - low) / width for value in values]
