"""Ratios of a grid stated in MACs, bytes or seconds, turned into ratios of parameters."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from speech_pareto.compression import allocation, recipes, targets
from speech_pareto.models import latency
from speech_pareto.runtime.hashing import digest_of
from speech_pareto.runtime.locate import locate
from speech_pareto.study import cells, forecast
from speech_pareto.study.config import ConfigError

STEPS = 10_000  # ratios have four decimals


def met(study: Mapping, results: Path) -> dict:
    """Return a resolved config whose ratios are all of parameters.

    Each `{macs: 0.5}` becomes, for each teacher and recipe, the ratio at which it is met, or the
    nearest; the block's `targets` say of which ratios that is so. It follows from configs alone,
    and from tables of latencies: a target in seconds names the file and its digest, too.
    ConfigError for a teacher whose config is not known before it is fetched, or not its time.
    """
    problems: list[str] = []
    grid = [
        own
        for index, block in enumerate(study["grid"])
        for own in _blocks(study, block, f"grid[{index}].ratios", results, problems)
    ]
    problems += _twice(study, grid)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return {**study, "grid": grid}


def _twice(study: Mapping, grid: Sequence[Mapping]) -> Iterator[str]:
    """Yield what is wrong with recipes that remove nothing and are asked for several targets."""
    found: dict[str, list] = {}
    for block in grid if any("targets" in block for block in grid) else ():
        for recipe in block.get("recipes", study["recipes"]):
            if recipes.adapts(study["recipes"][recipe]):
                own = block.get("targets", {}).get(cells.ratio_name(0))
                found.setdefault(recipe, []).append(own)
    for recipe, targets_ in found.items():
        if any(one != targets_[0] for one in targets_):
            yield f"grid: {recipe} removes nothing, so that it can meet one target, in a study"


def _blocks(
    study: Mapping, block: Mapping, at: str, results: Path, problems: list[str]
) -> Iterator[Mapping]:
    """Yield blocks of plain ratios that a block stands for."""
    asked = [located(one, study) for one in block["ratios"] if isinstance(one, Mapping)]
    if not asked:
        yield block
        return
    named = block.get("recipes", list(study["recipes"]))
    fixed = [name for name in named if not recipes.adapts(study["recipes"][name])]
    plain = [one for one in block["ratios"] if not isinstance(one, Mapping)]
    if plain and fixed:  # the others stand at ratio 0 for their target
        yield {**block, "ratios": plain, "recipes": fixed}
    for teacher in block.get("teachers", study["teachers"]):
        config = forecast.teacher_config(study, teacher, "any", results)
        if config is None:
            problems.append(f"{at}: {teacher} has no known MACs or bytes before it is fetched.")
            continue
        if untimed := [said for target in asked if (said := _untimed(target, config))]:
            problems += [f"{at}: {teacher} {said}." for said in untimed]
            continue
        for recipe in block.get("recipes", study["recipes"]):
            own = {**block, "teachers": [teacher], "recipes": [recipe]}
            steps = study["recipes"][recipe]
            if recipes.adapts(steps):  # its ratio, which names the cell, is always 0
                if len(asked) > 1:
                    said = f"{recipe} removes nothing, so that it can meet one of these, in a study"
                    problems.append(f"{at}: {said}.")
                yield {**own, "ratios": [0], "targets": {cells.ratio_name(0): asked[0]}}
                continue
            if not cells.removes(steps):
                yield {**own, "ratios": [0]}
                continue
            for target in asked:
                ratio = ratio_of(steps, config, target)
                yield {**own, "ratios": [ratio], "targets": {cells.ratio_name(ratio): target}}


def located(target: Mapping, study: Mapping) -> dict:
    """Return a target; one in seconds with the full name of its table, the file and its digest."""
    if targets.TIME not in target:
        return dict(target)
    file = latency.find(target["device"], study["latency"])
    digest = digest_of(locate(file), "sha256")[:8]
    return {**target, "device": Path(file).stem, "table": file, "digest": digest}


def _untimed(target: Mapping, config: Mapping) -> str | None:
    """Return in words that no cost of a teacher is known; None if it is."""
    try:
        targets.cost(target, config)
    except latency.NotInTable as error:
        return f"has no known {targets.cost_name(target)}: {error}"
    return None


def ratio_of(recipe: Sequence, config: Mapping, target: Mapping) -> float:
    """Return the ratio of parameters, of four decimals, at which a recipe comes nearest a target.

    Where the recipe cannot come near it, that ratio is the most that it can remove; the share
    itself if no ratio saves anything.
    """
    share = targets.share(target)

    def solve(step: int) -> recipes.Solution:
        return recipes.solve(recipe, config, step / STEPS)

    def saved(step: int) -> float:
        return targets.removed(config, solve(step).config, target)

    try:
        nearest = allocation.nearest(range(1, STEPS), lambda step: share - saved(step))
        found = solve(nearest)
    except ValueError:  # of a model that a method refuses: compressing it says so
        return round(share, 4)
    if targets.removed(config, found.config, target) == 0:
        return round(share, 4)
    return round(found.ratio, 4) if found.reason else nearest / STEPS
