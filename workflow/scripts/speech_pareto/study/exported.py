"""Which students are written as ONNX files, and which of these are measured."""

from collections.abc import Mapping

from speech_pareto.study.cells import Cell, cells, tasks_with


def students(study: Mapping) -> list[Cell]:
    """Return the cells whose fine-tuned student `export` writes as ONNX."""
    tuned = tasks_with(study, "finetune")
    return [cell for cell in cells(study) if cell.task in tuned]


def measured(study: Mapping) -> list[Cell]:
    """Return those whose files `measure_export` measures: all, if the study says `onnx`."""
    return students(study) if "onnx" in study else []


def problems(study: Mapping) -> list[str]:
    """Return what is wrong with a study that says `onnx`: that it has nothing to export."""
    if "onnx" in study and not students(study):
        return ["onnx: no task of the grid is fine-tuned here, so no file is exported."]
    return []
