"""A store that several workflows and users share: corpora, teachers, students, each made once.

The environment variable SPEECH_PARETO_STORE names its folder; without it nothing is shared. An
entry's key is the digest of all that its content rests on: the settings, the source and the pins
of the job that made it, its wildcards (among them the seed), and the content of its input. So a
changed method never gets a student of the former one, whatever time stamps say.

Snakemake's own cache between workflows takes no rule that has a benchmark, looks at a script but
not at what this imports, and misses when a comment changes. Entries are copied, not linked: they
outlive a clone, and nobody's mistake in a results folder reaches another one's.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from speech_pareto.runtime.files import whole_folder
from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.processes import started
from speech_pareto.runtime.result import read_json, read_status, umask, write_json

VARIABLE = "SPEECH_PARETO_STORE"
SUMS = "SHA256SUMS.json"
# Not part of a folder's identity: where and when it was made, and samples, whose digest stands in
# the README of their corpus.
APART = ("provenance.json", "audio.npy", ".snakemake_timestamp")
log = logging.getLogger(__name__)


def stored(job, make: Callable[..., None], *arguments, **settings) -> None:
    """Call `make(*arguments, **settings)`, or take the output that it would make from the store.

    `job` is the object `snakemake` of a script whose params hold `job` and whose output is one
    folder. A damaged entry is not taken but replaced; a store that cannot be written to costs a
    warning. What is made from a user's list of recordings is not shared: nothing tells when one of
    them changes.
    """
    root, output = os.environ.get(VARIABLE), Path(job.output[0])
    if not root or started() or any(map(os.path.isfile, job.input)):
        make(*arguments, **settings)
        return
    entry = Path(root) / job.rule / key(job)
    if _take(entry, output):
        log.info("taken from the store: %s", entry)
        return
    make(*arguments, **settings)
    if (read_status(output) or {}).get("status") == "out_of_memory":
        return  # another machine may have more
    try:
        _put(output, entry)
    except OSError as error:
        log.warning("not kept in the store: %s", error)


def key(job) -> str:
    """Return the key of a job's output: 32 hexadecimal digits."""
    facts = {
        "job": job.params.job,
        "wildcards": dict(job.wildcards.items()),
        "input": [sums(Path(file), APART) for file in job.input],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def sums(folder: Path, apart: tuple[str, ...] = (".snakemake_timestamp",)) -> dict[str, str]:
    """Return file -> SHA-256 of what is in a folder, but for the names `apart`."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in apart)
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def _take(entry: Path, output: Path) -> bool:
    """Copy an entry to a job's output, if it is there and whole."""
    if not entry.is_dir():
        return False
    try:
        expected = read_json(entry / SUMS)
        with whole_folder(output) as part:
            shutil.copytree(entry, part, copy_function=shutil.copyfile, dirs_exist_ok=True)
            (part / SUMS).unlink()
            if sums(part) != expected:
                raise ValueError("its content is not what it was")
    except (OSError, ValueError, shutil.Error) as error:
        log.warning("the entry %s of the store is not used: %s", entry, error)
        return False
    return True


def _put(output: Path, entry: Path) -> None:
    """Copy a job's output to the store, whole or not at all; a damaged entry is replaced."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=entry.parent))
    try:
        part.chmod(0o777 & ~umask())  # mkdtemp makes private folders
        ignore = shutil.ignore_patterns(".snakemake_timestamp")
        shutil.copytree(
            output, part, copy_function=shutil.copyfile, ignore=ignore, dirs_exist_ok=True
        )
        write_json(part / SUMS, sums(output))
        if entry.is_dir():  # damaged, or made at the same time by another workflow
            with contextlib.suppress(OSError):
                entry.rename(part.with_name(f"{part.name}.old"))
        part.rename(entry)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(part.with_name(f"{part.name}.old"), ignore_errors=True)
