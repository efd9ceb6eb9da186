"""Measure what each part of each layer of a teacher is worth, on validation audio, untrained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from speech_pareto.data.batches import collate
from speech_pareto.models.backbone import load
from speech_pareto.profiling.model_analysis import recordings
from speech_pareto.profiling.part_damages import measure
from speech_pareto.runtime import result
from speech_pareto.runtime.hardware import device
from speech_pareto.tasks.task import TaskModel, embeds, load_task_model

BATCH = 8  # utterances


def main(
    model: str | Path,
    corpora: Sequence,
    run: Mapping,
    output: str | Path,
    levels: Sequence[float],
    bits: Sequence[int],
    seconds: float,
    task: Mapping | None = None,
) -> None:
    """Write the damages (JSON) of a teacher's parts: `rows` as `part_damages.measure` gives them.

    `run` names the teacher and its scope. `damage` says what is compared: the posteriors of the
    `task`, if the teacher has a head for it that gives any, else hidden states. A folder without a
    model gives its `status` and no rows.
    """
    found: dict = {"run": dict(run), "damage": "state", "seconds": 0.0, "rows": []}
    if status := result.read_status(model):
        result.write_json(output, found | status)
        return
    backbone, posteriors = load(model).requires_grad_(False), None
    loaded = load_task_model(dict(task), backbone, model) if task else None
    if loaded and not embeds(loaded[1]):
        posteriors = posteriors_of(loaded[0].eval().to(device()))
        found["damage"] = "posteriors"
    utterances = recordings(corpora, seconds)
    found["seconds"] = round(sum(own.seconds for own in utterances), 3)
    normalize = backbone.preprocessor["do_normalize"]
    batches = list(batched(utterances, normalize))
    found["rows"] = measure(backbone.eval().to(device()), batches, levels, bits, posteriors)
    result.write_json(output, found)


def batched(utterances: Sequence, normalize: bool) -> Iterator[dict[str, Tensor]]:
    """Yield batches of utterances of like length, as a backbone takes them."""
    ordered = sorted(utterances, key=lambda own: (own.samples, own.id))
    for begin in range(0, len(ordered), BATCH):
        waves, mask = collate([x.wave() for x in ordered[begin : begin + BATCH]], normalize)
        yield {"input_values": waves, "attention_mask": mask}


def posteriors_of(task_model: TaskModel) -> Callable[[nn.Module, Mapping[str, Tensor]], Tensor]:
    """Return what gives the log-probabilities (frames, outputs) of a task for any backbone."""

    def posteriors(backbone: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        task_model.backbone = backbone
        logits, frames = task_model(batch["input_values"], batch["attention_mask"])
        real = torch.arange(logits.shape[1], device=logits.device) < frames[:, None]
        return logits[real].double().log_softmax(-1)

    return posteriors


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        main(
            model=snakemake.input.model,
            corpora=list(snakemake.input.corpora),
            run=dict(snakemake.wildcards.items()),
            output=snakemake.output[0],
            task=snakemake.params.job["task"],
            **snakemake.params.job["asked"],
        )
