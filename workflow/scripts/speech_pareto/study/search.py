"""A search for a front in rounds, each of which says what to run next from what is known by then.

Multi-objective asynchronous successive halving (Schmucker et al., arXiv 2106.12639): of the
candidates that a rung has scored, the best share goes on to the next, ranked by non-dominated
sorting over cost and validation error and then by the hypervolume that they alone hold. What is
left of a round are new candidates: at first as the pool has them, then those that are expected to
add the most hypervolume per second (`surrogate`), each as if those before it had come out as
expected (the kriging believer of Ginsbourger et al. 2010). All is a function of the results, so
that a search that was killed, or is run again, goes the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from speech_pareto.runtime.extras import extra
from speech_pareto.study.surrogate import Surrogate, gains

with extra("workflow"):
    import moocore

WORST = 100.0  # error in percent at the reference point, whose cost is the teacher's
GAIN = 0.1  # percent of hypervolume: a round that adds less stands still

Asked = tuple[int, int]  # (number of the candidate in the pool, rung)


@dataclass(frozen=True)
class Search:
    """What a search knows before it begins.

    `pool` holds the candidates, each with its `costs`, `methods`, `chosen` values and `training`
    steps; `prices` the foretold seconds of each by rung, beside the rung below; `steps` those of
    the rungs. `dearest` is the teacher's cost; `seconds` what may be spent.
    """

    pool: Sequence[Mapping]
    prices: Sequence[Sequence[float]]
    steps: Sequence[int]
    cost: str
    dearest: float
    seconds: float
    keep: float = 0.5
    at_once: int = 6
    patience: int = 3
    most: int = 6
    costs: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        costs = np.array([one[self.cost] for one in self.pool], dtype=float)
        object.__setattr__(self, "costs", costs)

    @property
    def reference(self) -> tuple[float, float]:
        """Cost and error from which hypervolumes are measured."""
        return self.dearest, WORST

    def points(self, errors: Mapping[Asked, float | None]) -> np.ndarray:
        """Return the cost and the error of what has one (points, 2)."""
        rows = [(self.costs[one], error) for (one, _), error in errors.items() if error is not None]
        return np.array(rows, dtype=float).reshape(-1, 2)

    def hypervolume(self, errors: Mapping[Asked, float | None]) -> float:
        """Return what results hold, in percent of all up to the reference point."""
        points, (dearest, worst) = self.points(errors), self.reference
        held = moocore.hypervolume(points, ref=self.reference) if len(points) else 0.0
        return 100 * float(held) / (dearest * worst)

    def spent(self, asked: Sequence[Asked]) -> float:
        """Return the foretold seconds of what was asked for."""
        return sum(self.prices[one][rung] for one, rung in asked)

    def promoted(self, errors: Mapping[Asked, float | None]) -> list[Asked]:
        """Return which candidates go on to the next rung, from the highest rung down."""
        found = []
        for rung in reversed(range(len(self.steps) - 1)):
            done = [one for (one, at), error in errors.items() if at == rung]
            scored = [one for one in done if errors[one, rung] is not None]
            quota = int(self.keep * len(done))
            points = self.points({(one, rung): errors[one, rung] for one in scored})
            best = [scored[row] for row in _ranked(points, self.reference)[:quota]]
            found += [(one, rung + 1) for one in best if (one, rung + 1) not in errors]
        return found

    def proposed(self, errors: Mapping[Asked, float | None], number: int) -> list[Asked]:
        """Return new candidates for the lowest rung."""
        tried = {one for one, _ in errors}
        new = [one for one in range(len(self.pool)) if one not in tried]
        known = {key: error for key, error in errors.items() if error is not None}
        if len(known) < self.at_once:  # too little to learn from
            return [(one, 0) for one in new[:number]]
        model, top, found = Surrogate(self.pool, self.steps), len(self.steps) - 1, []
        while new and len(found) < number:
            model.fit(known)
            there = sorted({one for one, _ in known})
            front = np.column_stack([self.costs[there], np.expm1(model.predict(there)[0])])
            expected = gains(self.costs[new], *model.predict(new), front, self.reference)
            each = np.array([self.prices[one][0] for one in new])
            best = new.pop(int(np.argmax(expected / each)))
            known[best, top] = float(np.expm1(model.predict([best])[0][0]))
            found.append((best, 0))
        return found

    def next(self, errors: Mapping[Asked, float | None], volumes: Sequence[float]) -> dict:
        """Return what to run next, `ask`, and why the search has `ended`, if it has.

        `volumes` are the hypervolumes after each round, this one's last.
        """
        left = self.seconds - self.spent(list(errors))
        before = volumes[-1 - self.patience] if len(volumes) > self.patience else None
        if before is not None and volumes[-1] - before < GAIN:
            return {"ask": [], "ended": "still"}
        wanted = self.promoted(errors)[: self.at_once]
        wanted += self.proposed(errors, self.at_once - len(wanted))
        ask = []
        for one, rung in wanted:
            if self.prices[one][rung] <= left:
                ask.append((one, rung))
                left -= self.prices[one][rung]
        ended = None if ask else "budget" if wanted else "pool"
        return {"ask": ask, "ended": ended}

    def latest(self, errors: Mapping[Asked, float | None]) -> dict[int, float]:
        """Return the error of each candidate at its highest rung."""
        return {one: error for (one, _), error in sorted(errors.items()) if error is not None}

    def front(self, errors: Mapping[Asked, float | None]) -> list[int]:
        """Return the candidates that none beats, by their highest rungs; the cheapest first.

        What is no cheaper than the teacher is none. Of more than `most`, those that hold the most
        hypervolume together, as far as dropping one after the other tells.
        """
        latest = self.latest(errors)
        inside = [one for one in latest if self.costs[one] < self.dearest and latest[one] < WORST]
        numbers = np.array(sorted(inside), dtype=int)
        points = np.array([(self.costs[one], latest[one]) for one in numbers]).reshape(-1, 2)
        kept = moocore.is_nondominated(points) if len(points) else np.zeros(0, dtype=bool)
        numbers, points = numbers[kept], points[kept]
        while len(numbers) > self.most:
            least = int(np.argmin(moocore.hv_contributions(points, ref=self.reference)))
            numbers, points = np.delete(numbers, least), np.delete(points, least, axis=0)
        return [int(one) for one in numbers[points[:, 0].argsort(kind="stable")]]

    def predictions(self, errors: Mapping[Asked, float | None]) -> list[dict[str, float]]:
        """Return of each candidate the error that is expected after all steps, with 95 %."""
        known = {key: error for key, error in errors.items() if error is not None}
        if len(known) < 2:
            return []
        model = Surrogate(self.pool, self.steps)
        model.fit(known)
        return model.intervals(range(len(self.pool)))


def _ranked(points: np.ndarray, reference: tuple[float, float]) -> list[int]:
    """Return points from the best on: by fronts, and in a front by the volume of each alone."""
    if not len(points):
        return []
    ranks = moocore.pareto_rank(points)
    alone = np.zeros(len(points))
    for rank in set(ranks.tolist()):
        own = ranks == rank
        alone[own] = moocore.hv_contributions(points[own], ref=reference)
    return np.lexsort([-alone, ranks]).tolist()
