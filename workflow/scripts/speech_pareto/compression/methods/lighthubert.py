"""LightHuBERT: a supernet whose nested parts are all trained to be models; one of them is cut out.

    L = Σ_(t in M) ‖p(h(t)) − y(t)‖₁ / (|M| D),  y = mean of r_l over the teacher's last 8 layers l

M are the masked frames, h the student's last layer under that mask, p a linear head, r_l(t) what
the feed-forward part of layer l adds to frame t without a mask, D the teacher's width. Stage 1
trains a model of the teacher's size; stage 2 draws a subnet in each step: width, number of layers
and, for each layer, heads and feed-forward rows; of the layers the last of each third goes first. A
subnet has the first rows and columns of a tensor, of feed-forward rows the first of each quarter.
The stem stays whole. Wang et al., Interspeech 2022, https://arxiv.org/abs/2203.15610.

Of HuBERT Base, the space `base` has widths of 512, 640 and 768, in each layer 8, 10 or 12 heads and
rows 3.5 or 4 times the width, and 12 layers; `small` widths of 256, 384 and 512, 4, 6 or 8 heads,
3, 3.5 or 4 times, 10 to 12 layers. With both, each step draws one of them. Within half of the
tolerance around the ratio (else nearest to it) that subnet is cut whose layers are alike, then the
one whose heads are together as wide as the model, then the nearest.

Ours, where what is published does not say: stage 1 begins with the teacher's weights and takes half
of the steps; p as the regression of y on its last layer, since a random one first spoils what the
teacher knew; r_l is not normalised. With `mask_share: 0` nothing is masked and M are all real
frames, for trainings too short to learn to tell frames from those around them. The head predicts no
layer, so no task head reads through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import Context, cannot_mask
from speech_pareto.compression.parts.nested import Nested, Space, pick, supernet_config
from speech_pareto.compression.parts.thin_student import add_projections
from speech_pareto.models.hidden_states import at_home, mean_over, real_frames, states
from speech_pareto.models.hooks import removed_after
from speech_pareto.models.slices import Slicing, run
from speech_pareto.runtime import bounds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

CALIBRATION = 4  # batches of audio on which the head is fitted at first
TARGETS = 8  # layers of the teacher, if it has so many
SLICING = Slicing(width=1, rows=4)
# Shares of the teacher's width and heads, of its rows per width, and of its layers that may go.
SPACES = {
    "base": ((2 / 3, 5 / 6, 1), (7 / 8, 1), 0),
    "small": ((1 / 3, 1 / 2, 2 / 3), (3 / 4, 7 / 8, 1), 1 / 6),
}


def mean_result(teacher: Module, batch: Mapping) -> Tensor:
    """Return y, the mean of what the teacher's last layers add by their feed-forward parts."""
    import torch

    found = []
    parts = [layer.feed_forward for layer in teacher.encoder.layers[-TARGETS:]]
    hooks = (part.register_forward_hook(lambda *call: found.append(call[-1])) for part in parts)
    with removed_after(hooks), torch.no_grad():
        states(teacher, batch)
    return torch.stack(found).float().mean(0)  # (B, T, D)


