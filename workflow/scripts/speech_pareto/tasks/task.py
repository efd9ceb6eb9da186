"""The Task contract: what a file in `tasks/` offers, and the model that a task trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from speech_pareto.data.corpus import Utterance
from speech_pareto.models.hidden_states import frames_of
from speech_pareto.runtime import plugins
from speech_pareto.runtime.result import share

if TYPE_CHECKING:
    import numpy as np

    from speech_pareto.tasks.detection import Trials

PACKAGE = "tasks.kinds"


class Task(Protocol):
    """One downstream task; `tasks/<kind>.py` defines it as a class named `Task`.

    `METRICS` maps each metric to the direction that is better, `lower` or `higher`.
    """

    METRICS: dict[str, str]
    symbols: list[str]  # what the outputs stand for
    outputs: int  # how many the head needs

    def __init__(self, settings: dict, symbols: list[str] | None = None) -> None: ...

    def card(self) -> dict[str, str]:
        """Return what a model card says, in a few words each.

        `pipeline` is Hugging Face's name of what it does, `title` and `summary` what the model is
        and learnt, `outputs` what the outputs of an exported model stand for.
        """

    def obstacle(self, utterance: Utterance) -> str:
        """Return why this task cannot train and score on an utterance, "" if it can.

        Equal reasons are counted, so they do not name the utterance. A score is comparable only if
        the test split has none.
        """

    def learn_symbols(self, utterances: list[Utterance]) -> None:
        """Set `symbols` from the training utterances."""

    def weight(self, lengths: Tensor) -> Any:
        """Return over how much the loss of a batch of `lengths` frames (batch,) is a mean."""

    def loss(self, logits: Tensor, lengths: Tensor, utterances: Sequence[Utterance]) -> Tensor:
        """Return the loss of logits (batch, frames, outputs), `lengths` (batch,) of them valid."""

    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """Return a hypothesis per utterance."""

    def join(self, hypotheses: list[str]) -> str:
        """Return the hypothesis of a long recording from those of its windows, in order."""

    def reference(self, utterance: Utterance) -> str:
        """Return what a hypothesis is compared with."""

    def score(self, references: list[str], hypotheses: list[str]) -> tuple[dict, list[dict]]:
        """Return metrics in percent, and the error counts of each utterance."""

    # A task may also have
    #
    #     pool()         the layer behind the head, `pooling.Pooled`: of each utterance it makes one
    #                    vector, which then stands for a single frame
    #     trials(data)   pairs of utterances that it compares, see `trials.py`: it then embeds,
    #                    `decode` gives vectors (embedding,), and pairs are scored, not utterances


class Comparing(Protocol):
    """A task that compares utterances in pairs."""

    threshold: float | None  # from which score on a pair counts as one speaker

    def trials(self, data: Sequence[Utterance]) -> Trials: ...
    def decode(self, logits: Tensor, lengths: Tensor) -> list[np.ndarray]: ...
    def join(self, hypotheses: list[np.ndarray]) -> np.ndarray: ...
    def score_trials(
        self, trials: Trials, scores: np.ndarray, data: Sequence[Utterance]
    ) -> tuple[dict, list[dict]]: ...


def embeds(task: Task | Comparing) -> TypeGuard[Comparing]:
    """Return whether a task gives a vector of each utterance, and compares these in pairs."""
    return hasattr(task, "trials")


def pool_of(task: Task) -> nn.Module | None:
    """Return a new layer that stands behind the head of a task, None if it has none."""
    return task.pool() if hasattr(task, "pool") else None


def make_task(settings: Mapping, symbols: list[str] | None = None) -> Task:
    """Return the task that `settings["kind"]` names."""
    return plugins.load(PACKAGE, settings["kind"], "kind of task").Task(settings, symbols)


class TaskModel(nn.Module):
    """A backbone with a linear head and, where its task has one, a layer that pools its outputs.

    Protocol `finetune`: the head reads the last layer, everything trains.  `probe`: the backbone is
    frozen and in evaluation mode, the head reads a learned weighted sum of all layers (SUPERB,
    arXiv 2105.01051, section 3).
    """

    def __init__(
        self, backbone: nn.Module, outputs: int, protocol: str, pool: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.backbone, self.protocol = backbone, protocol
        self.dropout = nn.Dropout(0.0)
        self.head = nn.Linear(backbone.config.hidden_size, outputs)
        self.pool = pool
        if protocol == "probe":
            backbone.requires_grad_(False)
            self.layer_weights = nn.Parameter(torch.zeros(backbone.config.num_hidden_layers + 1))

    def train(self, mode: bool = True) -> TaskModel:
        """Set training mode, but never on a frozen backbone."""
        super().train(mode)
        if self.protocol == "probe":
            self.backbone.eval()
        return self

    def forward(
        self, waves: Tensor, attention_mask: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (batch, frames, outputs) and the valid frames (batch,) of waveforms.

        Where they are pooled, there is one frame.
        """
        probe = self.protocol == "probe"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not probe):
            masks = {"attention_mask": attention_mask, "mask_time_indices": mask}
            out = self.backbone(waves, **masks, output_hidden_states=probe)
        hidden = out.last_hidden_state  # (B, T, D)
        if probe:
            layers = torch.stack(out.hidden_states)  # (L + 1, B, T, D)
            hidden = torch.einsum("l,lbtd->btd", self.layer_weights.softmax(0), layers.float())
        logits, frames = self.head(self.dropout(hidden)), self.frames(attention_mask.sum(1))
        if self.pool is None:
            return logits, frames
        return self.pool(logits, frames)[:, None], torch.ones_like(frames)

    def frames(self, samples: Any) -> Any:
        """Return the number of frames that waveforms of `samples` give."""
        return frames_of(self.backbone.config, samples)

    def head_state(self) -> dict[str, Tensor]:
        """Return the weights that are not the backbone's."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("backbone.")}


def save_head(model: TaskModel, task: Task, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write `head.safetensors` beside a saved backbone, the symbols in its metadata."""
    state = model.head_state().items()
    tensors = {k: v.detach().to(dtype or v.dtype).contiguous() for k, v in state}
    path = folder / "head.safetensors"
    save_file(tensors, path, {"symbols": "\t".join(task.symbols)})
    share(path)


def load_task_model(
    settings: Mapping, backbone: nn.Module, folder: str | Path
) -> tuple[TaskModel, Task] | None:
    """Return the task model and task whose head lies in `folder`; None if there is no head."""
    path = Path(folder) / "head.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        task = make_task(settings, file.metadata()["symbols"].split("\t"))
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (no dict)
    outputs = tensors["head.weight"].shape[0]
    model = TaskModel(backbone, outputs, settings["protocol"], pool_of(task))
    model.load_state_dict(tensors, strict=False)
    if missing := sorted(set(model.head_state()) ^ set(tensors)):
        raise ValueError(f"{path} does not fit the protocol {settings['protocol']}: {missing}")
    return model, task
