"""What Snakemake leaves undone: jobs of a killed run, the signal to save, its own haste.

The Snakefile uses it; no job's code depends on it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

LOGS = Path(".snakemake/log")
LOCKS = Path(".snakemake/locks")
RUN_ID = re.compile(r"^SLURM run ID: (\S+)$", re.M)
# What a call of Snakemake does instead of computing, as it names its own settings.
QUERIES = (
    *("archive", "cleanup_metadata", "cleanup_shadow", "conda_cleanup_envs"),
    *("conda_create_envs_only", "container_cleanup_images", "containerize", "d3dag", "dag"),
    *("delete_all_output", "delete_temp_output", "detailed_summary", "dryrun", "filegraph"),
    *("generate_unit_tests", "lint", "list_changes", "list_conda_envs", "list_input_changes"),
    *("list_params_changes", "list_rules", "list_target_rules", "list_untracked"),
    *("print_compilation", "report", "rulegraph", "summary", "touch", "unlock"),
)


def computes(arguments: Sequence[str]) -> bool:
    """Return whether Snakemake, called with these arguments, runs jobs.

    Its own parser decides.  What it does not understand (another program may have loaded the
    workflow) is taken for a query, which touches nothing.
    """
    from snakemake.cli import parse_args

    try:
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            _, settings = parse_args(list(arguments))
    except (Exception, SystemExit):
        return False
    return not any(getattr(settings, name, None) not in (None, False) for name in QUERIES)


def settle_earlier_jobs(seconds: float = 5) -> None:
    """Wait for the Slurm jobs, and stop the processes, that a killed Snakemake left in this folder.

    This Snakemake does not know them: it would do the same again, and two would write the same
    files. Slurm jobs keep Snakemake's books themselves; their results are found when they have
    ended, so this runs before anything is planned. Processes of a local run do not: what they made
    would be made again. So they are told to end; training saves its state and goes on from it.
    As long as Snakemake's lock is there, the other one may be alive: then Snakemake refuses to run.
    """
    if _locked():
        return
    names, known = run_ids() if shutil.which("squeue") else set(), None
    if not (names or orphans(Path.cwd())) or not computes(sys.argv[1:]):
        return
    while names and (jobs := jobs_of(names)) != []:
        if jobs != known:
            sys.stderr.write(_waiting(jobs) + "\n")
        known = jobs
        time.sleep(seconds)
    told = set()
    while pids := orphans(Path.cwd()):
        if new := pids - told:
            named = ", ".join(map(str, sorted(new)))
            sys.stderr.write(
                f"Ending processes that a killed Snakemake left in this folder ({named}).\n"
                "Trainings save their state, and this run goes on from there.\n"
            )
        for pid in new:
            with suppress(OSError):  # it has ended, or is another user's
                os.kill(pid, signal.SIGTERM)
        told |= pids
        time.sleep(0.2)


def run_ids(folder: Path = LOGS) -> set[str]:
    """Return the names that earlier runs in this folder gave their Slurm jobs, from their logs."""
    texts = (file.read_text(errors="replace") for file in sorted(folder.glob("*.log")))
    return {name for text in texts for name in RUN_ID.findall(text)}


def jobs_of(names: set[str]) -> list[str] | None:
    """Return the ids of Slurm jobs with these names that wait or run; None if Slurm is silent."""
    command = ["squeue", "--noheader", "--all", "--format=%i %j"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    rows = [line.split() for line in done.stdout.splitlines()]
    return sorted(row[0] for row in rows if row[-1] in names)


def orphans(folder: Path) -> set[int]:
    """Return the pids of scripts of this folder that no Snakemake waits for any more (Linux)."""
    scripts, found = f"{folder}/.snakemake/scripts/", set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            words = _words(process)[1:3]  # one of several processes was started by `python -u`
            runs_script = any(word.startswith(scripts) for word in words)
            if runs_script and not _has_snakemake_above(process):
                found.add(int(process.name))
    return found


def _words(process: Path) -> list[str]:
    """Return the command line of a process."""
    return (process / "cmdline").read_text(errors="replace").split("\0")


def _has_snakemake_above(process: Path) -> bool:
    """Return whether a process was started by a Snakemake that is still there."""
    while process.name not in ("0", "1"):
        parent = (process / "stat").read_text(errors="replace").rpartition(") ")[2].split()[1]
        process = process.with_name(parent)
        if parent != "0" and any(Path(word).name == "snakemake" for word in _words(process)):
            return True
    return False


def _waiting(jobs: list[str] | None) -> str:
    """Return what the user should know while nothing happens."""
    if jobs is None:
        return "squeue does not answer: no telling whether an earlier run's jobs still work here."
    return (
        "Waiting for Slurm jobs that an earlier run left at work in this folder. To stop them\n"
        f"instead (training will go on from its checkpoints): scancel {' '.join(jobs)}"
    )


def _locked() -> bool:
    """Return whether Snakemake's lock lies in this folder."""
    return LOCKS.is_dir() and any(LOCKS.iterdir())


def pass_on_sigterm() -> None:
    """In a step of a Slurm job, hand SIGTERM on to the job's own processes.

    Slurm sends it to the step's first process alone, Snakemake, which then waits for the job to
    end; so training would never be told to save its state. Snakemake's own handler stays.
    """
    if "SLURM_STEP_ID" not in os.environ:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)  # gets each signal, whichever handler runs

    def listen() -> None:
        while True:
            if signal.SIGTERM in os.read(reader, 16):
                for pid in descendants(os.getpid()):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)

    threading.Thread(target=listen, daemon=True).start()


def descendants(pid: int) -> list[int]:
    """Return the pids of a process's children, their children and so on (Linux)."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            found += [child, *descendants(child)]
    return found


def look_for_jobs_once() -> None:
    """Let Snakemake's scheduler look for jobs once a second, however many have ended.

    Since it limits how many jobs start in a second, each look sets a clock for the next (Snakemake
    9.27). Each job that ends makes it look, too, and so adds a clock that is set ever after: after
    a few hundred jobs it looks all the time, which takes a core from a laptop or a login node.
    """
    try:
        from snakemake.scheduling.job_scheduler import JobScheduler
    except ImportError:  # another version of Snakemake: it may look as often as it likes
        return

    if not hasattr(JobScheduler, "_schedule_reevalutation"):  # spelt like that
        return

    def set_clock(scheduler: JobScheduler, seconds: float) -> None:
        clocks = vars(scheduler).setdefault("clocks", set())
        if seconds in clocks:
            return

        def ring() -> None:
            clocks.discard(seconds)
            scheduler._open_jobs.release()

        clocks.add(seconds)
        clock = threading.Timer(seconds, ring)
        clock.daemon = True
        clock.start()

    JobScheduler._schedule_reevalutation = set_clock
