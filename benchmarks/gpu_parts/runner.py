"""Rows made by processes that may fail, hang or be killed: whatever happens to one is its row.

A worker is one process that makes rows one after the other and writes each to a file at once. If it
dies or a row takes too long, that row says so, and a new process goes on with the next one.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# A row with one of these is not made again; any other status is tried anew by the next run.
FINISHED = ("ok", "differs", "out of memory")
TAIL = 300  # characters of a reason


@dataclass
class Worker:
    """A process to be: the `words` after its program, its rows in order, its own environment.

    `keep(row, found)` is told each result as it comes.
    """

    words: list[str]
    rows: list[str]
    keep: Callable[[str, dict], None]
    seconds: float = 60.0  # the most that one row may take
    environment: Mapping[str, str] = field(default_factory=dict)


def serve(rows: list[str], make: Callable[[str], dict], report: Path) -> None:
    """Write the result of `make(row)` for each row to the file `report`, a line of JSON each.

    An error is the row's result; after one that leaves CUDA unusable the process ends.
    """
    with report.open("a", encoding="utf-8", buffering=1) as file:
        for row in rows:
            file.write(json.dumps({"row": row}) + "\n")
            began, lost = time.perf_counter(), False
            try:
                found = {"status": "ok", **make(row)}
            except Exception as error:
                traceback.print_exc()
                kind, said = type(error).__name__, str(error)
                found = {"status": "failed", "reason": short(f"{kind}: {said}")}
                if kind == "OutOfMemoryError":
                    found = {"status": "out of memory", "reason": short(said)}
                lost = "CUDA error" in said
            found["seconds"] = round(time.perf_counter() - began, 2)
            file.write(json.dumps({"row": row, "found": found}) + "\n")
            if lost:
                sys.exit(1)
            gc.collect()
            if torch := sys.modules.get("torch"):
                torch.cuda.empty_cache()  # does nothing without a GPU


def short(text: str) -> str:
    """Return a reason in one line."""
    line = " ".join(text.split())
    return line if len(line) <= TAIL else line[:TAIL] + " ..."


def collect(workers: list[Worker], program: list[str], scratch: Path, deadline: float) -> None:
    """Run all workers at the same time until each row is made or the clock says `deadline`.

    `program` and a worker's words, then `--report FILE --rows ROW ...`, start a process that calls
    `serve`. `deadline` is of time.monotonic().
    """
    running = [_Running(worker, program, scratch) for worker in workers if worker.rows]
    try:
        while running:
            time.sleep(0.05)
            for one in list(running):
                one.look(deadline)
                if not one.left:
                    running.remove(one)
    finally:
        for one in running:
            one.stop()


class _Running:
    """A worker at work."""

    def __init__(self, worker: Worker, program: list[str], scratch: Path) -> None:
        self.worker, self.program, self.scratch = worker, program, scratch
        self.left, self.number = list(worker.rows), 0
        self.start()

    def start(self) -> None:
        """Start a process for the rows that are left."""
        self.number += 1
        name = "-".join([*self.worker.words, str(self.number)]).replace("/", "-").strip("-")
        self.report = self.scratch / f"{name}.jsonl"
        self.errors = self.scratch / f"{name}.log"
        self.report.unlink(missing_ok=True)
        command = [*self.program, *self.worker.words, "--report", str(self.report), "--rows"]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *self.left],
                stdout=errors,
                stderr=errors,
                env={**os.environ, **self.worker.environment},
                start_new_session=True,
            )
        self.row, self.began, self.seen = None, time.monotonic(), 0

    def look(self, deadline: float) -> None:
        """Keep what came, and see to a process that ended or takes too long."""
        ended = self.process.poll() is not None  # before reading: what it wrote last counts
        self.read()
        now = time.monotonic()
        if not self.left:
            self.stop()
        elif now > deadline:
            self.stop()
            for row in list(self.left):
                self.finish(row, {"status": "not run", "reason": "the time of its part was up"})
        elif ended:
            code = self.process.returncode
            self.give_up(f"its process ended with {code}: {self.last_words()}")
        elif now - self.began > self.worker.seconds:
            self.stop()
            self.give_up(f"no end within {self.worker.seconds:g} s")

    def read(self) -> None:
        """Keep the results that were written since."""
        lines = self.report.read_text(encoding="utf-8").split("\n") if self.report.is_file() else []
        for line in lines[self.seen : -1]:  # the last one may be half written
            self.seen += 1
            said = json.loads(line)
            self.row, self.began = said["row"], time.monotonic()
            if "found" in said:
                self.finish(said["row"], said["found"])
                self.row = None

    def give_up(self, reason: str) -> None:
        """Note why the row at hand failed, all if none was begun; go on with the next one."""
        failed = [self.row] if self.row else [] if self.seen else list(self.left)
        for row in failed:
            self.finish(row, {"status": "failed", "reason": short(reason)})
        if self.left:
            self.start()

    def finish(self, row: str, found: dict) -> None:
        """Hand a result on."""
        self.left.remove(row)
        self.worker.keep(row, found)

    def stop(self) -> None:
        """End the process and those that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def last_words(self) -> str:
        """Return the last line that the process said."""
        lines = self.errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
