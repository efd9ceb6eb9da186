"""Train and score one of SUPERB's tasks on a frozen student, in an environment with s3prl."""

import json
import os
import shutil
import subprocess
import sys
from importlib import util

from speech_pareto.runtime import source_digest

PYTHON = "SPEECH_PARETO_S3PRL"  # environment variable: the Python of an environment with s3prl


def interpreter() -> str:
    """Return the Python of an environment with s3prl: this one, `PYTHON`'s or that of `make s3prl`.

    RuntimeError if there is none.
    """
    if util.find_spec("s3prl"):
        return sys.executable
    made = source_digest.SCRIPTS.parents[1] / ".venv-s3prl" / "bin" / "python"
    own = os.environ.get(PYTHON, str(made))
    if not shutil.which(own):
        raise RuntimeError(
            f"s3prl is not installed: {own} is missing. Run `make s3prl`, name another Python in "
            f"{PYTHON}, or let conda make it: snakemake --software-deployment-method conda"
        )
    return own


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        python = interpreter()
    job = {
        "task": snakemake.params.job["task"],
        "model": snakemake.input.model,
        "data": snakemake.input.get("data"),
        "run": snakemake.params.run,
        "output": snakemake.output.metrics,
        "hypotheses": snakemake.output.hypotheses,
        "state": snakemake.params.state,
        "threads": snakemake.threads,
        "digests": snakemake.params.job["code"],
    }
    job = json.dumps({"log": snakemake.log[0], "job": job})
    with reserved(snakemake.resources.get("gpu")):
        command = [python, str(source_digest.SCRIPTS / "s3prl_trial.py")]
        raise SystemExit(subprocess.run(command, input=job, text=True).returncode)
