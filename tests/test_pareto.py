"""The non-dominated set and its volume, against plain definitions."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from helpers.hypervolume import hypervolume
from speech_pareto.reporting.tables.pareto import areas, non_dominated


def beats(a, b):
    """Return whether `a` dominates `b`, by the words of the definition."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def volume_by_inclusion_exclusion(points, reference):
    """Return the exact volume of a union of boxes: sums over all subsets, no slicing."""
    points = [p for p in points if all(x < r for x, r in zip(p, reference, strict=True))]
    total = Fraction(0)
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            corner = [max(axis) for axis in zip(*subset, strict=True)]
            box = Fraction(1)
            for x, r in zip(corner, reference, strict=True):
                box *= Fraction(int(r)) - Fraction(int(x))
            total += (-1) ** (size + 1) * box
    return total


@pytest.mark.parametrize("axes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(8))
def test_against_brute_force(axes, seed):
    # few integer levels, so that ties and equal points are many
    points = np.random.default_rng(seed).integers(0, 6, size=(9, axes))
    expected = [not any(beats(q, p) for q in points.tolist()) for p in points.tolist()]
    assert non_dominated(points).tolist() == expected
    reference = [5] * axes
    volume = volume_by_inclusion_exclusion(points.tolist(), reference)
    assert hypervolume(points, reference) == pytest.approx(float(volume))
    kept = points[np.array(expected)]
    assert hypervolume(kept, reference) == pytest.approx(float(volume))


@pytest.mark.parametrize("seed", range(8))
def test_many_draws_at_once(seed):
    random = np.random.default_rng(seed)
    costs, scores = random.integers(0, 8, size=6), random.integers(0, 8, size=(5, 6))
    expected = [hypervolume(np.c_[costs, draw], (6, 5)) for draw in scores]
    assert areas(costs, scores, (6, 5)) == pytest.approx(expected)


def test_ties():
    points = [(1, 2), (1, 2), (1, 3), (2, 2), (0, 9)]
    assert non_dominated(points).tolist() == [True, True, False, False, True]


@pytest.mark.parametrize("seed", range(8))
def test_slack_against_its_definition(seed):
    points = np.random.default_rng(seed).integers(0, 9, size=(12, 2))
    slack = (2, 0)

    def beats_by_slack(a, b):
        nowhere_worse = a[0] <= b[0] + 2 and a[1] <= b[1]
        return nowhere_worse and (a[0] < b[0] - 2 or a[1] < b[1])

    expected = [not any(beats_by_slack(q, p) for q in points.tolist()) for p in points.tolist()]
    found = non_dominated(points, slack=slack)
    assert found.tolist() == expected
    assert found.any()  # somebody always wins


def test_a_hair_cheaper_is_not_on_the_front():
    points = [(977, 47.5), (968, 73.7), (500, 80.0)]
    assert non_dominated(points).tolist() == [True, True, True]
    assert non_dominated(points, slack=(78, 0)).tolist() == [True, False, True]


def test_direction_is_data():
    points = [(1, 90), (2, 95), (2, 91), (3, 95)]  # size, accuracy
    better = ("lower", "higher")
    assert non_dominated(points, better).tolist() == [True, True, False, False]
    assert hypervolume(points, (4, 80), better) == 3 * 10 + 2 * 5


def test_order_does_not_matter():
    points = np.random.default_rng(0).normal(size=(40, 3))
    order = np.random.default_rng(1).permutation(40)
    assert (non_dominated(points)[order] == non_dominated(points[order])).all()
    assert hypervolume(points, [3] * 3) == pytest.approx(hypervolume(points[order], [3] * 3))


def test_nothing():
    assert non_dominated([]).tolist() == []
    assert hypervolume([], (1, 1)) == 0
    assert hypervolume([(1, 0)], (1, 1)) == 0  # on the reference's edge


@pytest.mark.parametrize(
    ("points", "better", "message"),
    [
        ([(1, float("nan"))], None, "holes"),
        ([(1, 2)], ("lower",), "each axis"),
        ([(1, 2)], ("lower", "up"), "each axis"),
        ([1, 2], None, "shape"),
    ],
)
def test_plain_errors(points, better, message):
    with pytest.raises(ValueError, match=message):
        non_dominated(points, better)


def test_axes_must_agree():
    with pytest.raises(ValueError, match="2 axes, the reference 3"):
        hypervolume([(1, 2)], (3, 3, 3))
