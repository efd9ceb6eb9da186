"""Which students are scored in which conditions."""

from collections.abc import Iterable, Mapping

from speech_pareto.data.condition import of_task
from speech_pareto.study.cells import Cell, cells


def scored(study: Mapping, found: Iterable[Cell] = ()) -> list[tuple[Cell, str]]:
    """Return the cells of tasks that say `conditions`, each with each of its task's.

    They are those of the grid and those that a search `found`.
    """
    named = {name: of_task(task) for name, task in study["tasks"].items()}
    every = dict.fromkeys([*cells(study), *found])
    return [(cell, name) for cell in every for name in named[cell.task]]


def tasks(study: Mapping) -> list[str]:
    """Return the tasks of cells that are scored in conditions."""
    return list(dict.fromkeys(cell.task for cell, _ in scored(study)))
