"""Fine-tune a student, or the teacher itself, on a task."""

import json
import logging
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from speech_pareto.corpus import credits
from speech_pareto.download import sha256
from speech_pareto.model import load, save
from speech_pareto.precision import trainable
from speech_pareto.provenance import meta
from speech_pareto.result import read_status, to_text, write_json, write_status
from speech_pareto.task import (
    FineTuning,
    TaskModel,
    load_task_model,
    make_task,
    save_head,
    utterances,
)
from speech_pareto.training import Diverged, Epochs, collate, span_mask, train

log = logging.getLogger(__name__)


def main(
    task: dict,
    training: dict,
    model: str | Path,
    corpora: list,
    seed: int,
    output: str | Path,
    state: str | Path | None = None,
    dtype: str = "float32",
) -> None:
    """Write the model of the folder `model`, fine-tuned on `task`, to the folder `output`.

    A head in `model` is trained on, otherwise a new one begins.  A model that could not be made,
    or that diverges, leaves a folder with its status.  `dtype` is the type of the stored weights.
    """
    output, settings = Path(output), FineTuning(**training)
    if status := read_status(model):
        write_status(output, **status)
        return
    torch.manual_seed(seed)
    backbone = load(model)
    with_head = load_task_model(task, backbone, model)
    if with_head:
        task_model, definition = with_head
        data = utterances(task, definition, corpora, "train")
    else:
        definition = make_task(task)
        data = utterances(task, definition, corpora, "train")
        definition.learn_symbols(data)
        task_model = TaskModel(backbone, definition.outputs, task["protocol"])
    if not data:
        raise ValueError(
            f"no training utterance of {', '.join(map(str, corpora))} suits the task {task}"
        )
    log.info("%d utterances, %.2f h", len(data), sum(u.seconds for u in data) / 3600)
    folder = Path(state) / sha256(Path(model) / "model.safetensors")[:16] if state else None
    try:
        with trainable(backbone), _regularised(task_model, settings):
            curve = train(
                task_model,
                _batches(data, settings, seed, backbone.preprocessor["do_normalize"]),
                _loss(task_model, definition, settings),
                settings,
                seed,
                folder,
                "fine-tune",
            )
    except (Diverged, torch.OutOfMemoryError) as error:
        kind = "diverged" if isinstance(error, Diverged) else "out_of_memory"
        log.warning("%s", error)
        write_status(output, kind, str(error))
    else:
        part = output.with_name(output.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        facts = {
            "task": task,
            "training": training,
            "corpora": {Path(c).name: sha256(Path(c) / "manifest.tsv") for c in corpora},
            "start": sha256(Path(model) / "model.safetensors"),
            "meta": meta(seed=seed, threads=torch.get_num_threads()),
        }
        texts = {"provenance.json": to_text(facts), "README.md": _card(facts, corpora)}
        save(backbone, part, getattr(torch, dtype), texts)
        save_head(task_model, definition, part, getattr(torch, dtype))
        write_json(part / "training.json", curve)
        shutil.rmtree(output, ignore_errors=True)
        part.rename(output)
    if state:
        shutil.rmtree(state, ignore_errors=True)


def _card(facts: dict, corpora: list) -> str:
    """Return the model card of a fine-tuned model."""
    task, seed = facts["task"], facts["meta"]["seed"]
    settings = json.dumps(facts["training"], sort_keys=True)
    return f"""---
library_name: transformers
pipeline_tag: automatic-speech-recognition
---
# A speech model for {task["unit"]}

{task["kind"].upper()} over {task["unit"]}, protocol `{task["protocol"]}`, seed {seed}, trained with

```json
{settings}
```

`head.safetensors` holds the output layer and, in its metadata, the symbols; `training.json` the
training curve; `provenance.json` the settings, versions, hardware and digests.

Trained on:

{credits(corpora)}
The licence is that of the teacher and of these recordings.  Few voices, few hours: a research model
for comparing compression methods, of no use as a recogniser.
"""


@contextmanager
def _regularised(model: TaskModel, settings: FineTuning):
    """Put the dropout and SpecAugment of `settings` in place of the model's own, for a while."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):  # inside the layers it would treble a step on a CPU
            module.p = 0.0 if ".layers." in name else settings.dropout
    config = model.backbone.config
    names = ("layerdrop", "mask_time_prob", "mask_feature_prob")
    own = {name: getattr(config, name) for name in names}
    config.layerdrop = 0.0
    config.mask_time_prob = 0.0  # time masks come from `_loss`, drawn from the step's own seed
    yield
    for name, value in own.items():
        setattr(config, name, value)


def _batches(data: list, settings: FineTuning, seed: int, normalize: bool):
    """Return a function from step to (waveforms, attention mask, utterances, augmented)."""
    from speech_pareto.audio import SAMPLE_RATE

    lengths = np.array([u.samples for u in data])
    epochs = Epochs(lengths, int(settings.batch_seconds * SAMPLE_RATE), seed)

    def batch(step: int, generator: np.random.Generator) -> tuple:
        chosen = [data[i] for i in epochs(step)]
        waves = [u.wave() for u in chosen]
        augmented = settings.augmented(step)
        if settings.speed and augmented:
            import soxr

            factors = generator.uniform(1 - settings.speed, 1 + settings.speed, len(waves))
            waves = [
                soxr.resample(w, f * SAMPLE_RATE, SAMPLE_RATE, "LQ")
                for w, f in zip(waves, factors, strict=True)
            ]
        return *collate(waves, normalize), chosen, augmented

    return batch


def _loss(model: TaskModel, definition, settings: FineTuning):
    """Return the task's loss with SpecAugment."""
    config = model.backbone.config

    def loss(batch: tuple) -> tuple[torch.Tensor, dict]:
        waves, attention_mask, chosen, augmented = batch
        config.mask_feature_prob = settings.mask_channels if augmented else 0.0
        mask = None
        if settings.mask_share and augmented:
            lengths, frames = model.frames(attention_mask.sum(1)), model.frames(waves.shape[1])
            mask = span_mask(lengths, settings.mask_share, settings.mask_span, frames)
        logits, lengths = model(waves, attention_mask, mask)
        return definition.loss(logits, lengths, chosen), {}

    return loss


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        main(
            **{key: snakemake.params[key] for key in ("task", "training", "seed", "state")},
            model=snakemake.input.model,
            corpora=list(snakemake.input.corpora),
            output=snakemake.output[0],
            dtype=snakemake.params.get("dtype", "float32"),
        )
