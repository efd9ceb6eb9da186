"""The space of a search: recipes whose settings and ratios are ranges. Needs no torch.

In the place of a value stands `{from: 2, to: 6}` (whole numbers if both ends are, else numbers of
two digits, drawn on a logarithmic scale if they span a factor of ten) or `{of: [2, 4]}`.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from random import Random
from typing import Any

from speech_pareto.compression import recipes
from speech_pareto.runtime.bounds import shown
from speech_pareto.runtime.suggest import unknown
from speech_pareto.study.cells import settings_of
from speech_pareto.study.messages import listed, mapping
from speech_pareto.tasks import kind

KEYS = ({"from", "to"}, {"of"})
LOGARITHMIC = 10  # ends of a range further apart than this factor


def is_free(value: object) -> bool:
    """Return whether a value of a space stands for several."""
    return isinstance(value, Mapping) and set(value) in KEYS


def value_at(value: Any, share: float) -> Any:
    """Return the value at a `share`, from 0 to 1, of a range or of a list; others as they are."""
    if not is_free(value):
        return value
    if "of" in value:
        return value["of"][min(len(value["of"]) - 1, int(share * len(value["of"])))]
    low, high = value["from"], value["to"]
    if isinstance(low, int) and isinstance(high, int):
        return low + min(high - low, int(share * (high - low + 1)))
    if low > 0 and high / low >= LOGARITHMIC:
        found = math.exp(math.log(low) + share * math.log(high / low))
    else:
        found = low + share * (high - low)
    return float(f"{found:.2g}")


def recipe_at(steps: object, share: Callable[[], float]) -> tuple[list, dict[str, Any]]:
    """Return a recipe without ranges, and the values that stand in their place by name.

    `share()` tells of each range, in the order of the recipe, which share of it is taken. Parts of
    a wrong shape stay as they are.
    """
    made: list = []
    chosen: dict[str, Any] = {}
    for step in listed(steps):
        if not isinstance(step, str | dict):
            made.append(step)
            continue
        own = {}
        for method, settings in settings_of(step).items():
            own[method] = settings if settings and not isinstance(settings, Mapping) else {}
            for name, value in sorted(mapping(settings).items()):
                own[method][name] = value_at(value, share()) if is_free(value) else value
                if is_free(value):
                    chosen[f"{method}.{name}"] = own[method][name]
        made.append(own)
    return made, chosen


def name_of(entry: str, chosen: Mapping[str, Any]) -> str:
    """Return the name of a recipe: that of its entry and the values that were chosen."""
    words = [entry, *(f"{key.partition('.')[2]}-{value}" for key, value in chosen.items())]
    return re.sub("[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def draws(space: Mapping[str, Mapping], seed: int) -> Iterator[tuple[str, list, dict, float]]:
    """Yield without end recipes of each entry in turn: name, steps, chosen values and ratio.

    Ratios have two decimals, so that finished cells are met again.
    """
    generator = Random(seed)
    while True:
        for entry, own in sorted(space.items()):
            steps, chosen = recipe_at(own["recipe"], generator.random)
            ratio = round(value_at(own["ratio"], generator.random()), 2)
            yield name_of(entry, chosen), steps, chosen, ratio


def search_problems(
    search: object, parts: Mapping, check: Callable[[str, object, dict], Iterator[str]]
) -> Iterator[str]:
    """Yield what is wrong with the search of a config, as far as no schema can see it.

    `parts` holds the config's teachers and tasks; `check` yields what is wrong with a recipe.
    """
    if not isinstance(search, dict):
        return
    for key, section in (("teacher", "teachers"), ("task", "tasks")):
        name = search.get(key)
        if isinstance(name, str) and name not in parts[section]:
            yield f"search.{key}: {unknown(key, name, parts[section])}"
    task = mapping(parts["tasks"].get(search.get("task")))
    if (
        task.get("kind", "ctc") in kind.names()
        and not kind.kind_of(task.get("kind", "ctc")).finetunes
    ):
        yield f"search.task: '{search['task']}' is not fine-tuned by the workflow itself."
    steps = [one for one in listed(search.get("rungs")) if _number(one)]
    last = mapping(task.get("student")).get("steps")
    if steps != sorted(steps) or (steps and _number(last) and steps[-1] >= last):
        yield "search.rungs: steps must rise, and end below those of the task's 'student'."
    for rung in steps:
        if (name := f"{search.get('task')}_{rung}") in parts["tasks"]:
            yield f"search.rungs: the task '{name}' has the name of a rung."
    for name, entry in mapping(search.get("space")).items():
        here, wrong = f"search.space.{name}", list(_ranges(mapping(entry)))
        yield from (f"{here}.{place}: {said}" for place, said in wrong)
        if not wrong:
            yield from dict.fromkeys(_entry(here, mapping(entry), check))


def _entry(at: str, entry: Mapping, check: Callable) -> Iterator[str]:
    """Yield what is wrong with the recipes of an entry at either end of its ranges."""
    for share in (0.0, 1.0):
        steps = recipe_at(entry.get("recipe"), repeat(share).__next__)[0]
        if found := list(check(f"{at}.recipe", steps, {})):
            yield from found
            return
        made = [recipes.make(step) for step in steps]
        for method in made:
            if method.trains_once:
                yield f"{at}.recipe: one training serves all ratios of it; its place is the grid."
            if method.dynamic:
                yield f"{at}.recipe: what its students cost is not known before they run."
        ratio, free = value_at(entry.get("ratio", 0), share), any(one.removes for one in made)
        if free and any(one.removes and one.ratio is None for one in made) and not 0 < ratio < 1:
            yield f"{at}.ratio: {shown(ratio)} must be above 0 and below 1."
        elif not free and ratio:
            yield f"{at}.ratio: {shown(ratio)} must be 0, as the recipe removes nothing."


def _ranges(entry: Mapping) -> Iterator[tuple[str, str]]:
    """Yield (place, sentence) for each range of an entry that is none."""
    places = {"ratio": entry.get("ratio", 0)}
    for index, step in enumerate(listed(entry.get("recipe"))):
        for method, settings in mapping(settings_of(step) if step else None).items():
            for name, value in mapping(settings).items():
                places[f"recipe[{index}].{method}.{name}"] = value
    for place, value in places.items():
        if not isinstance(value, Mapping):
            continue
        if not is_free(value):
            yield place, f"{shown(value)} must be {{from: 2, to: 6}}, {{of: [2, 4]}} or a value."
        elif "of" in value:
            if not listed(value["of"]):
                yield place, "'of' must be a list of values."
        elif not all(_number(value[end]) for end in ("from", "to")):
            yield place, "'from' and 'to' must be numbers."
        elif value["from"] >= value["to"]:
            yield place, f"'from' ({value['from']}) must be below 'to' ({value['to']})."


def _number(value: object) -> bool:
    """Return whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)
