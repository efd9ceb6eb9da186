"""The contract of a compression method; planning reads this, so it imports no torch.

A method is one file in `methods/`: a frozen dataclass of its settings that turns a ratio into its
own knobs from the config alone (`solve`) and cuts a model accordingly (`compress`). A ratio is the
fraction of the backbone's parameters that go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from speech_pareto.models import architecture
from speech_pareto.models.frame_counts import fewer_frames
from speech_pareto.runtime.bounds import Batches, BatchSeconds, Checked, PartOf
from speech_pareto.training.settings import Crops, Optimisation

if TYPE_CHECKING:
    from torch import Generator
    from torch.nn import Module


@dataclass(frozen=True)
class Sizing:
    """What a method will do: the config it leads to, and its own knobs (JSON values)."""

    config: dict
    knobs: dict


def _made(make: Callable[[], Any]) -> Any:
    """Return what `make` returns, as `Context.remember` does where no job is stopped."""
    return make()


def _not_asked_for(*_, **__) -> Any:
    """Stand in the place of what a method is not given."""
    raise RuntimeError("the method is not given this: what it asks for stands in its `needs`")


@dataclass(frozen=True)
class Context:
    """What a method may use: a seed and, if it `needs` more, the teacher, training loop and audio.

    `teacher` is untouched and in eval mode. `train(student, loss, **settings)` trains in place
    with the settings of `settings.Unlabelled`; `loss(batch)` returns a scalar for a batch with
    `input_values` and `attention_mask`, both (batch, samples). It may be called on pieces of a
    batch; what counts steps is given as `follow(loss)`, called once after each. A mapping `moments`
    hands those of an optimiser on from one training to the next. `batches(number, seconds)` returns
    a sequence of such batches, each of about so many seconds of audio and made when it is read.
    `remember(make)` returns what `make()` does, tensors, lists and numbers; a job that goes on
    after a stop gets what it had before, also on other hardware.
    `cost(config)` is what a model costs: parameters, or what a target is a share of.
    `units` are those on which a walk trains: a `Labeller` and the head that it trains, see
    `units.fit`. `supernet` is one that is trained already, for a method that `trains_once`.

    A method that needs the task gets `tune(student, penalty, **settings)`, which trains student and
    head in place on the task's own loss, with the settings of `settings.FineTuning`.
    `penalty(step)` is called before the forward pass of each step and returns what is added to the
    loss.
    """

    seed: int
    teacher: Any = None  # a module
    train: Callable[..., None] = _not_asked_for
    batches: Callable[[int, float], Sequence] = _not_asked_for
    tune: Callable[..., None] = _not_asked_for
    cost: Callable[[Mapping], float] = architecture.remaining
    units: tuple | None = None
    supernet: Any = None  # a module
    remember: Callable[[Callable[[], Any]], Any] = _made

    def generator(self) -> Generator:
        """Return a fresh random generator, the same for the same seed."""
        import torch

        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class Method(Checked):
    """One compression technique; its fields are its settings."""

    # Settings for the contract tests: the smallest worth testing.
    example: ClassVar[Mapping[str, Any]] = {}
    removes: ClassVar[bool] = True  # False: leaves every parameter, so it takes no ratio
    # What it must be given: nothing, recordings (`context.batches`), the training loop
    # (`context.train`) as well, or the task's own training (`context.tune`).
    needs: ClassVar[Literal["nothing", "audio", "training", "task"]] = "nothing"
    # What its students are to a study: the teacher as it is, a control that others must beat, or
    # a student.
    role: ClassVar[Literal["teacher", "control", "student"]] = "student"
    takes_heads: ClassVar[bool] = False  # True: in any layer, so none may lend its map to the next
    full_rate: ClassVar[bool] = False  # True: takes frames of the layers for frames of the model
    # True: what its students compute depends on what they hear, so that costs are a distribution.
    dynamic: ClassVar[bool] = False
    # True: one training, which a job of its own runs, serves all ratios; see `parts.nested.Nested`.
    trains_once: ClassVar[bool] = False
    # What its loss is a mean over: so much a piece of a batch weighs.
    averages: ClassVar[Literal["frames", "utterances"]] = "frames"
    # Fraction of what reaches this step that it removes; None: what is left to do.
    ratio: PartOf | None = None

    def training_steps(self) -> int:
        """Return how many steps it trains for at most, so that plans can estimate the time."""
        return getattr(self, "steps", 0)

    def obstacle(self, config: Mapping) -> str | None:
        """Return why this method cannot be applied to a model with this config, None if it can."""
        if self.removes and architecture.section(config).get("zeros"):
            return "it would undo the zeros of the weight pruning before it"
        if self.removes and "frame_pooling" in architecture.section(config):
            return "the model pools frames already; only roundings follow"
        if self.takes_heads and architecture.reuses(config):
            return "a head whose attention map the next layer reuses cannot go"
        return self.misses_frames(config) or finished(config)

    def misses_frames(self, config: Mapping) -> str | None:
        """Return why a method that wants all frames in all layers cannot have them, else None."""
        if self.full_rate and fewer_frames(config):
            return "the methods before it leave layers with fewer frames than the model has"
        listens = self.removes or self.needs != "nothing"
        if listens and "early_exit" in architecture.section(config):
            return "utterances leave the model early already; only roundings without audio follow"
        if self.needs == "training" and "streaming" in architecture.section(config):
            return "the model hears chunks already: that step comes behind all that train"
        if self.removes and "streaming" in architecture.section(config):
            return "the model hears chunks already; only roundings follow"
        return None

    def obstacle_to_learning(self, config: Mapping, teacher: Mapping) -> str | None:
        """Return why a model with `config` cannot learn this way from its teacher, else None."""
        return None

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return what removes as near to `ratio` of the parameters as this method can."""
        raise NotImplementedError

    @property
    def adapts(self) -> bool:
        """Whether `meet` chooses a knob by a target in MACs, where no ratio of parameters can."""
        return False

    def meet(self, config: Mapping, gap: Callable[[Mapping], float]) -> Sizing:
        """Return what comes nearest a target: where `gap`, the share that a config misses, is 0."""
        raise NotImplementedError

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the student; `model` may be changed in place."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Calibrated(Method):
    """A method that looks at some audio, at what it is in the model, and trains nothing."""

    needs = "audio"
    example = {"batches": 2, "batch_seconds": 0.4}
    batches: Batches = 16
    batch_seconds: BatchSeconds = 24.0

    def audio(self, context: Context) -> Sequence:
        """Return the audio that it looks at."""
        return context.batches(self.batches, self.batch_seconds)


