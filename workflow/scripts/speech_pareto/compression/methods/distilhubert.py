"""DistilHuBERT: the first layers learn to predict several of the teacher's layers at once.

    L = Σ_k ‖p_k(h) − y_k‖₁ / D − λ log σ(cos(p_k(h), y_k)),  averaged over k and real frames

h is the student's last layer, y_k the teacher's layer k · layers / `predicted_layers` (4, 8 and 12
of 12), p_k(h) = V_k GELU(U_k h + b_k) + c_k. The student starts from the teacher's stem and first
layers, without the norm of the features (which only HuBERT's config can leave out); gradients of
the stem are multiplied by `stem_gradient`. Chang et al., ICASSP 2022,
https://arxiv.org/abs/2110.01900, and its code in s3prl.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.methods.distillation import Distillation
from speech_pareto.compression.parts.gradients import damped
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import distance, mean_over, real_frames, states
from speech_pareto.runtime.bounds import Share, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class DistilHuBERT(Distillation):
    """Trains the teacher's first layers to predict later ones through projections."""

    full_rate = True
    start: Literal["spaced", "first"] = "first"
    predicted_layers: Annotated[int, Within(1, 100, unit="layers")] = 3  # of the teacher
    stem_gradient: Share = 0.1  # factor of the gradients that reach the stem

    def projection_parameters(self, teacher: Mapping, student: Mapping) -> int:
        """Return the parameters of all projections, which no folder and no ratio counts."""
        theirs, ours = (architecture.complete(c)["hidden_size"] for c in (teacher, student))
        return self.predicted_layers * sum(
            map(architecture.matrix_parameters, ((theirs, ours), (theirs, theirs)))
        )

    def obstacle_to_learning(self, config: Mapping, teacher: Mapping) -> str | None:
        """Return None: projections lead from the student's width to the teacher's."""
        return None

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """As `distillation`, without the norm of the features."""
        sizing = super().solve(config, ratio)
        return Sizing(sizing.config | _normless(config), sizing.knobs)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the student, trained for `steps`."""
        import torch

        if _normless(model.config.to_dict()):
            projection, model.config.feat_proj_layer_norm = model.feature_projection, False
            projection.feat_proj_layer_norm, projection.layer_norm = False, None
        if not self.steps:
            return super().compress(model, sizing, context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            widths = model.config.hidden_size, context.teacher.config.hidden_size
            model.projections = projections(self.predicted_layers, *widths)
        with damped(model.feature_extractor, self.stem_gradient):
            student = super().compress(model, sizing, context)
        del student.projections
        student.readout = False  # its projections are not linear
        return student

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the mean distance between projections and the layers that they predict."""
        import torch

        real = real_frames(teacher, batch)  # (B, T)
        with torch.no_grad():
            targets = states(teacher, batch)
        last, total = states(student, batch)[-1], 0  # (B, T, D)
        inner, activation, *outer = student.projections
        parts = activation(inner(last)).chunk(len(outer), -1)  # a part of (B, T, D') each
        for number, (project, part) in enumerate(zip(outer, parts, strict=True), 1):
            place = max(1, number * (len(targets) - 1) // len(outer))
            errors = distance(project(part).float(), targets[place].float(), self.cosine)  # (B, T)
            total = total + mean_over(errors, real)
        return total / len(outer)


def projections(number: int, ours: int, theirs: int) -> Module:
    """Return what `number` projections from width `ours` to `theirs` are made of.

    That is U of all of them in one linear layer, the activation, and a linear layer V for each.
    """
    from torch.nn import GELU, Linear, ModuleList

    outer = [Linear(theirs, theirs) for _ in range(number)]
    return ModuleList([Linear(ours, number * theirs), GELU(), *outer])


def _normless(config: Mapping) -> dict:
    """Return what a config of the student says of the norm of the features, {} if it stays."""
    return {"feat_proj_layer_norm": False} if config["model_type"] == "hubert" else {}
