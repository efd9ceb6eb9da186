"""Turn a teacher into a student: walk a recipe until the asked share of parameters is gone."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from speech_pareto.compression import recipes, targets
from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.compression.runner import listener, memory, trainer
from speech_pareto.models import architecture
from speech_pareto.models.model_folder import read_config
from speech_pareto.runtime import provenance
from speech_pareto.runtime.processes import first
from speech_pareto.runtime.result import read_status, to_text, write_status
from speech_pareto.tasks.head import HEAD, hand_on_head

log = logging.getLogger(__name__)


def main(
    recipe: Sequence,
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
    target: Mapping | None = None,
    supernet: str | Path | None = None,
) -> None:
    """Write the student of the model folder `model` to the folder `output`.

    `corpora`, `state` (checkpoints) and `accumulate` (pieces that a batch is cut into) are for
    methods that train, `task` for those that fine-tune on a task: the head that they train is
    written beside the student. `supernet` is the folder of one from which the first method cuts the
    student, where it has trained that for all ratios. Of several processes the first one writes. A
    recipe that cannot reach `ratio`, or the `target` it stands for, leaves its status and the ratio
    it could reach, found before anything heavy is loaded.
    """
    if status := read_status(model):
        write_status(output, **status)
        return
    methods, config = recipes.make_all(recipe), read_config(model)
    planned = recipes.walk(methods, config, ratio, target=target)
    if planned.reason:
        log.warning("%s", planned.reason)
        reachable = None if target else round(planned.ratio, 4)
        write_status(output, "infeasible", planned.reason, reachable)
        return
    if supernet and (status := read_status(supernet)):
        write_status(output, **status)
        return

    import torch

    from speech_pareto.models.backbone import describe, load, save
    from speech_pareto.models.readout import read
    from speech_pareto.runtime.hardware import device
    from speech_pareto.training.loop import Diverged

    torch.set_num_threads(threads or torch.get_num_threads())
    torch.use_deterministic_algorithms(True, warn_only=True)
    cost = partial(targets.cost, target) if target else architecture.remaining
    student, context, train = load(model), Context(seed, cost=cost), None
    learners = methods[1:] if supernet else methods
    if any(method.needs in ("audio", "training") for method in learners):
        teacher = load(model).requires_grad_(False).to(device())
        train = trainer(corpora, seed, state, precision, accumulate)
        batches = listener(corpora, teacher, seed)
        context = Context(seed, teacher, train, batches, remember=memory(state), cost=cost)
    if supernet:
        context = replace(context, supernet=read(supernet))
    tune = None
    if tuning := [method for method in methods if method.needs == "task"]:
        tune = tuning[0].tuner(task, model, corpora, seed, state, precision, accumulate)
        context = replace(context, tune=tune)

    def apply(method: Method, sizing: Sizing) -> dict:
        nonlocal student
        own = partial(train, averages=method.averages) if train else context.train
        student = method.compress(student, sizing, replace(context, train=own))
        return describe(student)

    try:
        solution = recipes.walk(methods, config, ratio, apply, target)
    except (Diverged, torch.OutOfMemoryError) as error:
        kind = "diverged" if isinstance(error, Diverged) else "out_of_memory"
        log.warning("%s", error)
        write_status(output, kind, str(error))
        solution = None
    if solution and first():
        facts = describe_student(run, recipe, solution, config, seed)
        teacher = f"{facts['teacher_parameters']:,}"
        log.info("%.4f of %s parameters removed", solution.ratio, teacher)
        if solution.reason:  # it was planned to reach what was asked; its true costs count
            log.warning("%s", solution.reason)
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


def describe_student(
    run: Mapping, recipe: Sequence, solution: recipes.Solution, teacher: Mapping, seed: int
) -> dict:
    """Return what `provenance.json` says of a student; no time, so that bytes repeat."""
    return {
        "run": dict(run),
        "recipe": list(recipe),
        "knobs": [sizing.knobs for sizing in solution.sizings],
        "ratio": round(solution.ratio, 6),
        "parameters": architecture.count(solution.config)["total"],
        "parameters_counted": architecture.remaining(solution.config),
        "teacher_parameters": architecture.remaining(teacher),
        "meta": provenance.meta(seed=seed),
    }


def card(facts: Mapping) -> str:
    """Return a student's model card."""
    run = facts["run"]
    name = run.get("recipe", "a recipe")
    zeros = facts["parameters"] - facts["parameters_counted"]
    note = f" ({zeros:,} more are stored, as zeros)" if zeros else ""
    return f"""---
library_name: transformers
tags: [speech, model-compression, {name}]
---
# {run.get("teacher", "teacher")}, compressed by {name}

{facts["parameters_counted"]:,} of {facts["teacher_parameters"]:,} parameters are left{note}:
{facts["ratio"]:.1%} of the backbone is gone, {run.get("ratio", facts["ratio"])} was asked,
seed {facts["meta"]["seed"]}.

```json
{json.dumps(facts["recipe"], sort_keys=True)}
```

Load it with `from speech_pareto import load`; if `config.json` has no section `compression`,
plain `transformers.AutoModel.from_pretrained` does it too. Made by Speech Pareto; `provenance.json`
holds commit, versions and each method's decisions. The licence is that of the teacher and of its
training data.
"""


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.launch import spread
    from speech_pareto.runtime.log import logged
    from speech_pareto.runtime.processes import threads as own_threads
    from speech_pareto.runtime.store import stored

    job, gpus = snakemake.params.job, snakemake.resources.get("gpu")
    with logged(snakemake.log[0]), reserved(gpus):
        supernet = snakemake.input.get("supernet") or None
        learners = recipes.make_all(job["recipe"])[1 if supernet else 0 :]
        trains = any(method.training_steps() for method in learners)
        stored(
            snakemake,
            spread(main, gpus if trains else 1, job["accumulate"]),
            **{key: job[key] for key in ("recipe", "precision", "task", "accumulate")},
            target=snakemake.params.target,
            supernet=supernet,
            run=snakemake.params.run,
            state=snakemake.params.state,
            ratio=float(snakemake.wildcards.ratio),
            seed=int(snakemake.wildcards.seed),
            model=snakemake.input.model,
            corpora=list(snakemake.input.get("corpora") or []),
            output=snakemake.output[0],
            threads=own_threads(snakemake.threads),
        )
