"""Files that outlive a killed job: whole or refused, and never only one copy.

A file's name holds the number of its step and the SHA-256 of its content, so that one rename makes
it valid; a truncated or altered one is refused, and the one before is used.
"""

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.processes import first

KEPT = 2
log = logging.getLogger(__name__)


def keep(folder: Path, name: str, write: Callable[[Path], None], step: int = 0) -> None:
    """Keep what `write(path)` writes as the state `name` after `step`; the one before stays too.

    Of several processes only the first one writes. Raises OSError, for instance when the disk is
    full; then nothing is lost and nothing is left.
    """
    if not first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    os.close(handle)
    part = Path(made)
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(folder / f"{name}-{step:09d}-{sha256(part)}")
    finally:
        part.unlink(missing_ok=True)
    for old in _newest_first(folder, name)[KEPT:]:
        old.unlink(missing_ok=True)


def keep_one(folder: Path, name: str) -> None:
    """Delete all but the newest sound state `name`, which a training has left behind it."""
    if first() and (last := newest(folder, name)):
        for old in set(_newest_first(folder, name)) - {last}:
            old.unlink(missing_ok=True)


def newest(folder: Path | None, name: str) -> Path | None:
    """Return the newest state `name` that is as it was written; others are named in the log.

    What writers that were killed left is deleted.
    """
    for part in folder.glob(f".{name}.*") if folder and first() else []:
        part.unlink(missing_ok=True)
    for path in _newest_first(folder, name) if folder else []:
        if sha256(path) == path.name.rpartition("-")[2]:
            return path
        log.warning("%s is damaged; it is not used", path)
    return None


def _newest_first(folder: Path, name: str) -> list[Path]:
    """Return the states `name`, the one with the highest step first."""
    return sorted(folder.glob(f"{name}-{'[0-9]' * 9}-*"), reverse=True)
