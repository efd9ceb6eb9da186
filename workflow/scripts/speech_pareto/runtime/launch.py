"""Several processes for one job, one for each of its GPUs; without GPUs they share the processor.

The job's own script is started once more for each process, by torch's launcher, which sets RANK,
LOCAL_RANK and WORLD_SIZE as accelerate reads them. All do the same but for their share of each
batch, see `training`; process 0 alone writes. Such variables of any other launcher are not heeded,
see `processes`.
"""

import logging
import os
import sys
from collections.abc import Callable

from speech_pareto.runtime.processes import LAUNCHER, alone, started

PATIENCE = 300  # seconds that processes have to save their state after SIGTERM
log = logging.getLogger(__name__)


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
    os.environ[LAUNCHER] = str(os.getpid())
    log.info("%d processes", number)
    options = ["--standalone", f"--nproc-per-node={number}", f"--shutdown-timeout={PATIENCE}"]
    try:
        with alone():  # torch's launcher reads what another one told
            main([*options, *sys.argv])
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        sys.exit(143 if codes == {143} else 1)
