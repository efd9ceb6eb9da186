"""The one training loop: pretraining, compressing and fine-tuning all run through `train`.

Step k of a run depends on the seed, k and the state after step k - 1 alone: batches and every
random draw are derived from (seed, k).  So a run that was killed continues from its checkpoint
and ends with the same bytes as one that was not.

A batch may be cut into `accumulate` pieces, whose gradients add up to that of the whole batch; each
piece draws its own masks and dropout from (seed, k, piece).  Processes, one for each GPU, share the
pieces of every batch.  So their number changes no more than the order in which numbers are added.

A GPU computes while the next steps are prepared: losses stay on it, to be read every few steps.
"""

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from speech_pareto.runtime.ahead import in_order
from speech_pareto.runtime.extras import extra
from speech_pareto.runtime.hardware import device, mixed_precision
from speech_pareto.runtime.private_api import cast_ends, forget_precision
from speech_pareto.runtime.processes import alone
from speech_pareto.training import optimiser
from speech_pareto.training.checkpoint import keep, newest
from speech_pareto.training.settings import Training
from speech_pareto.training.tracking import tracked

CHECKPOINT = "checkpoint"
READ = 16  # the most steps whose losses are on a device only
log = logging.getLogger(__name__)
# cuBLAS reads it before its first product; without it, products differ from run to run.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Diverged(RuntimeError):
    """A loss, or what a model gives, is NaN or infinite; the message says where."""


def generator_of(seed: int, step: int = 0, piece: int = 0) -> np.random.Generator:
    """Return what draws for a piece of a step's batch."""
    return np.random.default_rng(np.random.SeedSequence([seed, step, piece]))


def seed_all(seed: int, step: int = 0, piece: int = 0) -> None:
    """Seed torch and NumPy for a piece of a step's batch."""
    sequence = np.random.SeedSequence([seed, step, piece])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
    np.random.seed(sequence.generate_state(1)[0])  # transformers draws SpecAugment masks from it


