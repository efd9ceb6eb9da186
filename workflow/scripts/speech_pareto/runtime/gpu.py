"""One GPU for each job, on a machine without a scheduler that would deal them out."""

import fcntl
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
log = logging.getLogger(__name__)


@contextmanager
def reserved(number: int | None, folder: Path | None = None) -> Iterator[None]:
    """Reserve `number` GPUs of this machine, and show CUDA only these; wait until they are free.

    `number` is what the job asks for as the resource `gpu`: nothing happens for 0 or None, nor
    where a scheduler such as Slurm (or the user) has set CUDA_VISIBLE_DEVICES, nor without GPUs.
    A reservation is a lock on a file in `folder`; it ends with the process, however that ends.
    """
    everything = [] if not number or VISIBLE in os.environ else gpus()
    if not number or not everything:
        yield
        return
    if number > len(everything):
        raise ValueError(f"the job asks for {number} GPUs, this machine has {len(everything)}")
    folder = folder or Path(tempfile.gettempdir()) / "speech-pareto-gpus"
    folder.mkdir(exist_ok=True)
    if folder.stat().st_uid == os.getuid():
        folder.chmod(0o1777)  # for all users of the machine
    with ExitStack() as locks:
        waits = False
        while (chosen := _lock(everything, number, folder, locks)) is None:
            if not waits:
                log.info("waiting for %d of %d GPUs", number, len(everything))
            waits = True
            time.sleep(0.5)
        log.info("GPU %s", ",".join(chosen))
        os.environ[VISIBLE] = ",".join(chosen)
        try:
            yield
        finally:
            del os.environ[VISIBLE]


def gpus() -> list[str]:
    """Return the GPUs of this machine: those named in SPEECH_PARETO_GPUS (`0,1,3`), or all."""
    if "SPEECH_PARETO_GPUS" in os.environ:
        return [name for name in os.environ["SPEECH_PARETO_GPUS"].split(",") if name]
    try:
        words = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


def _lock(everything: list[str], number: int, folder: Path, locks: ExitStack) -> list[str] | None:
    """Lock `number` free GPUs and hand the locks to `locks`; lock none if there are too few."""
    with ExitStack() as mine:
        chosen = []
        for name in everything:
            handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            mine.callback(os.close, handle)
            chosen.append(name)
            if len(chosen) == number:
                locks.push(mine.pop_all())
                return chosen
    return None
