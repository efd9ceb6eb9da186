"""Fine-tune a student, or the teacher itself, on a task."""

import json
import logging
import shutil
from pathlib import Path

import torch

from speech_pareto.data.corpus import credits
from speech_pareto.data.selection import needed
from speech_pareto.models.backbone import describe, load, save
from speech_pareto.models.lookahead import latency
from speech_pareto.models.weights import weights_digest
from speech_pareto.runtime.files import whole_folder
from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.processes import first
from speech_pareto.runtime.provenance import meta
from speech_pareto.runtime.result import read_status, to_text, write_json, write_status
from speech_pareto.tasks.detection import curve as error_rates
from speech_pareto.tasks.task import embeds, save_head
from speech_pareto.training.checkpoint import newest
from speech_pareto.training.finetuning import begin, fit, normalises
from speech_pareto.training.inference import compare
from speech_pareto.training.loop import CHECKPOINT, Diverged
from speech_pareto.training.settings import FineTuning

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
    until: int | None = None,
    earlier: str | Path | None = None,
) -> None:
    """Write the model of the folder `model`, fine-tuned on `task`, to the folder `output`.

    A head in `model` is trained on, otherwise a new one begins.  A model that could not be made,
    or that diverges, leaves a folder with its status.  `dtype` is the type of the stored weights.
    Of several processes the first one writes.

    With `until`, it ends after that step of `training` and leaves its checkpoint beside the model
    (there must be a `state`). From there a fine-tuning with the same `training` whose `earlier` is
    that folder goes on, and ends with the bytes of one that was never cut.
    """
    output, settings = Path(output), FineTuning(**training)
    if status := read_status(model) or (earlier and read_status(earlier)):
        write_status(output, **status)
        return
    torch.manual_seed(seed)
    backbone = load(model)
    if normalises(backbone, settings) and latency(describe(backbone)) is not None:
        reason = "do_normalize needs the whole of a recording, and this student hears chunks"
        write_status(output, "infeasible", reason)
        return
    task_model, definition, data = begin(task, backbone, model, corpora)
    # after training it is too late to be told
    held_out, _ = needed(task, definition, corpora, "valid", "test")
    of_split = {s: [u for u in held_out if u.split == s] for s in ("valid", "test")}
    for own in of_split.values() if embeds(definition) else ():
        definition.trials(own)
    folder = Path(state) / weights_digest(model)[:16] if state else None
    try:
        part = {"until": until, "earlier": Path(earlier) if earlier else None}
        curve = fit(task_model, definition, data, settings, seed, folder, **part)
        if embeds(definition) and first():
            precision = training.get("precision", "auto")
            trials, scores = compare(task_model, definition, of_split["valid"], precision)
            task = {**task, "threshold": error_rates(scores, trials.target).threshold()}
    except (Diverged, torch.OutOfMemoryError) as error:
        kind = "diverged" if isinstance(error, Diverged) else "out_of_memory"
        log.warning("%s", error)
        write_status(output, kind, str(error))
        curve = None
    if curve is not None and first():
        facts = {
            "task": task,
            "training": training,
            "corpora": {Path(c).name: sha256(Path(c) / "manifest.tsv") for c in corpora},
            "start": weights_digest(model),
            "meta": meta(seed=seed, threads=torch.get_num_threads()),
        }
        texts = {
            "provenance.json": to_text(facts),
            "README.md": _card(facts, definition.card(), corpora),
        }
        with whole_folder(output) as whole:
            save(backbone, whole, getattr(torch, dtype), texts)
            save_head(task_model, definition, whole, getattr(torch, dtype))
            write_json(whole / "training.json", curve)
            if until is not None:
                shutil.copy2(newest(folder, CHECKPOINT), whole)
    if state and first():
        shutil.rmtree(state, ignore_errors=True)


def _card(facts: dict, about: dict, corpora: list) -> str:
    """Return the model card of a fine-tuned model; `about` is that of its task."""
    task, seed = facts["task"], facts["meta"]["seed"]
    settings = json.dumps(facts["training"], sort_keys=True)
    threshold = ""
    if "threshold" in task:
        threshold = (
            f", and the threshold, {task['threshold']:g}: a pair whose cosine is at least that "
            "counts as one speaker; on validation, misses and false alarms were equal there"
        )
    return f"""---
library_name: transformers
pipeline_tag: {about["pipeline"]}
---
# {about["title"]}

{about["summary"]}, protocol `{task["protocol"]}`, seed {seed}, trained with

```json
{settings}
```

`head.safetensors` holds the output layer and, in its metadata, the symbols; `training.json` the
training curve; `provenance.json` the settings, versions, hardware and digests{threshold}.

Trained on:

{credits(corpora)}
The licence is that of the teacher and of these recordings. Trained to compare compression methods:
look at its scores on speech like yours before it is used for anything else.
"""


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.launch import spread
    from speech_pareto.runtime.log import logged
    from speech_pareto.runtime.processes import threads
    from speech_pareto.runtime.store import stored

    job, gpus = snakemake.params.job, snakemake.resources.get("gpu")
    with logged(snakemake.log[0]), reserved(gpus):
        torch.set_num_threads(threads(snakemake.threads))
        stored(
            snakemake,
            spread(main, gpus, job["training"].get("accumulate", 1)),
            task=job["task"],
            training=job["training"],
            seed=int(snakemake.wildcards.get("seed") or job["seed"]),
            state=snakemake.params.state,
            model=snakemake.input.model,
            corpora=list(snakemake.input.corpora),
            output=snakemake.output[0],
            dtype=job.get("dtype", "float32"),
            until=job.get("until"),
            earlier=(snakemake.input.get("earlier") or [None])[0],
        )
