"""Run Python as if only some distributions were installed, with what these need."""

import os
import re
from importlib import metadata
from pathlib import Path

# Put first on PYTHONPATH as sitecustomize.py: the finder of files finds no other package.
HIDE = """
import sys
from importlib.machinery import PathFinder

HIDDEN = {hidden!r}


class Shown:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            return None
        return PathFinder.find_spec(name, path, target)

    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches


sys.meta_path[sys.meta_path.index(PathFinder)] = Shown
"""


def environment(folder: Path, *distributions: str) -> dict[str, str]:
    """Return an environment for processes that import nothing but `distributions`, by `folder`."""
    shown = set()
    waiting = [_plain(name) for name in distributions]
    while waiting:
        name = waiting.pop()
        if name in shown:
            continue
        shown.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting += [
            _plain(re.match(r"[\w.-]+", line)[0]) for line in needed if "extra ==" not in line
        ]
    packages = metadata.packages_distributions().items()
    hidden = {top for top, owners in packages if not {_plain(x) for x in owners} & shown}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDE.format(hidden=sorted(hidden)))
    return os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def _plain(name: str) -> str:
    """Return a distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
