"""Which students are scored in which conditions."""

from collections.abc import Mapping

from speech_pareto.data.condition import of_task
from speech_pareto.study.cells import Cell, cells


def scored(study: Mapping) -> list[tuple[Cell, str]]:
    """Return the cells of tasks that say `conditions`, each with each of its task's."""
    found = {name: of_task(task) for name, task in study["tasks"].items()}
    return [(cell, name) for cell in cells(study) for name in found[cell.task]]


def tasks(study: Mapping) -> list[str]:
    """Return the tasks of cells that are scored in conditions."""
    return list(dict.fromkeys(cell.task for cell, _ in scored(study)))
