"""Streaming: a model hears chunk by chunk, and learns to miss what comes later.

    loss = 1/L Σ_l 1/T Σ_t ‖h_lt(c) − t_lt‖₁ / D − λ log σ(cos(h_lt(c), t_lt)),  c from `chunks`

h_l(c) is layer l of the student, which hears chunks of c milliseconds, t_l that of a teacher that
hears the whole utterance: each step trains another chunk, so that one student serves all of them
(dynamic chunks of U2, Zhang et al., 2020, https://arxiv.org/abs/2012.05481; a streaming student of
wav2vec 2.0 from a teacher in full context: DistillW2V2, https://arxiv.org/abs/2303.09278). What
hears ahead, and how it is bounded, stands in `models.layers.chunked`. Nothing is removed: the
cost that falls is the latency, `chunk` and what the stem's last frame reads behind it.

Ours, where what is published does not say: convolutions read zeros behind a chunk, as they do
behind an utterance, so that no weight changes and a chunk of a whole utterance is the teacher
itself; norms over time know the past and the chunk; the loss is that of `distillation`, of all
layers, where the papers train on labels or on the last layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.compression.methods.distillation import Distillation, cannot_compare
from speech_pareto.compression.parts.nested import pick
from speech_pareto.models import architecture
from speech_pareto.models.lookahead import frame_ms
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Weight, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Chunk = Annotated[int, Within(1, 60_000, unit="ms")]


@dataclass(frozen=True, kw_only=True)
class Streaming(SelfSupervised):
    """Lets a model hear chunks, and trains it to do so."""

    removes = False
    full_rate = True
    example = {"steps": 2, "chunk": 20, "left": 40, "chunks": (20, 40)}
    steps: Annotated[int, Within(0, 10**9, unit="steps")] = 200  # 0: as it is
    learning_rate: LearningRate = 2e-4
    batch_seconds: BatchSeconds = 24.0
    chunk: Chunk | None = 320  # None: the whole utterance
    left: Annotated[int, Within(0, 600_000, unit="ms")] = 2560  # heard before each chunk
    chunks: tuple[Chunk, ...] = (80, 160, 320, 640)  # and the whole
    teacher: Literal["teacher", "itself"] = "teacher"  # itself: as it was before, which never moves
    cosine: Weight = 1.0  # λ

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps and not self.chunks:
            raise ValueError("chunks: there is none to train with")

    def obstacle(self, config: Mapping) -> str | None:
        section, frame = architecture.section(config), frame_ms(config)
        for name, value in (("chunk", self.chunk), ("left", self.left)):
            if value is not None and value % frame:
                return f"{name} is {value} ms, no multiple of a frame's {frame:g} ms"
        if odd := [value for value in self.chunks if value % frame]:
            return f"chunks: {odd[0]} ms is no multiple of a frame's {frame:g} ms"
        if architecture.ties(config):
            return "layers of the model share their weights, and a stream keeps a state for each"
        if "streaming" in section:
            return "the model hears chunks already"
        return super().obstacle(config)

    def obstacle_to_learning(self, config: Mapping, teacher: Mapping) -> str | None:
        if not self.steps or self.teacher == "itself":
            return None
        found = cannot_compare(config, teacher)
        return found and f"{found}; it can learn from itself (`teacher: itself`)"

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config of the model that hears chunks, whatever `ratio` is."""
        frame = frame_ms(config)
        chunk = None if self.chunk is None else int(self.chunk // frame)
        section = architecture.section(config)
        section |= {"streaming": {"chunk": chunk, "left": int(self.left // frame)}}
        return Sizing({**config, "compression": section}, {})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model`, which hears chunks, trained for `steps`."""
        import copy

        from speech_pareto.models.layers.chunked import stream_chunks

        teacher = context.teacher if self.teacher == "teacher" else copy.deepcopy(model).eval()
        section = model.config.compression = architecture.section(sizing.config)
        stream_chunks(model, **section["streaming"])
        if architecture.convolutional(sizing.config):  # it standardises what it hears for itself
            model.preprocessor = {**model.preprocessor, "do_normalize": False}
        if self.steps:
            home = next(context.teacher.parameters()).device
            frame, teacher = frame_ms(sizing.config), teacher.to(home)
            sizes = [*(int(value // frame) for value in self.chunks), 0]

            def loss(batch: Mapping) -> Tensor:
                return self.loss(model, teacher, batch, sizes)

            context.train(model, loss, **self.loop_settings())
            model.flow.chunk = section["streaming"]["chunk"] or 0
        return model

    def loss(self, student: Module, teacher: Module, batch: Mapping, sizes: list[int]) -> Tensor:
        """Return the distance of hidden states, with one of the `sizes` of a chunk, in frames."""
        student.flow.chunk = pick(sizes)
        return Distillation(cosine=self.cosine).loss(student, teacher, batch)
