"""Training a backbone and a head on a task: what `finetune.py` and task-aware methods share."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speech_pareto.data.batches import Epochs, collate
from speech_pareto.data.corpus import Utterance
from speech_pareto.data.selection import first_hours, needed, within
from speech_pareto.models import architecture
from speech_pareto.models.backbone import describe
from speech_pareto.models.quantisation import trainable
from speech_pareto.models.spec_augment import masking
from speech_pareto.runtime.extras import extra
from speech_pareto.tasks.head import HEAD, hand_on_head
from speech_pareto.tasks.task import (
    Task,
    TaskModel,
    load_task_model,
    make_task,
    pool_of,
    save_head,
)
from speech_pareto.training.loop import train
from speech_pareto.training.masking import span_mask
from speech_pareto.training.settings import FineTuning

log = logging.getLogger(__name__)
Penalty = Callable[[int], "Tensor | float"]


@dataclass
class Tuner:
    """`tune` of a method's `Context`: fine-tunes a student and the head of one task together.

    The head in the folder `start` is trained on if it fits, otherwise a new one begins; it stays
    the same over all calls. Each call has its own batches and its own checkpoint below `state`.
    """

    task: Mapping
    start: str | Path
    corpora: Sequence
    seed: int
    state: str | Path | None = None
    precision: str = "auto"
    accumulate: int = 1
    calls: int = field(default=0, init=False)

    def __call__(self, student: nn.Module, penalty: Penalty, **settings) -> None:
        """Train `student` in place with the settings of `settings.FineTuning`.

        `penalty(step)` is called before the forward pass of each step; what it returns is added to
        the task's loss.
        """
        if not self.calls:
            torch.manual_seed(self.seed)  # a new head's weights
            with TemporaryDirectory() as folder:  # the head that fits what earlier steps made
                if (Path(self.start) / HEAD).is_file():
                    hand_on_head(Path(self.start) / HEAD, student, Path(folder) / HEAD)
                started = begin(self.task, student, folder, self.corpora)
            self.model, self.definition, self.data = started
            student.readout = None  # it is in the head now
        self.calls += 1
        self.model.backbone = student
        own: dict[str, Any] = {"precision": self.precision, "accumulate": self.accumulate}
        training = FineTuning(**(own | settings))
        state = Path(self.state) / f"tune{self.calls}" if self.state else None
        seed = self.seed + self.calls
        fit(self.model, self.definition, self.data, training, seed, state, penalty)

    def save_head(self, folder: str | Path) -> None:
        """Write the trained head beside a saved student."""
        save_head(self.model, self.definition, Path(folder))


def begin(
    settings: Mapping, backbone: nn.Module, folder: str | Path, corpora: Sequence
) -> tuple[TaskModel, Task, list[Utterance]]:
    """Return `backbone` with a head, its task and the training utterances.

    The head is that in `folder`, or a new one for the symbols of the utterances; ValueError if
    there are none, or less than the task's `train_hours`.
    """

    def taught() -> list[Utterance]:
        found = needed(settings, task, corpora, "train")[0]
        return first_hours(found, settings.get("train_hours"))

    with_head = load_task_model(settings, backbone, folder)
    if with_head:
        model, task = with_head
        data = taught()
    else:
        task = make_task(settings)
        data = taught()
        task.learn_symbols(data)
        model = TaskModel(backbone, task.outputs, settings["protocol"], pool_of(task))
    log.info("%d utterances, %.2f h", len(data), sum(u.seconds for u in data) / 3600)
    return model, task, data


def fit(
    model: TaskModel,
    task: Task,
    data: list[Utterance],
    settings: FineTuning,
    seed: int,
    state: Path | None = None,
    penalty: Penalty | None = None,
    until: int | None = None,
    earlier: Path | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place and return its curve.

    For `penalty` see `Tuner`, for `until` and `earlier` `loop.train`.
    """
    backbone = model.backbone
    normalize = normalises(backbone, settings)
    if normalize != backbone.preprocessor["do_normalize"]:
        _set_normalize(backbone, data, normalize)
    data = within(data, settings.min_seconds, settings.max_seconds)

    def counted(batch: Any) -> Tensor:
        return task.weight(model.frames(batch[2].sum(1)))

    with trainable(backbone), regularised(model, settings):
        batch = _batches(data, settings, seed, normalize)
        loss = _loss(model, task, settings, penalty)
        run = (model, batch, loss, settings, seed, state, "fine-tune", counted)
        return train(*run, until=until, earlier=earlier)


