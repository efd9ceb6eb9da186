"""Folders that are written whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(output: str | Path, keep: bool = False) -> Iterator[Path]:
    """Give the folder `<output>.part`, which becomes `output` once the block has ended.

    After an error `output` is what it was, and what was written stays in the part. The next block
    begins with an empty one, or with `keep` goes on where the last one stopped.
    """
    output = Path(output)
    part = output.with_name(f"{output.name}.part")
    if not keep:
        shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, exist_ok=True)
    yield part
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)
