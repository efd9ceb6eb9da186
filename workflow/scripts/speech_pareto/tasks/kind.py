"""What planning asks of a kind of task, before any torch is there.

A file in `kinds/` holds METRICS (metric -> better direction) and a class `Task`; it imports torch
inside functions. Whatever else it leaves out is as for a task that the workflow fine-tunes:

    RULES                   the rules that train and score it, the one with the score last
    REQUIRED, OWN           keys of the config that it needs, and that not every kind has
    SCORED                  such keys that matter to scores alone: a change trains nothing again
    VIEWS                   figures of its utterances, see `study/views.py`
    metrics_of(task)        metrics that suit a task's settings
    problems_of(task)       (key, sentence) for what is wrong with them
    filled(task)            settings that follow from others
    audio_seconds(task, taught, tested)  rule -> audio that goes through a student, once forward
    comparable(task, sources)  whether scores may stand beside published ones
    files(task)             files that it names, as paths of the config; their content counts
    writer(task)            the rule that writes the task's files for another trainer, if any
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from speech_pareto.runtime import plugins
from speech_pareto.runtime.suggest import unknown

PACKAGE = "tasks.kinds"
TRAINING = 3  # passes' worth of MACs in a training step: forward, and twice that backward


def names() -> list[str]:
    """Return the names of all kinds."""
    return list(plugins.names(PACKAGE))


@cache
def kind_of(name: str) -> Kind:
    """Return the kind `name`; ValueError with the nearest name if there is none."""
    return Kind(name)


class Kind:
    """A kind of task, as its file describes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._own = vars(plugins.load(PACKAGE, name, "kind of task"))
        self.directions: dict[str, str] = self._own["METRICS"]
        self.rules: tuple[str, ...] = self._own.get("RULES", ("finetune", "evaluate"))
        self.required = self._own.get("REQUIRED", ("corpora", "metric", "teacher", "student"))
        self.own: tuple[str, ...] = self._own.get("OWN", ())
        self.scored: tuple[str, ...] = self._own.get("SCORED", ())
        self.views: tuple[str, ...] = self._own.get("VIEWS", ())

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the config that not every kind has."""
        return self.own + self.scored

    @property
    def finetunes(self) -> bool:
        """Whether the workflow itself trains a task of this kind, and keeps the model."""
        return "finetune" in self.rules

    def metrics(self, task: Mapping) -> list[str]:
        """Return the metrics among which a task may choose."""
        own = self._own.get("metrics_of")
        return own(task) if own else list(self.directions)

    def problems(self, task: Mapping) -> Iterator[tuple[str | None, str]]:
        """Yield (key, sentence) for what is wrong with a task's settings."""
        metric = task.get("metric")
        if metric is not None and metric not in (known := self.metrics(task)):
            yield "metric", unknown("metric", metric, known)
        yield from self._own.get("problems_of", lambda task: ())(task)

    def filled(self, task: Mapping) -> dict:
        """Return a task with the settings that follow from others."""
        return self._own.get("filled", dict)(task)

    def audio_seconds(self, task: Mapping, taught: float, tested: float) -> dict[str, float]:
        """Return by rule the audio that goes through a student, counted in forward passes.

        `taught` and `tested` are the seconds on which it is fine-tuned and scored.
        """
        if own := self._own.get("audio_seconds"):
            return own(task, taught, tested)
        passes = TRAINING if task["protocol"] == "finetune" else 1  # of a probe, heads alone train
        return {"finetune": passes * taught, "evaluate": tested}

    def comparable(self, task: Mapping, sources: set[str]) -> bool:
        """Return whether a task's scores on corpora of these sources may stand beside published."""
        return self._own.get("comparable", lambda task, sources: False)(task, sources)

    def files(self, task: Mapping) -> list[str]:
        """Return the files that a task names, as paths of the config."""
        return self._own.get("files", lambda task: [])(task)

    def writer(self, task: Mapping) -> str | None:
        """Return the rule that writes a task's files for another trainer, None if none does."""
        return self._own.get("writer", lambda task: None)(task)
