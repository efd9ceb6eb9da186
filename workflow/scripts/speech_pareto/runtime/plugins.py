"""Files of a package that are found by name: methods, kinds of tasks, sources of corpora."""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from speech_pareto.runtime.suggest import unknown

LIBRARY = Path(__file__).parents[1]


@cache
def names(package: str) -> tuple[str, ...]:
    """Return the names of a package's files, such as those of `compression.methods`."""
    folder = LIBRARY.joinpath(*package.split("."))
    return tuple(sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")))


def load(package: str, name: str, what: str) -> ModuleType:
    """Return the module `name` of a package; ValueError with the nearest name if there is none."""
    if name not in names(package):
        raise ValueError(unknown(what, name, names(package)))
    return importlib.import_module(f"speech_pareto.{package}.{name}")


def path(package: str, name: str) -> str:
    """Return a module's file, relative to the scripts."""
    return f"speech_pareto/{package.replace('.', '/')}/{name}.py"
