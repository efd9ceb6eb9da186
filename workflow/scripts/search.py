"""A round of a search, and what came out of all of them; `study/search.py` decides."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from speech_pareto.runtime import result
from speech_pareto.study.search import WORST, Search


def of(facts: Mapping) -> Search:
    """Return a search as the rules know it."""
    return Search(
        **{name: facts[name] for name in ("pool", "prices", "steps", "cost", "keep", "at_once")},
        dearest=facts["dearest"][facts["cost"]],
        seconds=3600 * facts["hours"],
        patience=facts["patience"],
        most=facts["front"],
    )


def main(facts: Mapping, earlier: str | Path | None, metrics: Sequence, output: str | Path) -> None:
    """Write what the next round runs, from the file of the round before and what that asked for.

    `metrics` are the results of what was asked, in that order.
    """
    search, numbers = of(facts), _numbers(facts)
    state = result.read_json(earlier) if earlier else {"results": [], "rounds": [], "ask": []}
    for asked, file in zip(state["ask"], metrics, strict=True):
        state["results"].append({**asked, **_scored(result.read(file))})
    errors = _errors(state, numbers)
    if earlier:
        volume, spent = search.hypervolume(errors), search.spent(list(errors))
        state["rounds"].append(
            {"hypervolume": round(volume, 4), "seconds": round(spent, 1), "scored": len(errors)}
        )
    decided = search.next(errors, [one["hypervolume"] for one in state["rounds"]])
    state["ended"] = decided["ended"]
    state["ask"] = [
        {"recipe": one["recipe"], "ratio": one["ratio"], "rung": rung}
        for number, rung in decided["ask"]
        for one in [facts["pool"][number]]
    ]
    result.write_json(output, state)


def end(facts: Mapping, last: str | Path, output: str | Path) -> None:
    """Write what a search found, from the file of its last round: its front, and predictions."""
    search, state = of(facts), result.read_json(last)
    errors = _errors(state, _numbers(facts))
    latest = search.latest(errors)
    rungs = dict(sorted(errors))
    expected = search.predictions(errors)
    pool = [
        {key: one[key] for key in ("recipe", "ratio", *facts["dearest"])}
        | {"rung": rungs.get(number), "error": latest.get(number)}
        | ({"expected": expected[number]} if expected else {})
        for number, one in enumerate(facts["pool"])
    ]
    about = {key: facts[key] for key in ("teacher", "task", "cost", "hours", "steps", "dearest")}
    better = {one["better"] for one in state["results"] if one.get("better")}
    result.write_json(
        output,
        {
            **about,
            "better": better.pop() if better else "lower",
            "worst": WORST,
            "ended": state["ended"],
            "rounds": state["rounds"],
            "front": [pool[number] for number in search.front(errors)],
            "pool": pool,
        },
    )


def _scored(found: Mapping) -> dict:
    """Return the validation error of a result in percent, nothing of what has none."""
    if found["status"] != "ok":
        return {"status": found["status"]}
    name, better = found["metric"]["name"], found["metric"]["better"]
    score = found["valid_metrics"][name]
    return {"better": better, "error": score if better == "lower" else WORST - score}


def _numbers(facts: Mapping) -> dict[tuple[str, str], int]:
    """Return the number of each candidate in the pool."""
    return {(one["recipe"], one["ratio"]): number for number, one in enumerate(facts["pool"])}


def _errors(state: Mapping, numbers: Mapping) -> dict[tuple[int, int], float | None]:
    """Return the error, if there is one, of what a search has run."""
    return {
        (numbers[one["recipe"], one["ratio"]], one["rung"]): one.get("error")
        for one in state["results"]
    }


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        job = snakemake.params.job
        if snakemake.wildcards.get("round"):
            earlier = (snakemake.input.earlier or [None])[0]
            main(job["search"], earlier, list(snakemake.input.metrics), snakemake.output[0])
        else:
            end(job["search"], snakemake.input.last, snakemake.output[0])
