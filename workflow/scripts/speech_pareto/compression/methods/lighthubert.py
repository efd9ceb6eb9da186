"""LightHuBERT: a supernet whose nested parts are all trained to be models; one of them is cut out.

    L = Σ_(t in M) ‖p(h(t)) − y(t)‖₁ / (|M| D),  y = mean of r_l over the teacher's last 8 layers l

M are the masked frames, h the student's last layer under that mask, p a linear head, r_l(t) what
the feed-forward part of layer l adds to frame t without a mask, D the teacher's width. Stage 1
trains a model of the teacher's size; stage 2 draws a subnet in each step: width, number of layers
and, for each layer, heads and feed-forward rows; of the layers the last of each third goes first.
The stem stays whole. Wang et al., Interspeech 2022, https://arxiv.org/abs/2203.15610.

Spaces are relative to the teacher. Of HuBERT Base, `base` has widths of 512, 640 and 768, in each
layer 8, 10 or 12 heads of 64 and rows 3.5 or 4 times the width, and 12 layers; `small` widths of
256, 384 and 512, 4, 6 or 8 heads, 3, 3.5 or 4 times, 10 to 12 layers.

Of the subnets within half of the tolerance around the ratio (else of the nearest) it is the most
regular one: layers alike, then heads together as wide as the model, then the nearest.

Ours, where what is published does not say: stage 1 begins with the teacher's weights and takes half
of the steps; r_l is not normalised. The head predicts no layer, so no task head of the teacher
reads the student through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression.method import Context, SelfSupervised, Sizing, cannot_mask
from speech_pareto.compression.parts.supernet import SPACES, Space, cut, run, supernet_config
from speech_pareto.compression.parts.thin_student import add_projections
from speech_pareto.compression.recipes import TOLERANCE
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import mean_over, real_frames, states
from speech_pareto.models.hooks import removed_after
from speech_pareto.runtime import bounds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

TARGETS = 8  # layers of the teacher, if it has so many


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
class LightHuBERT(SelfSupervised):
    """Trains a supernet of the teacher's size and cuts one of its subnets out."""

    takes_heads = True
    example = {"steps": 2}
    steps: Annotated[int, bounds.Within(0, 10**9, unit="steps")] = 60  # of both stages
    learning_rate: bounds.LearningRate = 5e-4
    batch_seconds: bounds.BatchSeconds = 48.0
    space: Literal["either", "base", "small"] = "either"  # either: the one that suits the ratio
    first_stage: bounds.Share = 0.5  # share of the steps that train the whole model
    mask_share: bounds.MaskShare = 0.65  # share of the frames to mask if no spans overlapped
    mask_span: bounds.MaskSpan = 10  # frames masked in a row

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a teacher that cannot mask or whose layers are not plain."""
        if problem := cannot_mask(config) or super().obstacle(config):
            return problem
        if architecture.section(config).keys() - {"stem"}:
            return "its supernet begins with layers that are whole and alike"
        return None

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the subnet and the space that it is of."""
        size = architecture.remaining(config)
        names = SPACES if self.space == "either" else (self.space,)
        found = {
            name: Space(name, config).nearest(config, (1 - ratio) * size, TOLERANCE / 2 * size)
            for name in names
        }
        space = min(found, key=lambda name: found[name][0])
        subnet = found[space][1]
        return Sizing(subnet.shape(config), {"space": space, **subnet._asdict()})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the subnet, cut from a supernet that was trained for `steps`."""
        from speech_pareto.models.backbone import describe

        config = describe(model)
        student = cut(model, supernet_config(config), range(config["num_hidden_layers"]))
        if self.steps:
            add_projections(student, context.teacher, 1, context.seed)
            first = round(self.first_stage * self.steps)
            space = Space(sizing.knobs["space"], config)
            for number, drawn in (first, None), (self.steps - first, space):
                if number:
                    loss = partial(self.loss, student, context.teacher, space=drawn)
                    context.train(student, loss, **(self.loop_settings() | {"steps": number}))
        return cut(student, sizing.config, sizing.knobs["layers"])

    def loss(
        self, student: Module, teacher: Module, batch: Mapping, space: Space | None = None
    ) -> Tensor:
        """Return the error of the whole supernet or, with a `space`, of a subnet drawn anew."""
        from torch.nn.functional import linear

        from speech_pareto.models.backbone import describe
        from speech_pareto.training.masking import span_mask

        real = real_frames(teacher, batch)  # (B, T)
        mask = span_mask(real.sum(1), self.mask_share, self.mask_span, real.shape[1])
        target = mean_result(teacher, batch)  # (B, T, D)
        if space:
            subnet = space.draw()
            last = run(student, subnet.shape(describe(student)), subnet.layers, batch, mask)
        else:
            last = states(student, batch, mask)[-1]
        head = student.projections[0]  # its first columns are the subnet's, too
        predicted = linear(last, head.weight[:, : last.shape[-1]], head.bias)
        errors = (predicted.float() - target).abs().mean(-1)  # (B, T)
        return mean_over(errors, mask)
