"""The numbers by which students are compared: each is one entry of `QUANTITIES`.

Tables, figures, the page and budgets read this file alone: whatever is added here has a column
beside the others, can be limited in a budget and, with an `Axis`, has a front and a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from speech_pareto.runtime import formatting


@dataclass(frozen=True)
class Dimension:
    """The units of a quantity in a budget, each with the factor to the unit of its column.

    With `alone` a unit may stand without a name, as in "<= 20 ms": it then limits the first
    quantity of this dimension.
    """

    units: Mapping[str, float]
    alone: bool = False


COUNT = Dimension({"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "million": 1e6, "billion": 1e9})
SECONDS = Dimension({"ms": 1e-3, "s": 1.0}, alone=True)
BYTES = Dimension({"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}, alone=True)
TIMES = Dimension({"": 1.0, "x": 1.0, "×": 1.0})
SHARE = Dimension({"": 1.0, "%": 0.01})
PERCENT = Dimension({"": 1.0, "%": 1.0})


@dataclass(frozen=True)
class Axis:
    """How a quantity is drawn as the cost of a front; lower is better.

    `label` stands below a figure of one task, where `{speech}` becomes the length of speech that
    was timed; `panel` below the small ones of all tasks; `short` in sentences; `front` in
    front.txt. `sparse` is the column at which models with zeros are drawn, hollow. Without
    `always` the front is drawn only where `figures.costs` asks for it, and is in no other output.
    """

    label: str
    panel: str
    short: str
    front: str
    sparse: str | None = None
    always: bool = True


@dataclass(frozen=True)
class Quantity:
    """One number of a student, a mean over its seeds.

    `column` is its column in the summary (see `results_table.summarise`), `label` how tables call
    it, `form` how they print it, `names` what a budget may call it, of which the first is shown.
    """

    column: str
    label: str
    dimension: Dimension
    form: Callable[[float], str]
    names: tuple[str, ...]
    axis: Axis | None = None

    @property
    def drawn(self) -> Axis:
        """The axis of a quantity that has one; ValueError for others."""
        if self.axis is None:
            raise ValueError(f"no figure is drawn over {self.label}")
        return self.axis


QUANTITIES: dict[str, Quantity] = {
    "parameters": Quantity(
        "parameters",
        "parameters",
        COUNT,
        formatting.short_count,
        ("parameters", "parameter", "params", "weights"),
        Axis(
            label="parameters of the backbone",
            panel="parameters",
            short="parameters",
            front="size",
            sparse="nonzero_parameters",
        ),
    ),
    "macs_per_second": Quantity(
        "macs_per_second",
        "MACs/s",
        COUNT,
        formatting.short_count,
        ("MACs/s", "MACs", "macs_per_second", "multiply-accumulates"),
        Axis(
            label="multiply-accumulates per second of speech",
            panel="MACs per second",
            short="MACs",
            front="MACs",
        ),
    ),
    "seconds": Quantity(
        "paired_seconds",
        "time",
        SECONDS,
        formatting.short_seconds,
        ("time", "seconds", "latency", "wall clock"),
        Axis(label="time for {speech}", panel="time", short="time", front="time"),
    ),
    "rtf": Quantity(
        "rtf", "RTF", SHARE, formatting.two_digits, ("RTF", "real-time factor", "real time factor")
    ),
    "bytes": Quantity(
        "bytes",
        "on disk",
        BYTES,
        formatting.short_bytes,
        ("bytes", "size", "disk", "file size"),
        Axis(
            label="size of the weights on disk",
            panel="size on disk",
            short="bytes",
            front="disk",
            always=False,
        ),
    ),
    "peak_memory_bytes": Quantity(
        "peak_memory_bytes",
        "memory",
        BYTES,
        formatting.short_bytes,
        ("memory", "peak memory", "RAM", "peak_memory_bytes"),
        Axis(
            label="peak memory for {speech}",
            panel="peak memory",
            short="memory",
            front="memory",
            always=False,
        ),
    ),
    "nonzero_parameters": Quantity(
        "nonzero_parameters",
        "non-zero",
        COUNT,
        formatting.short_count,
        ("non-zero", "nonzero", "non-zero parameters", "nonzero_parameters"),
    ),
    "speedup": Quantity(
        "speedup", "speed-up", TIMES, formatting.times, ("speed-up", "speedup", "faster")
    ),
    "score": Quantity(
        "score",
        "score",
        PERCENT,
        formatting.one_decimal,
        ("score", "PER", "CER", "WER", "error rate", "errors", "accuracy"),
    ),
    "ratio": Quantity(
        "ratio", "ratio", SHARE, formatting.shortest, ("ratio", "sparsity", "removed")
    ),
}


def axes() -> dict[str, Quantity]:
    """Return the quantities that a front can be drawn over, by name."""
    return {name: quantity for name, quantity in QUANTITIES.items() if quantity.axis}


def main_axes() -> dict[str, Quantity]:
    """Return those whose fronts are in every table and on the page."""
    return {name: quantity for name, quantity in axes().items() if quantity.drawn.always}
