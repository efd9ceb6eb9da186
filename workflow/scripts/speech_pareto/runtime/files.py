"""Folders that are written whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(output: str | Path, keep: bool = False, resume: bool = False) -> Iterator[Path]:
    """Give the folder `<output>.part`, which becomes `output` once the block has ended.

    After an error `output` is what it was, and the part goes (on a full disk it would be in the
    way). With `keep` it stays, to be looked at; with `resume` too, and the next block goes on with
    it, where others begin with an empty one.
    """
    output = Path(output)
    part = output.with_name(f"{output.name}.part")
    if not resume:
        shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, exist_ok=True)
    try:
        yield part
    except BaseException:
        if not (keep or resume):
            shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)
