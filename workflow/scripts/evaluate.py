"""Score a fine-tuned model on a task's validation and test split, utterance by utterance.

Or pair by pair, of tasks that compare two.

Students are chosen by what they score on validation, and reported by what they score on test.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from speech_pareto.data.corpus import Utterance
from speech_pareto.data.selection import needed
from speech_pareto.models.backbone import load
from speech_pareto.runtime import result
from speech_pareto.runtime.provenance import meta
from speech_pareto.tasks.beam_search import BeamSearch
from speech_pareto.tasks.hypotheses import write_table
from speech_pareto.tasks.task import Task, TaskModel, embeds, load_task_model
from speech_pareto.training.inference import compare, transcribe
from speech_pareto.training.loop import Diverged

SPLITS = ("valid", "test")
log = logging.getLogger(__name__)


def main(
    task: dict,
    model: str | Path,
    corpora: list,
    run: dict,
    output: str | Path,
    hypotheses: str | Path,
    digests: dict | None = None,
    splits: Sequence[str] = SPLITS,
) -> None:
    """Write metrics (JSON) and one row per utterance (TSV) of the model in the folder `model`.

    `run` names the cell.  A cell without a model is written with its status and an empty table.
    Without `test` in `splits`, nothing looks at that split.
    """
    status, rows, metrics, weights = result.read_status(model), [], {}, None
    losses = {}
    directions = {}
    if not status:
        task_model, definition = load_task_model(task, load(model), model)
        directions = definition.METRICS
        arithmetic = task.get("precision", "auto")
        decoders = [definition.decode]
        if "language_model" in task:
            search = BeamSearch(task["language_model"], definition.symbols, task["unit"])
            decoders.append(search.decode)
        data, losses = needed(task, definition, corpora, *splits, also=("train",))
        try:
            for split in splits:
                own = [utterance for utterance in data if utterance.split == split]
                answers = task_model, definition, own, arithmetic
                if embeds(definition):
                    trials, scores = compare(*answers)
                    metrics[split], scored = definition.score_trials(trials, scores, own)
                else:
                    guesses, *searched = transcribe(*answers, decoders)
                    metrics[split], scored = score(definition, own, guesses)
                    for texts in searched:
                        metrics[split] |= with_language_model(definition, own, texts, scored)
                rows += scored
        except Diverged as error:
            log.warning("%s: %s", model, error)
            status, metrics, rows = {"status": "diverged", "reason": str(error)}, {}, []
        else:
            weights = layer_weights(task_model)
    metric = {"name": task["metric"], "better": directions[task["metric"]]} if metrics else None
    write_table(hypotheses, rows)
    provenance = meta(run["seed"], torch.get_num_threads(), digests)
    value = result.compose(
        run,
        provenance,
        metrics=metrics.get("test"),
        valid_metrics=metrics.get("valid"),
        metric=metric,
        status=status,
    )
    if not status:
        value["left_out"] = losses
    if weights:
        value["layer_weights"] = weights
    result.write(output, value)


def with_language_model(
    task: Task, data: list[Utterance], guesses: list[str], rows: list[dict]
) -> dict:
    """Return the scores of what a beam search found as `lm_{metric}`; add its texts to `rows`."""
    for row, guess in zip(rows, guesses, strict=True):
        row["with_lm"] = guess
    found = task.score([task.reference(u) for u in data], guesses)[0]
    return {f"lm_{name}": found[name] for name in task.METRICS if name in found}


def layer_weights(model: TaskModel) -> list[float] | None:
    """Return the weight of each hidden state in a probe's head, L + 1 shares, else None."""
    if model.protocol != "probe":
        return None
    return [round(share, 5) for share in model.layer_weights.detach().softmax(0).tolist()]


def score(task: Task, data: list[Utterance], guesses: list[str]) -> tuple[dict, list[dict]]:
    """Return the metrics over all, by corpus and by language, and a row per utterance."""
    references = [task.reference(u) for u in data]
    metrics, counts = task.score(references, guesses)
    for key in ("corpus", "language"):
        groups = defaultdict(list)
        for index, utterance in enumerate(data):
            groups[getattr(utterance, key)].append(index)
        metrics[f"by_{key}"] = {
            name: task.score([references[i] for i in group], [guesses[i] for i in group])[0]
            for name, group in sorted(groups.items())
        }
    metrics["utterances"] = len(data)
    metrics["reference_length"] = sum(count["length"] for count in counts)
    rows = [
        {"id": u.id, "corpus": u.corpus, "split": u.split, "reference": reference}
        | {"hypothesis": guess, **count}
        for u, reference, guess, count in zip(data, references, guesses, counts, strict=True)
    ]
    return metrics, rows


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]), reserved(snakemake.resources.get("gpu")):
        torch.set_num_threads(snakemake.threads)
        main(
            task=snakemake.params.job["task"],
            model=snakemake.input.model,
            corpora=list(snakemake.input.corpora),
            run=snakemake.params.run,
            output=snakemake.output.metrics,
            hypotheses=snakemake.output.hypotheses,
            digests=snakemake.params.job["code"],
            splits=snakemake.params.job["splits"],
        )
