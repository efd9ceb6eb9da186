"""DistilHuBERT: the first layers learn to predict several of the teacher's layers at once.

    L = Σ_k ‖p_k(h) − y_k‖₁ / D − λ log σ(cos(p_k(h), y_k)),  averaged over heads k and real frames

h is the student's last layer, p_k a linear head, y_k the teacher's layer k · layers / `heads`: 4, 8
and 12 of 12. The student starts from the teacher's stem and first layers. Chang et al., ICASSP
2022, https://arxiv.org/abs/2110.01900. Published: `layers: 2` of HuBERT Base, without heads
23,492,224 parameters (and 768 more for the mask vector, if the teacher has one).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from speech_pareto.method import Context, Plan
from speech_pareto.methods.distillation import Distillation, distance
from speech_pareto.states import states
from speech_pareto.student import add_heads, fold, head_size

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class DistilHubert(Distillation):
    """Trains the teacher's first layers to predict later ones through heads."""

    full_rate = True
    start: Literal["spaced", "first"] = "first"
    heads: int = 3  # layers of the teacher to predict

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads < 1:
            raise ValueError("heads must be 1 or more")

    def head_parameters(self, teacher: Mapping, student: Mapping) -> int:
        """Return the parameters of all projection heads, which no folder and no ratio counts."""
        return self.heads * head_size(teacher, student)

    def follows(self, config: Mapping, teacher: Mapping) -> str | None:
        """Return None: heads lead from the student's width to the teacher's."""
        return None

    def compress(self, model: "Module", plan: Plan, context: Context) -> "Module":
        """Return the student, trained for `steps`."""
        if not self.steps:
            return super().compress(model, plan, context)
        add_heads(model, context.teacher, self.heads, context.seed)
        student = super().compress(model, plan, context)
        fold(student)
        return student

    def loss(self, student: "Module", teacher: "Module", batch: Mapping) -> "Tensor":
        """Return the mean distance between heads and the layers that they predict."""
        import torch

        from speech_pareto.calibration import real_frames

        real = real_frames(teacher, batch)  # (B, T)
        with torch.no_grad():
            targets = states(teacher, batch)
        last, total = states(student, batch)[-1][real], 0  # (real frames, D)
        for number, head in enumerate(student.heads, 1):
            place = max(1, number * (len(targets) - 1) // len(student.heads))
            ours, theirs = head(last).float(), targets[place][real].float()
            total = total + distance(ours, theirs, self.cosine)
        return total / len(student.heads)
