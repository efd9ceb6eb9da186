"""Run one job of a study for some steps, at real shapes, and write what it takes as a whole.

The job runs in a process of its own, `rehearsed.py`, so that one that dies is a result, too.
"""

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from speech_pareto.runtime.result import read_json, write_json
from speech_pareto.runtime.source_digest import SCRIPTS
from speech_pareto.study.rehearsal import trains

MORE_PIECES = (4, 16, 64, 256)  # batches are cut into so many times more until they fit
log = logging.getLogger(__name__)


def main(
    job: Mapping, output: str | Path, minutes: float | None = None, megabytes: float | None = None
) -> None:
    """Write to `output` (JSON) what the job takes: see `rehearsal.entry`.

    `job` is what `rehearsed.measure` reads, and what the real one will be `given`. On a CPU it may
    take as much memory as there is, at most `megabytes`; after `minutes` it is stopped. What the
    jobs beside it left too little for runs again when they have ended.
    """
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".rehearsal-", dir=output.parent))
    seconds = 60 * minutes if minutes else None

    def allowed() -> float | None:
        limits = [_free_memory(), 1e6 * megabytes if megabytes else None]
        return min((one for one in limits if one), default=None)

    try:
        with _beside_others() as wait:
            limit = allowed()
            ended = _run(job, scratch, limit, seconds)
            # Nobody else has what a scheduler gave to this job.
            short = ended["status"] == "out_of_memory" and not (ended["on_gpu"] or megabytes)
            if short and (wait() or (allowed() or 0.0) > 1.1 * (limit or 0.0)):
                log.info("again, alone: other rehearsals took memory at the same time")
                ended = _run(job, scratch, limit := allowed(), seconds)
            ended |= {"given": job["given"], "limited": megabytes is not None, "fits": None}
            for pieces in MORE_PIECES if ended["status"] == "out_of_memory" else ():
                if (smaller := in_pieces(job, pieces)) is None:
                    break
                tried = _run(smaller, scratch, limit, seconds)
                if tried["status"] == "ok":
                    memory = tried["gpu_memory"] if tried["on_gpu"] else tried["memory"]
                    ended["fits"] = {"pieces": pieces, "memory": memory}
                    break
        write_json(output, ended)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _beside_others() -> Iterator[Callable[[], bool]]:
    """Note that a rehearsal runs on this machine; yield what waits for all others to end.

    That returns whether there were any. Those that would begin then wait in their turn.
    """
    file = Path(tempfile.gettempdir()) / f"speech-pareto-rehearsals-{os.getuid()}"
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)

    def wait() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(handle, fcntl.LOCK_EX)
            return True
        return False

    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield wait
    finally:
        os.close(handle)


def in_pieces(job: Mapping, times: int) -> dict | None:
    """Return a job whose batches are cut into so many `times` more pieces; None if none are."""
    own = dict(job["job"])
    if job["rule"] == "train_supernet" or job["rule"] == "compress" and trains(own["recipe"]):
        own["accumulate"] *= times
    elif "training" in own:
        before = own["training"].get("accumulate", 1)
        own["training"] = {**own["training"], "accumulate": times * before}
    elif job["rule"] == "pretrain_one_teacher":
        each = [
            {**one, "accumulate": times * one.get("accumulate", 1)}
            for one in own["settings"]["iterations"]
        ]
        own["settings"] = {**own["settings"], "iterations": each}
    else:
        return None
    return {**job, "job": own}


def _run(job: Mapping, scratch: Path, limit: float | None, seconds: float | None) -> dict:
    """Run a job in a process of its own with files in `scratch`; return what became of it."""
    for path in scratch.iterdir():  # of the try before
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(scratch / "job.json", {**job, "began": time.time(), "limit": limit})
    command = [sys.executable, str(SCRIPTS / "rehearsed.py"), str(scratch), str(os.getpid())]
    process = subprocess.Popen(command)
    began, status = time.monotonic(), 0
    late = False
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if seconds and not late and time.monotonic() - began > seconds:
                late = True
                process.kill()
            time.sleep(0.1)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    nothing = {"start": 0.0, "parts": [], "gpu_memory": 0, "gpu_total": 0, "random": False}
    nothing |= {"disk": 0, "checkpoint": 0, "on_gpu": False, "reason": None}
    found = nothing | {"memory": 1024 * usage.ru_maxrss}
    if late:
        said = f"some steps took more than the {seconds / 60:.0f} minutes that the rehearsal has"
        return found | {"status": "out_of_time", "reason": said}
    if (scratch / "measured.json").is_file():
        return found | read_json(scratch / "measured.json")
    if process.returncode == -signal.SIGKILL:
        said = f"killed at {found['memory'] / 1e9:.1f} GB: that is more memory than there was"
        return found | {"status": "out_of_memory", "reason": said}
    return found | {"status": "failed", "reason": f"it ended with {process.returncode}"}


def _free_memory() -> float | None:
    """Return the bytes that this machine has left, None if it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return 1024.0 * next(int(line.split()[1]) for line in lines if "MemAvailable" in line)


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.log import logged

    asked = snakemake.resources
    with logged(snakemake.log[0]), reserved(asked.get("gpu")):
        main(
            snakemake.params.job["rehearsed"] | {"threads": snakemake.threads},
            snakemake.output[0],
            # before a scheduler stops all of it
            max(1, asked.runtime - 3) if asked.get("runtime") else None,
            asked.get("mem_mb"),
        )
