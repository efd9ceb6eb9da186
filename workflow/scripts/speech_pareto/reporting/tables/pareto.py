"""Which points nobody beats, and how much of the plane they hold."""

from collections.abc import Sequence

import numpy as np

SIGNS = {"lower": 1.0, "higher": -1.0}


def oriented(points, better: Sequence[str] | None = None) -> np.ndarray:
    """Return `points` (points, axes) as floats of which lower is better on every axis.

    `better` holds "lower" or "higher" for each axis, by default "lower".  Holes (NaN) are a
    ValueError: drop them before, knowingly.
    """
    points = np.asarray(points, dtype=float)
    if points.size == 0:
        points = points.reshape(0, len(better) if better else 2)
    if points.ndim != 2:
        raise ValueError(f"points must be (points, axes), not of shape {points.shape}")
    if np.isnan(points).any():
        raise ValueError("points with holes (NaN) cannot be compared")
    if better is None:
        return points
    if len(better) != points.shape[1] or not set(better) <= set(SIGNS):
        raise ValueError(f"`better` needs 'lower' or 'higher' for each axis, not {list(better)}")
    return points * [SIGNS[way] for way in better]


def non_dominated(
    points, better: Sequence[str] | None = None, slack: Sequence[float] | None = None
) -> np.ndarray:
    """Return for each point (points, axes) whether it is on the front.

    One point beats another when it is nowhere worse and somewhere better, by more than the
    `slack` of that axis (by default 0), below which a difference counts as none.  Equal points
    don't beat each other: ties stay in together.
    """
    points = oriented(points, better)
    slack = np.zeros(points.shape[1]) if slack is None else np.asarray(slack, dtype=float)
    # (beating, beaten, axes) -> (beating, beaten)
    nowhere_worse = (points[:, None] <= points[None] + slack).all(axis=2)
    somewhere_better = (points[:, None] < points[None] - slack).any(axis=2)
    return ~(nowhere_worse & somewhere_better).any(axis=0)


def areas(costs, scores, reference) -> np.ndarray:
    """Return the hypervolume (draws,) of points with the same `costs` (points,) in every draw.

    That is the area that the points dominate up to `reference` (cost, score): Fleischer, EMO 2003.
    `scores` (draws, points); lower is better on both axes.
    """
    costs, scores = np.asarray(costs, dtype=float), np.asarray(scores, dtype=float)
    order = costs.argsort(kind="stable")
    costs, scores = np.minimum(costs[order], reference[0]), scores[:, order]
    best = np.minimum.accumulate(scores, axis=1)  # to be had for at most each cost
    widths = np.diff(costs, append=reference[0])
    return (np.maximum(reference[1] - best, 0) * widths).sum(axis=1)
