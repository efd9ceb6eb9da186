"""Where a figure's labels go: beside their points, off each other, the points and the lines."""

import itertools
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox


def place(figure, axes, labels, marks, paths) -> None:
    """Write each label beside its point where it covers least, with a thin leader if far.

    labels: (text, x, y, colour, bold); marks: (x, y, radius in points); paths: lists of (x, y).
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    scale = figure.dpi / 72  # pixels in a point
    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    dots = [(*to_pixels((x, y)), radius * scale) for x, y, radius in marks]
    lines = np.concatenate([_along(to_pixels(path), 3.0) for path in paths])
    frame = axes.get_window_extent()
    taken = []
    # from the outside in: labels of the cheap end have the fewest places to go
    for text, x, y, colour, bold in sorted(labels, key=lambda label: (label[1], label[2])):
        artist = axes.text(
            x,
            y,
            text,
            color=colour,
            fontsize=8.5,
            linespacing=1.15,
            zorder=8,
            fontweight="bold" if bold else "normal",
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=2, foreground="white", alpha=0.85)],
        )
        size = artist.get_window_extent(renderer)
        at = to_pixels((x, y))
        best: Any = None
        least = np.inf
        for cost, far, dx, dy in _around(size.width, size.height, scale):
            corner = at[0] + dx - size.width / 2, at[1] + dy - size.height / 2
            box = Bbox.from_bounds(*corner, size.width, size.height)
            cost += 60 * sum((_overlap(box, other) for other in taken), 0.0)
            cost += 30 * sum(_hits(box, *dot) for dot in dots)
            cost += 0.5 * _inside(box, lines)
            cost += 200 * (box.x0 < frame.x0 or box.x1 > frame.x1 + 4)
            cost += 200 * (box.y0 < frame.y0 + 2 or box.y1 > frame.y1 - 2)
            if cost < least - 1e-9:
                best, least = (box, far), cost
        box, far = best
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        artist.set_position(to_data(middle))
        taken.append(box)
        if far:
            edge = (np.clip(at[0], box.x0, box.x1), np.clip(at[1], box.y0, box.y1))
            ends = zip(to_data(edge), (x, y), strict=True)
            axes.plot(*ends, color=colour, linewidth=0.6, zorder=2)


def _around(width: float, height: float, scale: float):
    """Yield (dislike, far, dx, dy) of places for a label's centre, left of its point first."""
    sides = (
        (0.0, -1, 0),
        (0.3, -1, 0.6),
        (0.3, -1, -0.6),
        (0.8, 1, 0),
        (0.7, 0, 1),
        (0.7, 0, -1),
        (0.6, -0.6, 1),
        (0.6, -0.6, -1),
        (0.9, 1, 0.6),
        (0.9, 1, -0.6),
    )
    for distance in (9, 13, 20, 30, 42, 56):
        for dislike, x, y in sides:
            dx, dy = x * (width / 2 + distance * scale), y * (height / 2 + distance * scale)
            yield dislike + 0.12 * (distance - 9), distance > 20, dx, dy


def _along(path, step: float) -> np.ndarray:
    """Return points (n, 2) every `step` pixels along a path."""
    pieces = [np.asarray(path[:1], dtype=float)]
    for a, b in itertools.pairwise(np.asarray(path, dtype=float)):
        pieces.append(np.linspace(a, b, max(2, int(np.hypot(*(b - a)) / step))))
    return np.concatenate(pieces)


def _overlap(a: Bbox, b: Bbox) -> float:
    """Return the share of the smaller box that the two have in common, more than 0 if touching."""
    both = Bbox.intersection(a.padded(1.5), b.padded(1.5))
    return 0.0 if both is None else 0.2 + both.width * both.height / (a.width * a.height)


def _hits(box: Bbox, x: float, y: float, radius: float) -> bool:
    """Return whether a dot touches a box."""
    dx, dy = max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1)
    return dx * dx + dy * dy < radius * radius


def _inside(box: Bbox, points: np.ndarray) -> int:
    """Return how many points (n, 2) lie in a box."""
    x, y = points[:, 0], points[:, 1]
    return int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())
