"""Classification: the one label of an utterance, such as its keyword, language, speaker or emotion.

Logits are averaged over the valid frames. The head is linear, so this is the same as its output
for the averaged frames: mean pooling needs nothing of the model, nor of its export. The frames'
log-probabilities, which an exported model gives, may be averaged instead of logits: in each frame
they lack one number for all classes, so that classes and their probabilities come out the same.
Other poolings are a layer behind the head; its logits count as those of one frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from speech_pareto.runtime.extras import extra
from speech_pareto.tasks.labelled import COLUMNS, DEFAULT, PooledTask, counts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from speech_pareto.data.corpus import Utterance

METRICS = {"accuracy": "higher", "macro_f1": "higher"}
OWN = ("label", "pooling")
VIEWS = ("confusion", "errors")
UNSEEN = "a class that training lacks"


def metrics_of(task: Mapping) -> list[str]:
    """Return the metrics that may be the score: errors of utterances give accuracy alone."""
    return ["accuracy"]


def filled(task: Mapping) -> dict:
    """Return a task with the settings that follow from others."""
    return {"label": DEFAULT, "pooling": "mean", **task}


class Task(PooledTask):
    """Classification by the column `settings["label"]`; each output is a class of training."""

    METRICS = METRICS

    def __init__(self, settings: Mapping, symbols: list[str] | None = None) -> None:
        super().__init__(settings["label"], symbols, settings.get("pooling", "mean"))

    @property
    def outputs(self) -> int:
        """Number of outputs of the head: the classes, unless a layer behind it has these."""
        return len(self.symbols) if self.pooling == "mean" else super().outputs

    def pool(self) -> nn.Module | None:
        """Return the layer behind the head, None if logits are just averaged."""
        return None if self.pooling == "mean" else super().pool()

    def card(self) -> dict[str, str]:
        """Return what a model card says: `pipeline`, `title`, `summary`, meaning of `outputs`."""
        return {
            "pipeline": "audio-classification",
            "title": f"A speech model that classifies recordings by {self.column}",
            "summary": f"Classification by the column `{self.column}` of the corpora",
            "outputs": "averaged over valid frames, their softmax gives probabilities of classes",
        }

    def obstacle(self, utterance: Utterance) -> str:
        """Return why an utterance cannot be used: no label, or one that training never showed."""
        if (reason := super().obstacle(utterance)) or utterance.split == "train":
            return reason
        return UNSEEN if self.symbols and self.reference(utterance) not in self.symbols else ""

    def advice(self) -> str:
        """Return how another column would be the label."""
        return f"; 'label' names the column that is the class, one of {', '.join(COLUMNS)}"

    def pooled(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean (batch, outputs) of logits (batch, frames, outputs) over valid frames."""
        import torch

        lengths = lengths.to(logits.device)
        valid = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]  # (B, T)
        kept = logits.float().masked_fill(~valid[..., None], 0.0)
        return kept.sum(1) / lengths[:, None]

    def loss(self, logits: Tensor, lengths: Tensor, utterances: Sequence[Utterance]) -> Tensor:
        """Return the cross-entropy, averaged over the utterances of a batch.

        ValueError if a class is none of the head's.
        """
        from torch.nn import functional

        targets = self.targets(utterances, logits.device)
        return functional.cross_entropy(self.pooled(logits, lengths), targets)

    def probabilities(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """Return the probability of each class (batch, outputs)."""
        return self.pooled(logits, lengths).softmax(-1)

    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """Return the likeliest class of each utterance."""
        return [self.symbols[i] for i in self.pooled(logits, lengths).argmax(-1).tolist()]

    def join(self, hypotheses: list[str]) -> str:
        """Return the class of most windows of a long recording, of equals the first."""
        return max(hypotheses, key=hypotheses.count)

    def score(self, references: list[str], hypotheses: list[str]) -> tuple[dict, list[dict]]:
        """Return accuracy and macro-F1 in percent, and the errors of each utterance.

        F1 is averaged over the classes that the references have.
        """
        with extra("workflow"):
            from sklearn.metrics import f1_score

        errors = counts(references, hypotheses)
        right = len(errors) - sum(count["substitutions"] for count in errors)
        there = sorted(set(references))
        f1 = f1_score(references, hypotheses, labels=there, average="macro", zero_division=0)
        metrics = {"accuracy": 100 * right / len(errors), "macro_f1": 100 * float(f1)}
        return {name: round(value, 4) for name, value in metrics.items()}, errors
