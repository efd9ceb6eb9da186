"""Turn a teacher into a student: walk a recipe until the asked share of parameters is gone."""

import importlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from speech_pareto import architecture, method, provenance
from speech_pareto.head import HEAD, hand_on_head
from speech_pareto.model_folder import read_config
from speech_pareto.processes import first
from speech_pareto.result import read_status, to_text, write_status

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

log = logging.getLogger(__name__)


def main(
    steps: Sequence,
    ratio: float,
    seed: int,
    model: str | Path,
    corpora: Sequence,
    run: Mapping,
    output: str | Path,
    state: str | Path | None = None,
    precision: str = "auto",
    threads: int | None = None,
    task: Mapping | None = None,
    accumulate: int = 1,
) -> None:
    """Write the student of the model folder `model` to the folder `output`.

    `corpora`, `state` (checkpoints) and `accumulate` (pieces that a batch is cut into) are for
    steps that train, `task` for those that fine-tune on a task: the head that they train is written
    beside the student. Of several processes the first one writes. A recipe that cannot reach
    `ratio` leaves its status and the ratio it could reach, found before anything heavy is loaded.
    """
    if status := read_status(model):
        write_status(output, **status)
        return
    methods, config = method.make_all(steps), read_config(model)
    planned = method.walk(methods, config, ratio)
    if planned.reason:
        log.warning("%s", planned.reason)
        write_status(output, "infeasible", planned.reason, round(planned.ratio, 4))
        return

    import torch

    from speech_pareto.model import describe, load, save
    from speech_pareto.training import Diverged, device

    torch.set_num_threads(threads or torch.get_num_threads())
    torch.use_deterministic_algorithms(True, warn_only=True)
    student, context, train = load(model), method.Context(seed), None
    if any(map(method.learns, methods)):
        teacher = load(model).requires_grad_(False).to(device())
        train = trainer(corpora, seed, state, precision, accumulate)
        batches = listener(corpora, teacher, seed)
        context = method.Context(seed, teacher, train, batches)
    tune = None
    if any(step.task_aware for step in methods):
        tune = tuner(task, model, corpora, seed, state, precision, accumulate)
        context = replace(context, tune=tune)

    def apply(step: method.Method, plan: method.Plan) -> dict:
        nonlocal student
        own = train and partial(train, averages=step.averages)
        student = step.compress(student, plan, replace(context, train=own))
        return describe(student)

    try:
        solution = method.walk(methods, config, ratio, apply)
    except (Diverged, torch.OutOfMemoryError) as error:
        kind = "diverged" if isinstance(error, Diverged) else "out_of_memory"
        log.warning("%s", error)
        write_status(output, kind, str(error))
        solution = None
    if solution and first():
        facts = describe_student(run, steps, solution, config, seed)
        log.info(
            "%.4f of %s parameters removed", solution.ratio, f"{facts['teacher_parameters']:,}"
        )
        texts = {"provenance.json": to_text(facts), "README.md": card(facts)}
        save(student.eval(), output, texts=texts)
        source = Path(model) / HEAD
        if tune:
            tune.save_head(output)
            source = Path(output) / HEAD
        if source.is_file():
            hand_on_head(source, student, Path(output) / HEAD)
    if state and first():
        shutil.rmtree(state, ignore_errors=True)


def batcher(
    corpora: Sequence, model: "Module", seconds: float, seed: int
) -> Callable[[int], dict[str, "Tensor"]]:
    """Return a function from step to batch: `seconds` of audio from the corpora's training split.

    A batch has `input_values` and `attention_mask`, both (batch, samples), as `model` wants them.
    """
    import numpy as np

    from speech_pareto.audio import SAMPLE_RATE
    from speech_pareto.corpus import read
    from speech_pareto.training import Epochs, collate

    utterances = [u for folder in corpora for u in read(folder) if u.split == "train"]
    if not utterances:
        raise ValueError(f"no training utterance in {', '.join(map(str, corpora)) or 'no corpora'}")
    lengths = np.array([u.samples for u in utterances])
    epochs = Epochs(lengths, int(seconds * SAMPLE_RATE), seed)
    normalize = model.preprocessor["do_normalize"]

    def batch(step: int) -> dict:
        waves, mask = collate([utterances[i].wave() for i in epochs(step)], normalize)
        return {"input_values": waves, "attention_mask": mask}

    return batch