def train(
    model: nn.Module,
    batch: Callable[[int, np.random.Generator], object],
    loss: Callable[[object], tuple[Tensor, dict[str, Tensor]]],
    settings: Training,
    seed: int,
    state: Path | None = None,
    name: str = "train",
    size: Callable[[object], float] | None = None,
    follow: Callable[[Tensor], None] | None = None,
    moments: optimiser.Moments | None = None,
    until: int | None = None,
    earlier: Path | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place and return its curve: step, loss and metrics for each 1 % of steps.

    `batch(step, generator)` makes the batch of a step, drawing from `generator` alone: a thread
    makes batches while the device works.  `loss(batch)` returns the loss and what to log beside it.
    `size(batch)` says over how much the loss is a mean, so that pieces weigh as they should; None:
    over rows.  `follow(loss)` gets the loss of each step, over all pieces, a scalar.
    With `moments`, the optimiser goes on with those in it and leaves its own there in the end.
    `state` is a folder for the checkpoint (deleted by the caller when its output is safe).  It ends
    after step `until`, if there is one, on the schedule of all `settings.steps`; `earlier` is the
    folder of the checkpoint that such a run left, to go on from where `state` has none.  Raises
    `Diverged`; on SIGTERM it saves a checkpoint and exits with 143.
    """
    with extra("workflow"):
        from accelerate import Accelerator
        from accelerate.utils import find_batch_size

    forget_precision()  # an earlier run may have had another precision
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads any
    with alone():
        accelerator = Accelerator(
            mixed_precision=mixed_precision(settings.precision), cpu=device().type == "cpu"
        )
    optimizer = optimiser.make(model, settings)
    # Never DistributedDataParallel: losses call parts of a model, which it does not see.
    model = accelerator.prepare_model(model, evaluation_mode=True)
    optimizer.state.update(moments or {})
    restored: Any = _restore([state, earlier], model, optimizer)
    schedule = optimiser.schedule(optimizer, settings, restored[0])
    _share_weights(accelerator, model)

    def ready(step: int) -> object:
        whole = batch(step, generator_of(seed, step))
        return _pinned(whole) if accelerator.device.type == "cuda" else whole

    terminal = sys.stderr.isatty() and accelerator.is_main_process
    progress = _Progress(name, settings.steps, terminal, *restored)
    saved, took = time.monotonic(), 0.0
    model.train()
    with (
        _stop_on_sigterm() as stopped,
        every_layer_runs(model),
        cast_ends(model),
        tracked(name, state, vars(settings)) as record,
    ):
        end = settings.steps if until is None else until
        steps = range(progress.start, end)
        for step, whole in zip(steps, in_order(ready, steps), strict=True):
            seed_all(seed, step)
            pieces = _pieces(accelerator, whole, settings.accumulate, size or find_batch_size)
            numbers, stop = _backward(accelerator, pieces, loss, seed, step, stopped)
            _add_up(accelerator, model)
            if settings.clip:
                accelerator.clip_grad_norm_(model.parameters(), settings.clip)
            rate = schedule.get_last_lr()[0]
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if follow:
                follow(numbers["loss"])
            if point := progress.add(step + 1, numbers):
                record(point | {"learning_rate": rate}, step + 1)
            due = time.monotonic() - saved > settings.pause(took)
            if stop or due or step + 1 == end:
                progress.check(step + 1)
                began = time.monotonic()
                _save(state, model, optimizer, step + 1, progress)
                saved = time.monotonic()
                took = saved - began
            if stop:
                said = "%s: stopped by SIGTERM after step %d; it will continue there"
                log.warning(said, name, step + 1)
                accelerator.wait_for_everyone()  # the first one to end is the end of all
                sys.exit(143)
    progress.bar.close()
    model.eval()
    if moments is not None:
        moments.update(optimizer.state)
    return progress.curve


class _Progress:
    """How a run goes: its curve, a bar on a terminal, elsewhere a line in the log now and then.

    `sums` over `count` steps are what the curve's next point is made of, each a scalar on the
    device; `unread` are losses that nobody has looked at.
    """

    def __init__(
        self, name: str, steps: int, terminal: bool, start: int, curve: list, sums: dict, count: int
    ) -> None:
        self.curve, self.sums, self.count = curve, sums, count
        self.name, self.start, self.steps, self.every = name, start, steps, max(1, steps // 100)
        self.unread: list[Tensor] = []
        self.began = self.reported = time.monotonic()
        self.bar = tqdm(total=steps, initial=start, desc=name, unit="step", disable=not terminal)

    def check(self, step: int) -> None:
        """Raise `Diverged` if a loss up to that of step `step` is not finite."""
        losses = torch.stack(self.unread).tolist() if self.unread else []
        for past, loss in enumerate(losses, step + 1 - len(losses)):
            if not math.isfinite(loss):
                raise Diverged(f"{self.name}: the loss is {loss} at step {past}")
        self.unread = []

    def add(self, step: int, numbers: dict[str, Tensor]) -> dict[str, float]:
        """Note the loss and metrics of step `step`, of which the first is 1.

        Return their means since the curve's last point where a new one is due, else nothing.
        """
        for key, number in numbers.items():
            self.sums[key] = self.sums.get(key, 0.0) + number
        self.count += 1
        self.bar.update()
        self.unread.append(numbers["loss"])
        point = not step % self.every or step == self.steps
        if point or len(self.unread) == READ:
            self.check(step)
        if not point:
            return {}
        totals = zip(self.sums, torch.stack(list(self.sums.values())).tolist(), strict=True)
        means = {key: round(total / self.count, 4) for key, total in totals}
        self.curve.append({"step": step} | means)
        self.sums, self.count = {}, 0
        printed = {key: f"{mean:.3f}" for key, mean in means.items()}
        self.bar.set_postfix(printed)
        now = time.monotonic()
        if self.bar.disable and (now - self.reported > 20 or step == self.steps):
            self.reported = now
            left = (now - self.began) / (step - self.start) * (self.steps - step)
            losses = ", ".join(f"{key} {mean}" for key, mean in printed.items())
            said = "%s: step %d of %d, %s, %s left"
            log.info(said, self.name, step, self.steps, losses, tqdm.format_interval(left))
        return means


@contextmanager
def every_layer_runs(model: nn.Module) -> Iterator[None]:
    """Switch layerdrop off for a while, in each model below `model`.

    Published teachers have `layerdrop: 0.1`, the default of transformers.  A student that learns
    its teacher's layers one by one needs all of its own in each step; no published method that
    runs here drops any.
    """
    found: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    configs = {id(config): config for config in found if hasattr(config, "layerdrop")}
    own = {key: config.layerdrop for key, config in configs.items()}
    try:
        for config in configs.values():
            config.layerdrop = 0.0
        yield
    finally:
        for key, config in configs.items():
            config.layerdrop = own[key]


def _pieces(
    accelerator, batch: object, number: int, size: Callable[[object], float]
) -> list[tuple[int, float, object]]:
    """Return this process's pieces of a batch: their number, share of the whole, and content."""
    mine = range(accelerator.process_index, number, accelerator.num_processes)
    if number == 1:
        return [(index, 1.0, batch) for index in mine]
    whole = float(size(batch))
    pieces = [(index, piece_of(batch, index, number)) for index in mine]
    shares = [(index, float(size(piece)) / whole, piece) for index, piece in pieces]
    return [piece for piece in shares if piece[1]]  # there may be fewer rows than pieces


def piece_of(batch: object, index: int, number: int) -> object:
    """Return every `number`-th row from `index` on, of each tensor and list in a batch."""
    if isinstance(batch, Mapping):
        return {key: piece_of(value, index, number) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(piece_of(value, index, number) for value in batch)
    return batch[index::number] if isinstance(batch, Tensor | list) else batch


def _pinned(batch: object) -> object:
    """Return a batch whose tensors lie where a GPU can fetch them while it computes."""
    from accelerate.utils import recursively_apply

    return recursively_apply(Tensor.pin_memory, batch)


def _backward(
    accelerator, pieces: list, loss: Callable, seed: int, step: int, stopped: list
) -> tuple[dict[str, Tensor], bool]:
    """Leave the gradient of this process's pieces in the model.

    Return loss and metrics of the whole batch, scalars, and whether any process was told to stop.
    """
    from accelerate.utils import gather_object, send_to_device

    own: dict[str, Tensor] = {}
    failure = None
    try:
        for index, share, piece in pieces:
            if index:
                seed_all(seed, step, index)
            inputs = send_to_device(piece, accelerator.device, non_blocking=True)
            with accelerator.autocast():
                value, metrics = loss(inputs)
            accelerator.backward(value * share)
            for key, number in {"loss": value, **metrics}.items():
                own[key] = own.get(key, 0.0) + share * number.detach().double()
    except torch.OutOfMemoryError as error:
        if accelerator.num_processes == 1:
            raise
        failure = str(error)  # all have to end, or the others would wait for this one
    if accelerator.num_processes == 1:
        return own, bool(stopped)
    told = {key: number.item() for key, number in own.items()}
    heard = gather_object([(told, bool(stopped), failure)])
    if failures := [failure for _, _, failure in heard if failure]:
        raise torch.OutOfMemoryError(failures[0])
    keys = dict.fromkeys(key for numbers, _, _ in heard for key in numbers)
    totals = {key: sum(numbers.get(key, 0.0) for numbers, _, _ in heard) for key in keys}
    whole = {key: torch.tensor(total, dtype=torch.float64) for key, total in totals.items()}
    return whole, any(stop for _, stop, _ in heard)


def _add_up(accelerator, model: nn.Module) -> None:
    """Make each gradient the sum over all processes; what has none in any process keeps none."""
    if accelerator.num_processes == 1:
        return
    parameters = [p for p in model.parameters() if p.requires_grad]
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=accelerator.device)
    for parameter, number in zip(parameters, accelerator.reduce(there).tolist(), strict=True):
        if number:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = accelerator.reduce(own.contiguous())


def _share_weights(accelerator, model: nn.Module) -> None:
    """Give all processes the weights of the first, down to the last bit."""
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import broadcast

    accelerator.wait_for_everyone()  # all have read the checkpoint before any may delete it
    for tensor in model.state_dict().values():
        tensor.copy_(broadcast(tensor.contiguous()))


class _stop_on_sigterm:
    """A list that is non-empty after SIGTERM; the former handler is put back at the end."""

    def __enter__(self) -> list:
        received: list = []
        self.former = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
        return received

    def __exit__(self, *error) -> None:
        signal.signal(signal.SIGTERM, self.former)


def _save(state: Path | None, model: nn.Module, optimizer, step: int, so_far: _Progress) -> None:
    """Write a checkpoint after step `step`."""
    if state is None:
        return
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    sums = {key: float(total) for key, total in so_far.sums.items()}
    saved |= {"curve": so_far.curve, "sums": sums, "count": so_far.count}
    keep(state, CHECKPOINT, lambda path: torch.save(saved, path), step)


def _restore(
    folders: list[Path | None], model: nn.Module, optimizer
) -> tuple[int, list, dict, int]:
    """Load the newest sound checkpoint of the first folder that has one.

    Return the step to begin with, and the curve so far.
    """
    path = next(filter(None, (newest(folder, CHECKPOINT) for folder in folders)), None)
    if path is None:
        return 0, [], {}, 0
    saved = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    log.info("continuing after step %d from %s", saved["step"], path)
    return tuple(saved[key] for key in ("step", "curve", "sums", "count"))
