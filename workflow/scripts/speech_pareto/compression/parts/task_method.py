"""Methods that prune while a student is fine-tuned on its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Trained
from speech_pareto.training.settings import Optimisation, Regularisation

if TYPE_CHECKING:
    from speech_pareto.training.finetuning import Tuner


@dataclass(frozen=True, kw_only=True)
class TaskMethod(Trained, Regularisation):
    """Base of these methods; a job gives them `context.tune`, which `tuner` makes."""

    needs = "task"
    trains_with = (Optimisation, Regularisation)

    def tuner(self, *arguments) -> Tuner:
        """Return what fine-tunes student and head; arguments are those of `Tuner`.

        The import stands here so that other recipes' digests of code leave fine-tuning out.
        """
        from speech_pareto.training.finetuning import Tuner

        return Tuner(*arguments)
