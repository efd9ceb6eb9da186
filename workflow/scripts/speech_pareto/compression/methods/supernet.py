"""Supernet: one training of nested widths, heads, feed-forward rows and depths; all ratios are cut.

    L = (d(whole, teacher) + d(least, whole) + Σ_(j ≤ n) d(subnet j, whole)) / (n + 2)
    d(s, t) = mean over layers l of s of ‖p(s_l) − t_m(l)‖₁ / D − λ log σ(cos(p(s_l), t_m(l)))

The sandwich rule: each step trains the whole supernet, its least subnet and n others that it draws
(Yu and Huang, ICCV 2019, https://arxiv.org/abs/1903.05134). The whole learns the teacher's states,
the others those of the whole, without a gradient into these: in-place distillation, as there and in
BigNAS (Yu et al., ECCV 2020, https://arxiv.org/abs/2003.11142). m(l) is the layer before the
subnet's next one, so that each learns what the next one reads; frames are real and unmasked. Nested
depths and widths of wav2vec 2.0 in one training: All-in-one, Li et al., Interspeech 2024,
https://arxiv.org/abs/2406.10160.

Ours, where what is published does not say: the supernet begins with the teacher's weights; heads
and rows are sorted, those first that give most to their layer's output on audio, by
Σ_i (‖W[:, i]‖₂ ‖X_i‖₂)². A width has the first channels of each group of the position convolution,
which so reads what it did before. p, the identity at first, maps a narrower state to the teacher's
width; that of the last layer is the student's readout, through which a task head reads it. Of the
subnets within half of the tolerance around a ratio the widest is cut, of these the deepest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression.method import Context
from speech_pareto.compression.parts.nested import Nested, Space, supernet_config
from speech_pareto.compression.parts.thin_student import add_projections, fold
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import distance, mean_over, real_frames, states, stem_once
from speech_pareto.models.slices import Slicing, first_of_each_block, run
from speech_pareto.runtime import bounds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

CALIBRATION = 4  # batches of audio by which heads and rows are sorted
READERS = "out_proj", "output_dense"  # matrices that read what heads and rows give
Shares = tuple[bounds.MaskShare, ...]


def sort_by_gain(model: Module, batches: Sequence[Mapping]) -> None:
    """Sort heads and feed-forward rows of each layer by what they give, the greatest first."""
    from speech_pareto.compression.calibration import input_norms
    from speech_pareto.models.surgery import matrix, sort_units, weight

    def gain(layer: Module, name: str) -> Tensor:
        return (weight(matrix(layer, name)).detach().double().norm(dim=0) * norms[layer, name]) ** 2

    layers = model.encoder.layers
    readers = {(x, name): matrix(x, name) for x in layers for name in READERS}
    norms = input_norms(model, readers, batches)
    for layer in layers:
        inner, rows = (gain(layer, name) for name in READERS)
        heads = inner.unflatten(0, (layer.attention.num_heads, -1)).sum(1)
        sort_units(layer, *(x.argsort(descending=True, stable=True) for x in (heads, rows)))


def widened(projection: Module, state: Tensor, slicing: Slicing) -> Tensor:
    """Return p(s): a narrower state (B, T, d) as one of the teacher's width (B, T, D)."""
    from torch.nn.functional import linear

    weight = first_of_each_block(projection.weight, state.shape[-1], 1, slicing.width)
    return linear(state, weight, projection.bias)


@dataclass(frozen=True, kw_only=True)
class Supernet(Nested):
    """Trains all sizes of a student at once."""

    example = {"steps": 2, "batch_seconds": 0.4}
    learning_rate: bounds.LearningRate = 1e-3
    batch_seconds: bounds.BatchSeconds = 24.0
    # Shares of the teacher's width, of its heads, and of its rows per width, that subnets have.
    widths: Shares = (0.5, 0.67, 0.83, 1.0)
    heads: Shares = (0.25, 0.5, 0.75, 1.0)
    rows: Shares = (0.25, 0.5, 0.75, 1.0)
    layers: bounds.MaskShare = 0.5  # share of the layers that each subnet has, at least
    drawn: Annotated[int, bounds.Within(0, 100, unit="subnets")] = 2  # n
    targets: Literal["whole", "teacher"] = "whole"  # of what is less than the whole
    cosine: bounds.Weight = 1.0  # λ

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("widths", "heads", "rows"):
            if 1 not in getattr(self, name):
                raise ValueError(f"{name} must have 1, the teacher's, among them")

    def slicing(self, config: Mapping) -> Slicing:
        """Return blocks of the width as the position convolution has groups."""
        return Slicing(architecture.complete(config)["num_conv_pos_embedding_groups"], 1)

    def spaces(self, config: Mapping) -> dict[str, Space]:
        """Return the one space that there is."""
        own = self.widths, self.heads, self.rows
        return {"supernet": Space(config, *own, spare=1 - self.layers)}

    def order(self, space: Space, width, depth, heads, rows, unlike) -> tuple:
        """Return the widest first, then the deepest, then layers alike, heads and rows in step."""
        shares = heads / space.heads[-1], rows / space.rows[width][-1]
        return -width, -depth, unlike, abs(shares[0] - shares[1])

    def work(self, config: Mapping) -> list[tuple[float, dict]]:
        """Return what the steps run: the whole, the least, and as others the middle one."""
        (space,) = self.spaces(config).values()
        others = [(1, space.subnet(min)), (self.drawn, space.middle())]
        parts = [(self.steps * times, subnet.shape(config)) for times, subnet in others]
        return [(self.steps, supernet_config(config)), *parts]

    def grow(self, model: Module, context: Context) -> Module:
        """Return the supernet, sorted and trained."""
        import torch

        student = self.begin(model)
        sort_by_gain(student, context.batches(CALIBRATION, self.batch_seconds))
        add_projections(student, context.teacher, len(student.encoder.layers), context.seed)
        for projection in student.projections:
            torch.nn.init.eye_(projection.weight)
            torch.nn.init.zeros_(projection.bias)
        if self.steps:
            loss = partial(self.loss, student, context.teacher)
            context.train(student, loss, **self.loop_settings())
        fold(student)
        return student

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the mean distance of the whole, the least and the drawn subnets."""
        import torch

        from speech_pareto.models.backbone import describe

        config, real = describe(student), real_frames(teacher, batch)  # (B, T)
        slicing, (space,) = self.slicing(config), self.spaces(config).values()
        with torch.no_grad():
            targets = states(teacher, batch)  # L + 1 of (B, T, D)
        with stem_once(student):
            whole = states(student, batch)
            total = self._distance(whole, targets[1:], real)
            if self.targets == "whole":
                targets = [state.detach() for state in whole]
            subnets = [space.subnet(min), *(space.draw() for _ in range(self.drawn))]
            for subnet in subnets:
                own = run(student, subnet.shape(config), subnet.layers, slicing, batch)
                places = [*subnet.layers[1:], space.total]
                if subnet.width < config["hidden_size"]:
                    own[1:] = [
                        widened(student.projections[place - 1], state, slicing)
                        for state, place in zip(own[1:], places, strict=True)
                    ]
                total = total + self._distance(own, [targets[place] for place in places], real)
        return total / (len(subnets) + 1)

    def _distance(self, own: Sequence[Tensor], targets: Sequence[Tensor], real: Tensor) -> Tensor:
        """Return the mean distance of states, but for the first, from targets."""
        pairs = zip(own[1:], targets, strict=True)
        errors = [distance(a.float(), b.float(), self.cosine) for a, b in pairs]  # (B, T) each
        return sum(mean_over(error, real) for error in errors) / len(errors)
