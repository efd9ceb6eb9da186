"""Which of a job's processes this is; a job has one for each of its GPUs, see `launch`.

Only what `launch` has started counts. A job that runs below another program's launcher (torchrun,
accelerate, mpirun, srun) inherits variables that say it is one of many; it is alone all the same.
Nothing here needs torch: whatever logs or keeps files asks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

LAUNCHER = "SPEECH_PARETO_LAUNCHER"  # the number of the process that `launch` runs in
# Asked once: a launcher that dies must not turn those that it left into many first processes.
LAUNCHED = os.environ.get(LAUNCHER) == str(os.getppid())
# What launchers tell the processes that they start.
TOLD = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK"),
    *("GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR"),
    *("MASTER_PORT", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)
PREFIXES = ("PMI_", "PMIX_", "OMPI_", "MV2_", "TORCHELASTIC_", "PET_", "ACCELERATE_")


def started() -> bool:
    """Return whether this is one of the processes that `launch` has started."""
    return LAUNCHED


def first() -> bool:
    """Return whether this process is the one that writes: of several, number 0."""
    return not LAUNCHED or int(os.environ["RANK"]) == 0


def local() -> int:
    """Return the number of this process on its machine, which is that of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if LAUNCHED else 0


def threads(number: int) -> int:
    """Return how many of a job's `number` threads are this process's own, at least one."""
    return max(1, number // int(os.environ["WORLD_SIZE"])) if LAUNCHED else number


@contextmanager
def alone() -> Iterator[None]:
    """Hide for a while what other launchers told this process; nothing if `launch` started it."""
    told = {} if LAUNCHED else {k: v for k, v in os.environ.items() if _told(k)}
    for key in told:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(told)


def _told(key: str) -> bool:
    """Return whether a variable is one that launchers set."""
    return key in TOLD or key.startswith(PREFIXES)