@dataclass(frozen=True, kw_only=True)
class Trained(Method, Optimisation):
    """A method that trains, for `steps` at a `learning_rate`: fields that each of them has."""

    trains_with: ClassVar[tuple[type, ...]] = (Optimisation,)  # classes of the loop's settings

    def loop_settings(self) -> dict[str, Any]:
        """Return the settings of the training loop, which are fields of the method's own."""
        names = {field.name for kind in self.trains_with for field in fields(kind)}
        names |= {"steps", "learning_rate"}
        return {name: value for name, value in vars(self).items() if name in names}


@dataclass(frozen=True, kw_only=True)
class SelfSupervised(Trained, Crops):
    """A method that trains on recordings alone, with `context.train`."""

    needs = "training"
    trains_with = (Optimisation, Crops)


def finished(config: Mapping) -> str | None:
    """Return why nothing more can be done to weights: they are rounded or shared. Else None."""
    if architecture.ties(config):
        return "layers of the model share their weights already; only roundings follow"
    return already_rounded(config)


def already_rounded(config: Mapping) -> str | None:
    """Return why nothing more can be done to weights that were rounded, None if they were not."""
    name = architecture.section(config).get("number_format")
    return f"the weights before it are {name} already; that step comes last" if name else None


def cannot_mask(config: Mapping) -> str | None:
    """Return why no frame of a model can be hidden, None if frames can."""
    if architecture.count(config)["masking"]:
        return None
    return "the model has no mask vector (mask_time_prob is 0)"
