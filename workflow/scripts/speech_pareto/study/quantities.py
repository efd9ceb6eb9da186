"""The numbers by which students are compared: each is one entry of `QUANTITIES`.

Tables, figures, the page and budgets read this file alone: whatever is added here has a column
beside the others, can be limited in a budget and, with an `Axis`, has a front and a figure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from speech_pareto.runtime import formatting

# The suffixes that a number may have, each with its factor; without one it is as in the column.
COUNT = {"k": 1e3, "M": 1e6, "G": 1e9}
SECONDS = {"ms": 1e-3, "s": 1.0}
BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
JOULES = {"mJ": 1e-3, "J": 1.0, "kJ": 1e3}
PERCENT = {"%": 1.0}
PLAIN: dict[str, float] = {}


@dataclass(frozen=True)
class Axis:
    """How a quantity is drawn as the cost of a front; lower is better.

    `label` stands below a figure of one task, where `{speech}` becomes the length of speech that
    was timed; `panel` below the small ones of all tasks; `short` in sentences; `front` in
    front.txt. `sparse` is the column at which models with zeros are drawn, hollow. Without
    `always` the front is drawn only where `figures.costs` asks for it, and is in no other output,
    but `measured` ones are on the page where some student has them.
    """

    label: str
    panel: str
    short: str
    front: str
    sparse: str | None = None
    always: bool = True
    measured: bool = False


@dataclass(frozen=True)
class Quantity:
    """One number of a student, a mean over its seeds.

    `column` is its column in the summary (see `results_table.summarise`), `label` how tables call
    it, `units` its suffixes, `form` how tables print it, `bounds` whether a budget limits it from
    above (`max`) or from below (`min`). Where utterances cost unlike much, it is their mean, and
    `high` the column of their 95th percentile.
    """

    column: str
    label: str
    units: Mapping[str, float]
    form: Callable[[float], str]
    axis: Axis | None = None
    bounds: tuple[str, ...] = ("max",)
    high: str | None = None

    def read(self, text: str) -> float:
        """Return the number that a text such as "3M" or "50 ms" means; ValueError for others."""
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(\S*)\s*", text)
        factors = {"": 1.0, **self.units}
        if not found or found[2] not in factors:
            units = f"{', '.join(self.units)} or " if self.units else ""
            raise ValueError(f"{text!r} is not a number with {units}nothing behind it")
        return float(found[1]) * factors[found[2]]

    @property
    def drawn(self) -> Axis:
        """The axis of a quantity that has one; ValueError for others."""
        if self.axis is None:
            raise ValueError(f"no figure is drawn over {self.label}")
        return self.axis


# What a limit of a budget says.
BOUNDS = {"max": "at most", "min": "at least"}

# label, panel, short, front
SIZE = Axis("parameters of the backbone", "parameters", "parameters", "size", "nonzero_parameters")
MACS = Axis("multiply-accumulates per second of speech", "MACs per second", "MACs", "MACs")
TIME = Axis("time for {speech}", "time", "time", "time")
DISK = Axis("size of the weights on disk", "size on disk", "bytes", "disk")
MEMORY = Axis("peak memory for {speech}", "peak memory", "memory", "memory", always=False)
LATENCY = Axis("algorithmic latency", "latency", "latency", "latency", always=False)
ENERGY = Axis("energy for {speech}", "energy", "energy", "energy", always=False, measured=True)
EXPORTED = Axis(
    "peak memory in onnxruntime for {speech}",
    "exported memory",
    "exported memory",
    "memory",
    always=False,
    measured=True,
)

count, size = formatting.short_count, formatting.short_bytes
# column, label, units, form, axis
QUANTITIES: dict[str, Quantity] = {
    "parameters": Quantity("parameters", "parameters", COUNT, count, SIZE),
    "macs_per_second": Quantity(
        "macs_per_second", "MACs/s", COUNT, count, MACS, high="macs_per_second_p95"
    ),
    "seconds": Quantity(
        "paired_seconds",
        "time",
        SECONDS,
        formatting.short_seconds,
        TIME,
        high="paired_seconds_p95",
    ),
    "rtf": Quantity("rtf", "RTF", PLAIN, formatting.two_digits),
    "bytes": Quantity("bytes", "on disk", BYTES, size, DISK),
    "peak_memory_bytes": Quantity("peak_memory_bytes", "memory", BYTES, size, MEMORY),
    "latency": Quantity("latency", "latency", SECONDS, formatting.short_seconds, LATENCY),
    "energy": Quantity("paired_joules", "energy", JOULES, formatting.short_joules, ENERGY),
    "exported_memory": Quantity("exported_memory_bytes", "exported memory", BYTES, size, EXPORTED),
    "nonzero_parameters": Quantity("nonzero_parameters", "non-zero", COUNT, count),
    "speedup": Quantity("speedup", "speed-up", PLAIN, formatting.times, bounds=("min",)),
    "score": Quantity("score", "score", PERCENT, formatting.one_decimal, bounds=()),  # of test
    "valid_score": Quantity(  # a limit chooses
        "valid_score",
        "validation score",
        PERCENT,
        formatting.one_decimal,
        bounds=("max", "min"),
    ),
    "worst_language_score": Quantity(
        "worst_language_score", "worst language", PERCENT, formatting.one_decimal, bounds=()
    ),
    "ratio": Quantity("ratio", "ratio", PLAIN, formatting.shortest, bounds=("min",)),
}


def axes() -> dict[str, Quantity]:
    """Return the quantities that a front can be drawn over, by name."""
    return {name: quantity for name, quantity in QUANTITIES.items() if quantity.axis}


def main_axes() -> dict[str, Quantity]:
    """Return those whose fronts are in every table and on the page."""
    return {name: quantity for name, quantity in axes().items() if quantity.drawn.always}


def page_axes() -> dict[str, Quantity]:
    """Return those of the page: the main ones, then those that a platform may tell or not."""
    told = {name: quantity for name, quantity in axes().items() if quantity.drawn.measured}
    return main_axes() | told


def limits() -> dict[str, tuple[str, str]]:
    """Return each limit of a budget, such as `max_parameters` -> (`max`, `parameters`)."""
    pairs = [(bound, name) for name, one in QUANTITIES.items() for bound in one.bounds]
    return {f"{bound}_{name}": (bound, name) for bound, name in pairs}
