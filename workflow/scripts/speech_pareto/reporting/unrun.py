"""Candidates of a search that were not run: what is expected of them, within a budget."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from speech_pareto.reporting import budget
from speech_pareto.reporting.budget import Limit
from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.runtime.formatting import one_decimal
from speech_pareto.runtime.result import read_json
from speech_pareto.study import paths
from speech_pareto.study.quantities import QUANTITIES


def read(study: Mapping, results: Path) -> dict | None:
    """Return what the search of a study found, None without one that has ended.

    `study`: see `points.study`; `results` is the folder of its results.
    """
    pattern = PurePath(paths.FOUND.format(study=study["study"])).relative_to("results")
    return read_json(results / pattern) if (results / pattern).is_file() else None


def best(found: Mapping, limits: Sequence[Limit]) -> tuple[Mapping, dict[str, float]] | None:
    """Return the candidate of the best expected score of those within limits, and its interval.

    Only candidates that were never run count. What is not known of them before, such as their time,
    is within no limit.
    """
    inside = []
    for one in found["pool"]:
        if one["rung"] is not None or "expected" not in one:
            continue
        score = scores(one["expected"], found)
        values = {**one, "ratio": float(one["ratio"]), "valid_score": score["error"]}
        if all(limit.holds(values.get(limit.key)) for limit in limits):
            inside.append((one["expected"]["error"], one["recipe"], one["ratio"], one, score))
    return min(inside, key=lambda row: row[:3])[3:] if inside else None


def scores(expected: Mapping[str, float], found: Mapping) -> dict[str, float]:
    """Return expected errors as scores: where higher ones are better, their ends change places."""
    if found["better"] == "lower":
        return dict(expected)
    worst, turned = found["worst"], {"error": "error", "low": "high", "high": "low"}
    return {name: worst - expected[other] for name, other in turned.items()}


def text(study: dict, found: Mapping | None, limits: Sequence[Limit], task: str) -> str:
    """Return a sentence on the best candidate that was not run; nothing if none promises more."""
    if not found or found["task"] != task or not (named := best(found, limits)):
        return ""
    one, score = named
    sign, chosen = SIGNS[found["better"]], budget.choose(study, limits, task)
    if chosen and sign * score["error"] >= sign * chosen[0]["choice"]:
        return ""
    cost = QUANTITIES[found["cost"]]
    said = (
        f"Predicted, not run yet: {one['recipe']} at ratio {one['ratio']}, "
        f"{cost.form(one[found['cost']])} {cost.label}; on validation "
        f"{one_decimal(score['error'])} % [{one_decimal(score['low'])}, "
        f"{one_decimal(score['high'])}] with 95 %, by the search of this study"
    )
    lines = textwrap.wrap(said, 100, initial_indent="  ", subsequent_indent="  ")
    return "\n" + "\n".join(lines) + "\n"
