"""Train a supernet of a teacher: all nested sizes at once, of which students are cut later."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from speech_pareto.compression import recipes
from speech_pareto.compression.method import Context
from speech_pareto.compression.runner import listener, trainer
from speech_pareto.models.backbone import load
from speech_pareto.models.model_folder import read_config
from speech_pareto.models.readout import write
from speech_pareto.runtime import provenance
from speech_pareto.runtime.hardware import device
from speech_pareto.runtime.processes import first
from speech_pareto.runtime.result import read_status, to_text, write_status
from speech_pareto.training.loop import Diverged

log = logging.getLogger(__name__)


def main(
    method: Mapping,
    seed: int,
    model: str | Path,
    corpora: Sequence,
    run: Mapping,
    output: str | Path,
    state: str | Path | None = None,
    precision: str = "auto",
    threads: int | None = None,
    accumulate: int = 1,
) -> None:
    """Write the supernet of the model folder `model` to the folder `output`.

    `method` is {name: settings}, `state` a folder for checkpoints, `accumulate` the pieces that a
    batch is cut into. A teacher that the method cannot take, or a training that diverges or finds
    too little memory, leaves its status. Of several processes the first one writes.
    """
    if status := read_status(model):
        write_status(output, **status)
        return
    step: Any = recipes.make(method)
    if reason := step.obstacle(read_config(model)):
        write_status(output, "infeasible", reason)
        return
    torch.set_num_threads(threads or torch.get_num_threads())
    torch.use_deterministic_algorithms(True, warn_only=True)
    teacher = load(model).requires_grad_(False).to(device())
    train = partial(trainer(corpora, seed, state, precision, accumulate), averages=step.averages)
    context = Context(seed, teacher, train, listener(corpora, teacher, seed))
    try:
        supernet = step.grow(load(model), context)
    except (Diverged, torch.OutOfMemoryError) as error:
        kind = "diverged" if isinstance(error, Diverged) else "out_of_memory"
        log.warning("%s", error)
        write_status(output, kind, str(error))
        supernet = None
    if supernet and first():
        facts = {"run": dict(run), "method": dict(method), "meta": provenance.meta(seed=seed)}
        texts = {"provenance.json": to_text(facts), "README.md": card(facts)}
        write(supernet, output, texts)
    if state and first():
        shutil.rmtree(state, ignore_errors=True)


def card(facts: Mapping) -> str:
    """Return a supernet's model card."""
    run, (name,) = facts["run"], facts["method"]
    return f"""---
library_name: transformers
tags: [speech, model-compression, {name}]
---
# Supernet of {run.get("teacher", "teacher")}, by {name}

It has the teacher's size; the students of recipe {run.get("recipe", "a recipe")} are cut from it,
whatever their ratio, without further training. Made by Speech Pareto; `provenance.json` holds
settings, commit and versions. The licence is that of the teacher and of its training data.
"""


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.launch import spread
    from speech_pareto.runtime.log import logged
    from speech_pareto.runtime.processes import threads as own_threads
    from speech_pareto.runtime.store import stored

    job, gpus = snakemake.params.job, snakemake.resources.get("gpu")
    with logged(snakemake.log[0]), reserved(gpus):
        stored(
            snakemake,
            spread(main, gpus, job["accumulate"]),
            **{key: job[key] for key in ("method", "precision", "accumulate")},
            run=snakemake.params.run,
            state=snakemake.params.state,
            seed=int(snakemake.wildcards.seed),
            model=snakemake.input.model,
            corpora=list(snakemake.input.corpora),
            output=snakemake.output[0],
            threads=own_threads(snakemake.threads),
        )