def normalises(backbone: nn.Module, settings: FineTuning) -> bool:
    """Return whether recordings get mean 0 and variance 1 before `backbone` hears them."""
    before = backbone.preprocessor["do_normalize"]
    return before if settings.do_normalize is None else settings.do_normalize


def _set_normalize(backbone: nn.Module, data: list[Utterance], on: bool) -> None:
    """Say that recordings get mean 0 and variance 1 before `backbone` hears them, or no longer.

    A stem without convolutions then hears them as loud as the median of `data`, as it did before:
    no norm hides the loudness from the layers behind it.
    """
    backbone.preprocessor = {**backbone.preprocessor, "do_normalize": on}
    config = describe(backbone)
    if architecture.convolutional(config):
        return
    section = {k: v for k, v in architecture.section(config).items() if k != "loudness"}
    if on:
        some = data[:: max(1, len(data) // 1000)]
        section["loudness"] = round(float(np.median([u.wave().std() for u in some])), 4)
    backbone.config.compression = section
    backbone.feature_extractor.loudness = section.get("loudness", 1.0)


@contextmanager
def regularised(model: TaskModel, settings: FineTuning):
    """Put the dropout of `settings` in place of the model's own, for a while.

    Inside the layers there is no dropout, neither of activations nor of attention: it would treble
    a step on a CPU.  A model without a mask vector hides frames behind zeros.  With `freeze_stem`
    the stem's parameters get no gradients.
    """
    backbone, own = model.backbone, []
    stem = backbone.feature_extractor.parameters() if settings.freeze_stem else ()
    frozen = [parameter for parameter in stem if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            own.append((module, "p", module.p))
            module.p = 0.0 if ".layers." in name else settings.dropout
        elif isinstance(getattr(module, "dropout", None), float):  # attention: a plain number
            own.append((module, "dropout", module.dropout))
            module.dropout = 0.0
    vectorless = bool(settings.mask_share) and not hasattr(backbone, "masked_spec_embed")
    if vectorless:
        zeros = torch.zeros(backbone.config.hidden_size, device=next(backbone.parameters()).device)
        backbone.register_buffer("masked_spec_embed", zeros, persistent=False)
    try:
        yield
    finally:
        for owner, name, value in own:
            setattr(owner, name, value)
        for parameter in frozen:
            parameter.requires_grad_(True)
        if vectorless:
            del backbone.masked_spec_embed


def _batches(data: list, settings: FineTuning, seed: int, normalize: bool):
    """Return a function from step to (step, waveforms, attention mask, utterances, augmented)."""
    from speech_pareto.data.audio import SAMPLE_RATE

    lengths = np.array([u.samples for u in data])
    most = int(settings.batch_seconds * SAMPLE_RATE)
    epochs = Epochs(lengths, most, seed, settings.batch_utterances)

    def batch(step: int, generator: np.random.Generator) -> tuple:
        chosen = [data[i] for i in epochs(step)]
        waves = [u.wave() for u in chosen]
        augmented = settings.augmented(step)
        if settings.speed and augmented:
            with extra():
                import soxr

            factors = generator.uniform(1 - settings.speed, 1 + settings.speed, len(waves))
            pairs = zip(waves, factors * SAMPLE_RATE, strict=True)
            waves = [soxr.resample(wave, rate, SAMPLE_RATE, "LQ") for wave, rate in pairs]
        return step, *collate(waves, normalize), chosen, augmented

    return batch


def _loss(model: TaskModel, task: Task, settings: FineTuning, penalty: Penalty | None):
    """Return the task's loss with SpecAugment, and the penalty."""

    def loss(batch: tuple) -> tuple[Tensor, dict]:
        step, waves, attention_mask, chosen, augmented = batch
        more = penalty(step) if penalty else 0.0  # before the forward pass: it may change the model
        channels = settings.mask_channels if augmented else 0.0
        mask = None
        if settings.mask_share and augmented:
            lengths, frames = model.frames(attention_mask.sum(1)), model.frames(waves.shape[1])
            mask = span_mask(lengths, settings.mask_share, settings.mask_span, frames)
        with masking(model.backbone, on=True, channels=channels):
            logits, lengths = model(waves, attention_mask, mask)
        return task.loss(logits, lengths, chosen) + more, {}

    return loss
