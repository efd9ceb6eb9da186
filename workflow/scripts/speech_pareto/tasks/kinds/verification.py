"""Verification: whether two recordings are of one speaker.

The head maps the frames, a layer pools them and makes an embedding of length 1, the speakers of
training are told apart by it with an additive angular margin (AAM-softmax). The score of a trial is
the cosine of its two embeddings. Speakers of validation and test may be others than in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from speech_pareto.runtime.locate import locate
from speech_pareto.tasks import trial_list
from speech_pareto.tasks.labelled import PooledTask

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from speech_pareto.data.corpus import Utterance
    from speech_pareto.tasks.detection import Trials
    from speech_pareto.tasks.pooling import Embedder

METRICS = {"eer": "lower"}
OWN = ("embedding", "margin", "pooling", "scale", "trials")
SCORED = ("p_target",)
DEFAULTS = {"pooling": "statistics", "embedding": 192, "margin": 0.2, "scale": 30.0}
P_TARGET = (0.01, 0.05)  # shares of target trials that VoxCeleb's papers and challenges assume
MADE = {"most": 10_000, "seed": 1}  # trials that are made, at most; the seed of their choice
HELD_OUT = ("valid", "test")


def filled(task: Mapping) -> dict:
    """Return a task with the settings that follow from others."""
    trials = MADE | dict(task.get("trials", {}))
    return {**DEFAULTS, "p_target": list(P_TARGET), **task, "trials": trials}


def files(task: Mapping) -> list[str]:
    """Return the lists of trials that a task names, as paths of the config."""
    given = task.get("trials")
    given = given if isinstance(given, Mapping) else {}
    return [given[split] for split in HELD_OUT if isinstance(given.get(split), str)]


def problems_of(task: Mapping) -> Iterator[tuple[str | None, str]]:
    """Yield (key, sentence) for what is wrong with a task's lists of trials."""
    for path in files(task):
        try:
            trial_list.read(locate(path))
        except (OSError, ValueError) as error:
            yield "trials", str(error)


class Task(PooledTask):
    """Verification of speakers; `symbols` are those of training.

    `threshold` is the score from which a pair counts as one speaker, None before it was chosen.
    """

    METRICS = METRICS

    def __init__(self, settings: Mapping, symbols: list[str] | None = None) -> None:
        settings = filled(settings)
        super().__init__("speaker", symbols, settings["pooling"])
        self.settings, self.threshold = settings, settings.get("threshold")
        self.embedder: Embedder | None = None

    def card(self) -> dict[str, str]:
        """Return what a model card says: `pipeline`, `title`, `summary`, meaning of `outputs`."""
        return {
            "pipeline": "audio-classification",
            "title": "A speech model that tells whether two recordings are of one speaker",
            "summary": "Embeddings of speakers, compared by their cosine",
            "outputs": "one embedding of length 1; the cosine of two is the score of a pair",
        }

    def pool(self) -> nn.Module:
        """Return the layer behind the head; `loss` reads the speakers of the one made last."""
        from speech_pareto.tasks.pooling import Embedder

        sizes = self.outputs, self.pooling, self.settings["embedding"], len(self.symbols)
        self.embedder = Embedder(*sizes)
        return self.embedder

    def obstacle(self, utterance: Utterance) -> str:
        """Return why an utterance cannot be used: no speaker, unless a list says who is who."""
        if utterance.split in HELD_OUT and utterance.split in self.settings["trials"]:
            return ""
        return super().obstacle(utterance)

    def trials(self, data: Sequence[Utterance]) -> Trials:
        """Return the pairs of the utterances of one split that are compared.

        ValueError if a list names others, or if none is of one speaker, or none of two.
        """
        from speech_pareto.tasks.trials import listed, made

        given, split = self.settings["trials"], data[0].split
        if split in given:
            return listed(locate(given[split]), data, split)
        try:
            speakers = [self.reference(utterance) for utterance in data]
            return made(data, speakers, given["most"], given["seed"])
        except ValueError as error:
            raise ValueError(f"{split}: {error}") from None

    def loss(self, logits: Tensor, lengths: Tensor, utterances: Sequence[Utterance]) -> Tensor:
        """Return the AAM-softmax loss of embeddings (batch, 1, embedding), averaged over a batch.

        ValueError if a speaker is none of the head's.
        """
        from speech_pareto.tasks.pooling import aam_softmax

        if self.embedder is None:
            raise ValueError("no model of this task was made")
        targets = self.targets(utterances, logits.device)
        margin, scale = self.settings["margin"], self.settings["scale"]
        return aam_softmax(logits[:, 0], self.embedder.speakers, targets, margin, scale)

    def decode(self, logits: Tensor, lengths: Tensor) -> list[np.ndarray]:
        """Return the embedding (embedding,) of each utterance."""
        return list(logits[:, 0].float().cpu().numpy())

    def join(self, hypotheses: list[np.ndarray]) -> np.ndarray:
        """Return the embedding of a long recording: the mean of its windows', of length 1."""
        import numpy as np

        mean = np.mean(hypotheses, axis=0)
        return mean / np.linalg.norm(mean)

    def score_trials(
        self, trials: Trials, scores: np.ndarray, data: Sequence[Utterance]
    ) -> tuple[dict, list[dict]]:
        """Return EER in percent and minDCF, with bounds, and a row for each trial."""
        from speech_pareto.tasks.trials import score

        return score(trials, scores, data, self.settings["p_target"])
