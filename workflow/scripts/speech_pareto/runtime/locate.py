"""Where a path of a config leads."""

from pathlib import Path

from speech_pareto.runtime.source_digest import SCRIPTS

ROOT = SCRIPTS.parents[1]


def locate(path: str) -> Path:
    """Return a path of the config, seen from the working directory or else the workflow's."""
    here, shipped = Path(path).expanduser(), ROOT / path
    return shipped if shipped.exists() and not here.exists() else here
