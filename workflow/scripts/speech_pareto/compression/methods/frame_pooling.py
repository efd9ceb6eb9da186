"""Frame pooling: from some layer on, every few frames become one, their mean.

    p_j = Σ_t w_tj h_t / Σ_t w_tj,  w_tj = |[t, t + 1) ∩ [j x, (j + 1) x)|

x is `factor`, any number of frames from one to four; h_t is frame t of the states behind the first
`after` layers. Nothing is removed: the other layers compute on fewer frames. Chen et al., ICASSP
2023, https://arxiv.org/abs/2211.02332, compress sequences by any factor with one model; frames have
learnt or segmental weights in their integrate-and-fire sum. Here weights are alike, which makes it
the mean of Meng et al., SLT 2022, https://arxiv.org/abs/2210.07189.

Ours, where what is published does not say: each frame gets the state of the group that holds its
middle, behind every layer, so that any head finds the teacher's frames; WavLM's position bias is
that of the frames at which groups begin. Recovery trains through all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from speech_pareto.compression.allocation import nearest
from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.models import architecture
from speech_pareto.models.frame_counts import HUNDREDTHS, fewer_frames
from speech_pareto.runtime.bounds import Within

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class FramePooling(Method):
    """Joins frames between two layers."""

    removes = False
    # x, of two decimals; None: as a target in MACs asks, two without one.
    factor: Annotated[float, Within(1, 4, above=True, unit="frames")] | None = None
    after: Annotated[int, Within(0, 1000, unit="layers")] = 0  # 0: all layers have fewer frames

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor and self.factor != round(self.factor, 2):
            raise ValueError(f"factor: {self.factor} has more than two decimals")

    def obstacle(self, config: Mapping) -> str | None:
        layers = architecture.layers_of(config)
        if self.after >= len(layers):
            return f"after is {self.after}, which leaves none of the {len(layers)} layers behind it"
        if layers[self.after].reuse:
            return (
                f"layer {self.after + 1} reuses the attention map of more frames than it would have"
            )
        if fewer_frames(config):
            return "the methods before it join frames already"
        if "early_exit" in architecture.section(config):
            return "utterances leave the model early already: pool frames before that"
        if "streaming" in architecture.section(config):
            return "the model hears chunks already, and frames that are joined would cross them"
        return super().obstacle(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config of the pooling model, whatever `ratio` is."""
        return self._sizing(config, self.factor or 2.0)

    @property
    def adapts(self) -> bool:
        return self.factor is None

    def meet(self, config: Mapping, gap: Callable[[Mapping], float]) -> Sizing:
        """Return the factor that comes nearest a target in MACs."""
        grain = HUNDREDTHS

        def missing(span: int) -> float:
            return gap(self._sizing(config, span / grain).config)

        return self._sizing(config, nearest(range(grain + 1, 4 * grain + 1), missing) / grain)

    def _sizing(self, config: Mapping, factor: float) -> Sizing:
        pooling = {"factor": float(factor), "after": self.after}
        section = architecture.section(config) | {"frame_pooling": pooling}
        return Sizing({**config, "compression": section}, {"factor": float(factor)})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with layers that run on fewer frames."""
        from speech_pareto.models.layers.pooled_frames import pool_frames

        model.config.compression = architecture.section(sizing.config)
        pool_frames(model, **model.config.compression["frame_pooling"])
        return model
