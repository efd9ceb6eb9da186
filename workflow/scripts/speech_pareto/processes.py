"""Which of a job's processes this is; a job has one for each of its GPUs, see `launch`.

Nothing here needs torch: whatever logs or keeps files asks.
"""

import os


def started() -> bool:
    """Return whether this is one of the processes that `launch` has started."""
    return "LOCAL_RANK" in os.environ


def first() -> bool:
    """Return whether this process is the one that writes: of several, number 0."""
    return int(os.environ.get("RANK", 0)) == 0


def threads(number: int) -> int:
    """Return how many of a job's `number` threads are this process's own, at least one."""
    return max(1, number // int(os.environ.get("WORLD_SIZE", 1)))