@dataclass(frozen=True, kw_only=True)
class LightHuBERT(Nested):
    """Trains a supernet of the teacher's size and cuts one of its subnets out."""

    example = {"steps": 2, "batch_seconds": 0.4}
    learning_rate: bounds.LearningRate = 5e-4
    space: Literal["either", "base", "small"] = "either"  # either: the one that suits the ratio
    first_stage: bounds.Share = 0.5  # share of the steps that train the whole model
    mask_share: bounds.Share = 0.65  # of the frames to mask if no spans overlapped; 0: see above
    mask_span: bounds.MaskSpan = 10  # frames masked in a row

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a teacher that cannot mask or whose layers are not plain."""
        return (cannot_mask(config) if self.mask_share else None) or super().obstacle(config)

    slicing = staticmethod(lambda config: SLICING)  # whatever the teacher

    def spaces(self, config: Mapping) -> dict[str, Space]:
        """Return one space of the paper, or both."""
        chosen = {k: v for k, v in SPACES.items() if self.space in ("either", k)}
        return {k: Space(config, own, own, rows, spare) for k, (own, rows, spare) in chosen.items()}

    def order(self, space: Space, width, depth, heads, rows, unlike) -> tuple:
        """Return layers that are alike first, then heads together as wide as the model."""
        return unlike, abs(heads * space.head_dim - depth * width)

    def stages(self) -> tuple[int, int]:
        """Return the steps of both stages."""
        first = round(self.first_stage * self.steps)
        return first, self.steps - first

    def work(self, config: Mapping) -> list[tuple[float, dict]]:
        """Return what the steps run: the whole, then a subnet each, the middle one on average."""
        first, second = self.stages()
        middles = [space.middle().shape(config) for space in self.spaces(config).values()]
        parts = [(second / len(middles), middle) for middle in middles]
        return [(first, supernet_config(config)), *parts]

    def grow(self, model: Module, context: Context) -> Module:
        """Return the supernet, trained in both stages."""
        from speech_pareto.models.backbone import describe

        student, spaces = self.begin(model), list(self.spaces(describe(model)).values())
        if not self.steps:
            return student
        add_projections(student, context.teacher, 1, context.seed)
        self.fit_head(student, context)
        for number, drawn in zip(self.stages(), ([], spaces), strict=True):
            if number:
                loss = partial(self.loss, student, context.teacher, spaces=drawn)
                context.train(student, loss, **(self.loop_settings() | {"steps": number}))
        del student.projections
        return student

    def fit_head(self, student: Module, context: Context) -> None:
        """Let p begin as the regression of y on what the whole gives, over the frames of M."""
        import torch

        from speech_pareto.compression.calibration import regression

        pairs = []
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            for batch in context.batches(CALIBRATION, self.batch_seconds):
                asked = self.asked(context.teacher, at_home(context.teacher, batch))
                counted, target = (tensor.cpu() for tensor in asked)
                last = states(student, batch, self.hidden(counted))[-1]
                pairs.append((last[counted], target[counted]))
        inputs, outputs = map(torch.cat, zip(*pairs, strict=True))
        student.projections[0].load_state_dict(regression(inputs, outputs))

    def asked(self, teacher: Module, batch: Mapping) -> tuple[Tensor, Tensor]:
        """Return which frames M are (B, T), and what is to be predicted of them (B, T, D)."""
        from speech_pareto.training.masking import span_mask

        counted = real_frames(teacher, batch)  # (B, T)
        if self.mask_share:
            lengths, frames = counted.sum(1), counted.shape[1]
            counted = span_mask(lengths, self.mask_share, self.mask_span, frames)
        return counted, mean_result(teacher, batch)

    def hidden(self, counted: Tensor) -> Tensor | None:
        """Return which frames are masked: those that count, or none."""
        return counted if self.mask_share else None

    def loss(
        self, student: Module, teacher: Module, batch: Mapping, spaces: Sequence[Space] = ()
    ) -> Tensor:
        """Return the error of the whole supernet or, with `spaces`, of a subnet drawn anew."""
        from torch.nn.functional import linear

        from speech_pareto.models.backbone import describe

        counted, target = self.asked(teacher, batch)
        hidden = self.hidden(counted)
        if spaces:
            subnet = pick(spaces).draw()
            shape = subnet.shape(describe(student))
            last = run(student, shape, subnet.layers, SLICING, batch, hidden)[-1]
        else:
            last = states(student, batch, hidden)[-1]
        head = student.projections[0]  # its first columns are the subnet's, too
        predicted = linear(last, head.weight[:, : last.shape[-1]], head.bias)
        errors = (predicted.float() - target).abs().mean(-1)  # (B, T)
        return mean_over(errors, counted)