def listener(corpora: Sequence, model: "Module", seed: int) -> Callable[[int, float], list]:
    """Return `batches(number, seconds)`: the same batches of audio each time, for calibration."""

    def batches(number: int, seconds: float) -> list[dict]:
        batch = batcher(corpora, model, seconds, seed)
        return [batch(step) for step in range(number)]

    return batches


def trainer(
    corpora: Sequence, seed: int, state: str | Path | None, precision: str, accumulate: int = 1
) -> Callable[..., None]:
    """Return `train(student, loss, **settings)`: the one loop on the corpora's training split.

    Each call in a recipe has its own batches and its own checkpoint.
    """
    from speech_pareto.calibration import real_frames
    from speech_pareto.training import Training
    from speech_pareto.training import train as run_loop

    calls = 0

    def train(
        student,
        loss: Callable,
        follow: Callable[[float], None] | None = None,
        averages: str = "frames",
        **settings,
    ) -> None:
        nonlocal calls
        calls += 1
        training = Training(**{"precision": precision, "accumulate": accumulate, **settings})
        batch = batcher(corpora, student, training.batch_seconds, seed + calls)
        folder = Path(state) / f"step{calls}" if state else None
        backbone = getattr(student, "backbone", student)

        def frames(batch: dict) -> "Tensor":
            return real_frames(backbone, batch).sum()

        augment = student.config.apply_spec_augment
        student.config.apply_spec_augment = False  # teacher and student get the same input
        try:
            run_loop(
                student,
                lambda step, generator: batch(step),
                lambda batch: (loss(batch), {}),
                training,
                seed + calls,
                folder,
                "compress",
                frames if averages == "frames" else None,
                follow,
            )
        finally:
            student.config.apply_spec_augment = augment

    return train


def tuner(*arguments) -> Callable[..., None]:
    """Return `tune` of a `Context`; loaded by name, so that other recipes do not depend on it."""
    return importlib.import_module("speech_pareto.tuning").Tuner(*arguments)


def describe_student(
    run: Mapping, steps: Sequence, solution: method.Solution, teacher: Mapping, seed: int
) -> dict:
    """Return what `provenance.json` says of a student; no time, so that bytes repeat."""
    return {
        "run": dict(run),
        "steps": list(steps),
        "knobs": [plan.knobs for plan in solution.plans],
        "ratio": round(solution.ratio, 6),
        "parameters": architecture.count(solution.config)["total"],
        "parameters_counted": architecture.remaining(solution.config),
        "teacher_parameters": architecture.remaining(teacher),
        "meta": provenance.meta(seed=seed),
    }


def card(facts: Mapping) -> str:
    """Return a student's model card."""
    run = facts["run"]
    recipe = run.get("recipe", "a recipe")
    zeros = facts["parameters"] - facts["parameters_counted"]
    note = f" ({zeros:,} more are stored, as zeros)" if zeros else ""
    return f"""---
library_name: transformers
tags: [speech, model-compression, {recipe}]
---
# {run.get("teacher", "teacher")}, compressed by {recipe}

{facts["parameters_counted"]:,} of {facts["teacher_parameters"]:,} parameters are left{note}:
{facts["ratio"]:.1%} of the backbone is gone, {run.get("ratio", facts["ratio"])} was asked,
seed {facts["meta"]["seed"]}.

```json
{json.dumps(facts["steps"], sort_keys=True)}
```

Load it with `from speech_pareto.model import load`; if `config.json` has no section `compression`,
plain `transformers.AutoModel.from_pretrained` does it too. Made by Speech Pareto; `provenance.json`
holds commit, versions and each step's decisions. The licence is that of the teacher and of its
training data.
"""


if "snakemake" in globals():
    from speech_pareto.gpu import reserved
    from speech_pareto.launch import spread
    from speech_pareto.log import logged
    from speech_pareto.processes import threads as own_threads
    from speech_pareto.store import stored

    job, gpus = snakemake.params.job, snakemake.resources.get("gpu")
    with logged(snakemake.log[0]), reserved(gpus):
        trains = any(step.training_steps() for step in method.make_all(job["steps"]))
        stored(
            snakemake,
            spread(main, gpus if trains else 1, job["accumulate"]),
            **{key: job[key] for key in ("steps", "precision", "task", "accumulate")},
            run=snakemake.params.run,
            state=snakemake.params.state,
            ratio=float(snakemake.wildcards.ratio),
            seed=int(snakemake.wildcards.seed),
            model=snakemake.input.model,
            corpora=list(snakemake.input.get("corpora") or []),
            output=snakemake.output[0],
            threads=own_threads(snakemake.threads),
        )
