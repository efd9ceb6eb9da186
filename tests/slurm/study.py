"""A study that runs on the cluster, and ways to disturb it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from helpers.checkout import run_snakemake

STUDENT = "results/finetuned/small/ffn-pruning/0.2/1/characters"
LOG = "logs/finetune/small/ffn-pruning/0.2/1/characters.log"
STATE = "checkpoints/finetune/small/ffn-pruning/0.2/1/characters"
LIMIT = 900  # seconds: what hangs must not hang the tests
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5")


class Study:
    """A checkout with a study in it; `whole` is one that a local run has finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = None

    @classmethod
    def without_student(cls, whole: Path, folder: Path) -> "Study":
        """Copy a finished study, but for one student that is yet to be fine-tuned."""
        shutil.copytree(whole, folder, symlinks=True)
        shutil.rmtree(folder / STUDENT)
        return cls(folder)

    def start(self, *arguments: str, profile: str = "slurm") -> "Study":
        """Start `snakemake --profile slurm` in the checkout."""
        command = [sys.executable, "-m", "snakemake", "--profile", profile, *QUICK, *arguments]
        with (self.folder / "said.txt").open("a") as said:
            self.process = subprocess.Popen(
                ["timeout", "--foreground", "-s", "KILL", str(LIMIT), *command],
                cwd=self.folder,
                stdout=said,
                stderr=said,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        return self

    def finish(self) -> int:
        """Wait for Snakemake to end; return its exit status."""
        return self.process.wait(timeout=LIMIT)

    def said(self) -> str:
        """Return what all runs of Snakemake said so far."""
        return (self.folder / "said.txt").read_text()

    def kill(self) -> None:
        """Kill Snakemake with SIGKILL; the jobs it has submitted go on."""
        for child in children(self.process.pid):
            os.kill(child, signal.SIGKILL)
        self.process.wait()

    def unlock(self) -> None:
        """Remove the lock that a killed Snakemake has left."""
        run_snakemake(self.folder, "--unlock")

    def training(self, steps: int = 3) -> int:
        """Wait until the student has trained for some steps, stop its process, return its pid."""
        self.until(lambda: self.trained() >= steps and self.script(), "training", 0.2)
        os.kill(self.script(), signal.SIGSTOP)
        return self.script()

    def trained(self) -> int:
        """Return the step of the newest checkpoint, 0 without."""
        return max((int(path.name.split("-")[1]) for path in self.checkpoints()), default=0)

    def checkpoints(self) -> list[Path]:
        """Return the student's checkpoints, the oldest first."""
        return sorted((self.folder / STATE).rglob("checkpoint-*-*"))

    def script(self) -> int | None:
        """Return the pid of the process that fine-tunes the student."""
        name = f"{self.folder}/.snakemake/scripts/".encode()
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().split(b"\0")
            except OSError:
                continue
            if len(words) > 1 and words[1].startswith(name):
                return int(file.parent.name)
        return None

    def job(self) -> int:
        """Return the id of the newest Slurm job."""
        return self.jobs()[-1]["job"]

    def jobs(self) -> list[dict]:
        """Return the Slurm jobs that fine-tuned in this folder, in the order of submission."""
        logs = (self.folder / ".snakemake/slurm_logs").as_posix()
        words = ["squeue", "--noheader", "--all", "--states=all"]
        words += ["--Format=JobID:20,State:20,STDOUT:500"]
        done = subprocess.run(words, capture_output=True, text=True)
        rows = [line.split() for line in done.stdout.splitlines()]
        jobs = [
            {"job": int(row[0]), "state": row[1]} for row in rows if row[-1].startswith(f"{logs}/")
        ]
        return sorted(jobs, key=lambda job: job["job"])

    def working(self) -> list[int]:
        """Return the ids of the Slurm jobs that wait or run."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
        return [job["job"] for job in self.jobs() if job["state"] not in over]

    def until(self, condition: Callable[[], object], what: str, seconds: float = 1) -> None:
        """Wait for a condition, which is asked every so many seconds."""
        end = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{what}: not seen in {self.folder}; Snakemake said\n{self.said()}"
                )
            time.sleep(seconds)

    def continued_after(self) -> int | None:
        """Return the step after which the last try of the student went on; None if anew."""
        text = (self.folder / LOG).read_text()
        return (
            int(text.split("continuing after step ")[1].split()[0])
            if "continuing" in text
            else None
        )


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in file.read_text().split()] if file.exists() else []


def contents(folder: Path, *parts: str) -> dict[str, object]:
    """Return all results in a checkout by name: bytes, of a profile all but times and memory."""
    found = {}
    for part in parts or ("corpora", "teachers", "models", "finetuned", "metrics", "profile"):
        for path in sorted((folder / "results" / part).rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                found[name] = counts(path) if part == "profile" else path.read_bytes()
    return found


def counts(path: Path) -> dict:
    """Return what of a student's costs was counted, not timed."""
    result = json.loads(path.read_text())
    cost = result["cost"]
    keep = ("parameters", "bytes", "macs", "macs_per_second")
    result["cost"] = {key: value for key, value in cost.items() if key.startswith(keep)}
    return result
