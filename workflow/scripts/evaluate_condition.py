"""Score a fine-tuned model in a condition: recordings in noise, in a room, behind a codec.

Everything else is as `evaluate` has it. Of tasks that compare two recordings, both are so heard.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from evaluate import SPLITS, score
from speech_pareto.data.heard import heard
from speech_pareto.data.selection import needed
from speech_pareto.models.backbone import load
from speech_pareto.runtime import result
from speech_pareto.runtime.provenance import meta
from speech_pareto.tasks.hypotheses import write_table
from speech_pareto.tasks.task import Task, TaskModel, embeds, load_task_model
from speech_pareto.training.inference import compare, transcribe
from speech_pareto.training.loop import Diverged

log = logging.getLogger(__name__)


def main(
    task: dict,
    condition: Sequence[Mapping],
    model: str | Path,
    corpora: list,
    run: dict,
    output: str | Path,
    hypotheses: str | Path,
    digests: dict | None = None,
) -> None:
    """Write metrics (JSON) and one row per utterance (TSV) of the model in the folder `model`.

    `condition` lists the changes of recordings, see `data/condition.py`; `run` names the cell and
    the condition.  A cell without a model is written with its status and an empty table.
    """
    status, metrics, rows, metric = result.read_status(model), {}, [], None
    if not status:
        task_model, definition = load_task_model(task, load(model), model)
        metric = {"name": task["metric"], "better": definition.METRICS[task["metric"]]}
        data = heard(needed(task, definition, corpora, *SPLITS)[0], condition)
        try:
            for split in SPLITS:
                own = [utterance for utterance in data if utterance.split == split]
                metrics[split], scored = answers(task_model, definition, own, task)
                rows += scored
        except Diverged as error:
            log.warning("%s: %s", model, error)
            status, metrics, rows = {"status": "diverged", "reason": str(error)}, {}, []
            metric = None
    write_table(hypotheses, rows)
    about = meta(run["seed"], torch.get_num_threads(), digests)
    scores = {"metrics": metrics.get("test"), "valid_metrics": metrics.get("valid")}
    result.write(output, result.compose(run, about, metric=metric, status=status, **scores))


def answers(model: TaskModel, definition: Task, data: list, task: dict) -> tuple[dict, list]:
    """Return metrics and rows of the utterances, or trials, of a split."""
    arithmetic = task.get("precision", "auto")
    if embeds(definition):
        trials, scores = compare(model, definition, data, arithmetic)
        return definition.score_trials(trials, scores, data)
    (guesses,) = transcribe(model, definition, data, arithmetic)
    return score(definition, data, guesses)


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]), reserved(snakemake.resources.get("gpu")):
        torch.set_num_threads(snakemake.threads)
        main(
            task=snakemake.params.job["task"],
            condition=snakemake.params.job["condition"],
            model=snakemake.input.model,
            corpora=list(snakemake.input.corpora),
            run=snakemake.params.run,
            output=snakemake.output.metrics,
            hypotheses=snakemake.output.hypotheses,
            digests=snakemake.params.job["code"],
        )
