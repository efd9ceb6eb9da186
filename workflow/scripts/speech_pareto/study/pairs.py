"""Pairs of a recipe and a task that a grid asks for and that cannot go together."""

from collections.abc import Iterator

from speech_pareto.compression import catalogue
from speech_pareto.study.cells import settings_of
from speech_pareto.study.messages import listed, mapping


def unfit_pairs(at: str, block: dict, parts: dict) -> Iterator[str]:
    """Yield a sentence for each pair of a block of the grid that cannot go together.

    `parts` has the config's recipes and tasks; what is of the wrong shape there is passed over.
    """
    recipes = {name: _steps(steps) for name, steps in parts["recipes"].items()}
    for task in listed(block.get("tasks", list(parts["tasks"]))):
        given = mapping(parts["tasks"].get(task))
        probed = given.get("protocol") == "probe"
        whole = mapping(given.get("student")).get("do_normalize") is True
        for recipe in listed(block.get("recipes", list(recipes))):
            steps = recipes.get(recipe, ())
            if probed and any(catalogue.load(name).needs == "task" for name, _ in steps):
                yield f"{at}: '{recipe}' trains on '{task}' what its protocol 'probe' freezes."
            if whole and any(_hears_chunks(name, settings) for name, settings in steps):
                yield (
                    f"{at}: '{recipe}' makes students that hear chunks, and `do_normalize: true` "
                    f"under tasks.{task}.student needs the whole of a recording."
                )


def _steps(recipe: object) -> list[tuple[str, dict]]:
    """Return the known methods of a recipe with their settings."""
    entries = (mapping(settings_of(step)).items() for step in listed(recipe))
    known = catalogue.names()
    return [(name, mapping(own)) for entry in entries for name, own in entry if name in known]


def _hears_chunks(name: str, settings: dict) -> bool:
    """Return whether a method makes students that hear a recording piece by piece."""
    return settings.get("chunk", getattr(catalogue.load(name), "chunk", None)) is not None
