"""Several processes for one job, one for each of its GPUs; without GPUs they share the processor.

The job's own script is started once more for each process, by torch's launcher, which sets RANK,
LOCAL_RANK and WORLD_SIZE as accelerate reads them. All do the same but for their share of each
batch, see `training`; process 0 alone writes. Nothing here needs torch in a job of one process.
"""

import logging
import os
import sys
from collections.abc import Callable

PATIENCE = 300  # seconds that processes have to save their state after SIGTERM
log = logging.getLogger(__name__)


def started() -> bool:
    """Return whether this is one of the processes that `launch` has started."""
    return "LOCAL_RANK" in os.environ


def first() -> bool:
    """Return whether this process is the one that writes: of several, number 0."""
    return int(os.environ.get("RANK", 0)) == 0


def threads(number: int) -> int:
    """Return how many of a job's `number` threads are this process's own, at least one."""
    return max(1, number // int(os.environ.get("WORLD_SIZE", 1)))


def spread(make: Callable[..., None], number: int | None, pieces: int) -> Callable[..., None]:
    """Return `make` for a job of `number` GPUs (its resource `gpu`; None: it asks for none).

    Of several GPUs, calling it starts this script again in as many processes, which all call
    `make`. `pieces` is the setting `accumulate`: how many pieces batches are cut into; ValueError
    if a process would get none.
    """
    if started() or not number or number < 2:
        return make
    if number > pieces:
        raise ValueError(
            f"the job has {number} GPUs, but `accumulate` is {pieces}: set it to {number} or more "
            "where the config says how this job trains, or ask for fewer GPUs"
        )
    return lambda *arguments, **settings: launch(number)


def launch(number: int) -> None:
    """Run this script in `number` processes and wait for them.

    SystemExit with 143 if they were told to end and saved their state, with 1 if one failed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the script itself says how many
    log.info("%d processes", number)
    options = ["--standalone", f"--nproc-per-node={number}", f"--shutdown-timeout={PATIENCE}"]
    try:
        main([*options, *sys.argv])
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        sys.exit(143 if codes == {143} else 1)
