"""A task model at work on a prepared corpus: what it recognises, how it scores pairs of voices."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from tqdm import tqdm

from speech_pareto.data.audio import SAMPLE_RATE, WINDOW, pieces
from speech_pareto.data.batches import buckets, collate
from speech_pareto.data.corpus import Utterance
from speech_pareto.models.quantisation import number_format
from speech_pareto.runtime.hardware import device, mixed_precision
from speech_pareto.tasks.detection import Trials
from speech_pareto.tasks.task import Comparing, Task, TaskModel
from speech_pareto.tasks.trials import cosines
from speech_pareto.training.loop import Diverged

# Of audio in a batch.  On a CPU small batches are faster: six recordings of 10 s, each alone, took
# HuBERT Base 0.8 of the time of all six in a batch (one thread, AVX2).
BATCH_SECONDS = {"cpu": 16.0, "cuda": 60.0}


def transcribe(
    model: TaskModel,
    task: Task | Comparing,
    data: list[Utterance],
    kind: str = "auto",
    decoders: Sequence[Callable] | None = None,
) -> list[list]:
    """Return by decoder a hypothesis per utterance of `data`; long ones are cut in pauses.

    Decoders are like `Task.decode`, which is the only one by default. A model with a number format
    of its own runs in that, whatever `kind` says. Raises `Diverged` if what it gives is not finite.
    """
    place = device()
    model.eval().to(place)
    normalize = model.backbone.preprocessor["do_normalize"]
    short = [i for i, u in enumerate(data) if u.samples <= WINDOW]
    long = [i for i, u in enumerate(data) if u.samples > WINDOW]
    lengths = np.array([data[i].samples for i in short])
    most = int(BATCH_SECONDS[place.type] * SAMPLE_RATE)
    batches = buckets(lengths, most, np.random.default_rng(0)) if short else []
    decoders = decoders or [task.decode]
    guesses: list[list] = [[None] * len(data) for _ in decoders]
    bf16 = mixed_precision(kind) == "bf16" and not number_format(model.backbone)

    def recognise(waves: list[np.ndarray]) -> list[list]:
        inputs, mask = (tensor.to(place) for tensor in collate(waves, normalize))
        logits, frames = model(inputs, mask)
        if not logits.isfinite().all():
            raise Diverged("the model's outputs are not finite")
        return [decode(logits.float(), frames) for decode in decoders]

    with torch.inference_mode(), torch.autocast(place.type, torch.bfloat16, enabled=bf16):
        for batch in tqdm(batches, desc="evaluate", unit="batch", mininterval=5):
            chosen = [short[i] for i in batch]
            texts = recognise([data[i].wave() for i in chosen])
            for own, found in zip(guesses, texts, strict=True):
                for i, guess in zip(chosen, found, strict=True):
                    own[i] = guess
        for i in tqdm(long, desc="long recordings", unit="recording", disable=not long):
            parts = [recognise([piece]) for piece in pieces(data[i].wave())]
            for own, found in zip(guesses, zip(*parts, strict=True), strict=True):
                own[i] = task.join([text for (text,) in found])
    return guesses


def compare(
    model: TaskModel, task: Comparing, data: list[Utterance], kind: str = "auto"
) -> tuple[Trials, np.ndarray]:
    """Return the task's trials of one split, and the score (trials,) of each.

    Each utterance is embedded once, however many trials it is in. ValueError as `Task.trials`.
    """
    trials = task.trials(data)
    used = np.union1d(trials.first, trials.second)
    (embedded,) = transcribe(model, task, [data[i] for i in used], kind)
    vectors = np.stack(embedded)
    first, second = (np.searchsorted(used, places) for places in trials[:2])
    return trials, cosines(vectors, np.asarray(first), np.asarray(second))
