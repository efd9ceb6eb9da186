"""Limits on what a student may cost, and the best students within them.

The page chooses in page/assets/budget.js; a test runs both on the same limits.
"""

import itertools
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.significance import ALPHA, holm
from speech_pareto.reporting.tables.wording import AS_GOOD, AS_GOOD_TEXT
from speech_pareto.runtime.formatting import aligned, shortest
from speech_pareto.study import quantities
from speech_pareto.study.quantities import BOUNDS, QUANTITIES

TIE = f"paired tests, α = {shortest(ALPHA)} after Holm's correction over the budget"


@dataclass(frozen=True)
class Limit:
    """The most (`bound` is `max`) or the least (`min`) that a quantity may be, in base units.

    With the name of a table of latencies, `on`, it is of what that predicts.
    """

    bound: str
    quantity: str
    value: float
    on: str = ""

    @property
    def key(self) -> str:
        """The name of its number among the values of a point."""
        return f"{self.quantity} on {self.on}" if self.on else self.quantity

    @property
    def label(self) -> str:
        """What its number is, in words: parameters."""
        label = QUANTITIES[self.quantity].label
        return f"predicted {label} on {self.on}" if self.on else label

    def holds(self, value: float | None) -> bool:
        """Return whether a point's value is within the limit; what is not known is not."""
        if value is None:
            return False
        return value <= self.value if self.bound == "max" else value >= self.value

    @property
    def text(self) -> str:
        """The limit in words: parameters at most 3.00 M."""
        form = QUANTITIES[self.quantity].form
        return f"{self.label} {BOUNDS[self.bound]} {form(self.value)}"


def read(texts: Mapping[str, str | None]) -> list[Limit]:
    """Return the limits of a budget as a shell gives them: {"max_parameters": "3M"}.

    What is None is no limit. Raises ValueError for what is no number of its quantity.
    """
    found = []
    for name, (bound, quantity) in quantities.limits().items():
        if (text := texts.get(name)) is not None:
            try:
                value = QUANTITIES[quantity].read(text)
            except ValueError as error:
                raise ValueError(f"--{name.replace('_', '-')}: {error}") from None
            found.append(Limit(bound, quantity, value))
    return found


def choose(study: dict, limits: Iterable[Limit], task: str) -> list[dict]:
    """Return a task's students within the limits that nothing there is shown to beat, best first.

    The first has the best score on validation (see `results_table.summarise`; of equal ones, the
    first by name); the others are those that a
    matched-pairs test, after Holm's correction over all within the limits, cannot tell from it.
    `study`: see `points.study`.  Points with a hole, teachers and controls are left out.
    """
    limits, better = list(limits), study["tasks"][task]["better"]
    inside = [p for p in study["points"] if p["task"] == task and p["kind"] == "student"]
    inside = [point for point in inside if whole(point) and within(point, limits)]
    if not inside:
        return []
    inside.sort(key=lambda point: (SIGNS[better] * point["choice"], point["key"]))
    best, known = inside[0], _tests(study["pairs"].get(task))
    tested = [point for point in inside[1:] if (best["key"], point["key"]) in known]
    corrected = holm([known[best["key"], point["key"]] for point in tested])
    return [best, *(point for point, p in zip(tested, corrected, strict=True) if p >= ALPHA)]


def whole(point: dict) -> bool:
    """Return whether a point has a score and no seed is missing."""
    return point["status"] == "ok" and point["values"]["score"] is not None


def within(point: dict, limits: list[Limit]) -> bool:
    """Return whether a point is within all limits."""
    return all(limit.holds(point["values"][limit.key]) for limit in limits)


def _tests(pairs: dict | None) -> dict[tuple[str, str], float]:
    """Return (key, other key) in both orders -> p."""
    if not pairs:
        return {}
    found = dict(zip(itertools.combinations(pairs["keys"], 2), pairs["p"], strict=True))
    return found | {(other, one): p for (one, other), p in found.items()}


def text(study: dict, limits: list[Limit], task: str, width: int = 100) -> str:
    """Return the answer for a task as text of at most `width` columns."""
    facts = study["tasks"][task]
    asked = ", ".join(limit.text for limit in limits) or "no limits"
    lines = [*textwrap.wrap(f"{task}: {facts['heading']}; {asked}", width), ""]
    chosen = choose(study, limits, task)
    if chosen:
        named = len({p["teacher"] for p in study["points"] if p["kind"] == "student"}) > 1
        lines += aligned(_cells(chosen, facts, named, limits), width)
        notes = [f"tie: not told from the best ({TIE})"] * (len(chosen) > 1)
        notes += [f"{AS_GOOD}: {AS_GOOD_TEXT}"] * any(
            AS_GOOD in x["text"]["difference"] for x in chosen
        )
        for note in notes:
            lines += ["", *textwrap.wrap(f"  {note}", width)]
    else:
        lines += [f"  No student is within this budget.{_nearest_miss(study, limits, task)}"]
    for point in study["points"]:
        if point["task"] == task and point["kind"] == "teacher" and whole(point):
            inside = "within" if within(point, limits) else "not within"
            score = f"{point['text']['score']} %"
            lines += ["", f"  The teacher ({point['teacher']}), {inside} this budget: {score}"]
    return "\n".join(lines) + "\n"


def _cells(chosen: list[dict], facts: dict, named: bool, limits: list[Limit]) -> list[list[str]]:
    """Return header and rows of an answer; `named`: with the teacher of each student."""
    columns = ["ratio", "parameters", "macs_per_second", "seconds", "rtf", "bytes"]
    labels = {name: QUANTITIES[name].label for name in columns}
    labels |= {"seconds": facts["take"] or labels["seconds"], "bytes": "bytes"}
    asked = {limit.key: limit for limit in limits if limit.key not in columns}
    labels |= {key: "predicted" if one.on else QUANTITIES[key].label for key, one in asked.items()}
    header = [*["teacher"] * named, "recipe", *labels.values()]
    rows = [[*header, f"{facts['short']} %", "against teacher", ""]]
    for i, point in enumerate(chosen):
        texts = [point["text"][column] for column in [*labels, "score", "difference"]]
        names = [*[point["teacher"]] * named, point["recipe"]]
        rows.append([*names, *texts, "tie" if i else "best"])
    return rows


def _nearest_miss(study: dict, limits: list[Limit], task: str) -> str:
    """Return the best that the students reach in each limited quantity."""
    students = [p for p in study["points"] if p["task"] == task and p["kind"] == "student"]
    found = []
    for limit in limits:
        name = limit.key
        known = [p for p in students if whole(p) and p["values"][name] is not None]
        if known:
            end = (min if limit.bound == "max" else max)(known, key=lambda p: p["values"][name])
            found.append(f"{limit.label} {end['text'][name]}")
    return f" The farthest any goes: {', '.join(found)}." if found else ""
