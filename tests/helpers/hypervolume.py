"""The hypervolume of any number of axes, written another way than the library's of two."""

import numpy as np

from speech_pareto.reporting.tables.pareto import oriented


def hypervolume(points, reference, better=None) -> float:
    """Return the volume that `points` (points, axes) dominate up to `reference` (axes).

    Points not better than the reference on every axis add nothing.  Fleischer, EMO 2003; here by
    slicing along the last axis, exact and quick for the tens of points of a front.
    """
    points = oriented(points, better)
    reference = oriented([reference], better)[0]
    if points.shape[1] != len(reference):
        raise ValueError(f"points have {points.shape[1]} axes, the reference {len(reference)}")
    points = points[(points < reference).all(axis=1)]
    return float(_volume(points, reference))


def _volume(points: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume between `points`, all better than it, and `reference`."""
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return reference[0] - points.min()
    total = 0.0
    levels = np.unique(points[:, -1])  # sorted
    for low, high in zip(levels, [*levels[1:], reference[-1]], strict=True):
        slab = points[points[:, -1] <= low, :-1]
        total += (high - low) * _volume(slab, reference[:-1])
    return total
