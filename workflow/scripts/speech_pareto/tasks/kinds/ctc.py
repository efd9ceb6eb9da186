"""Recognition with CTC: phones (scored by PER) or characters (scored by CER and WER).

Graves et al. 2006 for the loss; decoding takes the best symbol of each frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from speech_pareto.data.text import characters, unspelt
from speech_pareto.runtime.extras import extra
from speech_pareto.tasks.hypotheses import ERRORS

if TYPE_CHECKING:
    from torch import Tensor

    from speech_pareto.data.corpus import Utterance

METRICS = {"per": "lower", "cer": "lower", "wer": "lower"}
OWN = ("unit",)
SCORED = ("language_model",)
VIEWS = ("errors",)
LONGEST = 20.0  # seconds; longer recordings are left out of training
# Utterances aligned at a time: what jiwer returns takes tens of times the memory of the texts.
ALIGNED = 200


def metrics_of(task: Mapping) -> list[str]:
    """Return the metrics that suit a task's unit: phones have no words to count."""
    return ["per"] if task.get("unit", "phones") == "phones" else ["cer", "wer"]


def filled(task: Mapping) -> dict:
    """Return a task with the settings that follow from others."""
    return {"unit": "phones", **task}


def comparable(task: Mapping, sources: set[str]) -> bool:
    """Return whether scores may stand beside published ones: a probe's PER on LibriSpeech."""
    probed = task["protocol"] == "probe" and task["metric"] == "per"
    return probed and sources == {"librispeech"}


class Task:
    """CTC over `settings["unit"]`: `phones` or `characters`; output 0 is the blank."""

    METRICS = METRICS

    def __init__(self, settings: dict, symbols: list[str] | None = None) -> None:
        self.unit, self.symbols = settings["unit"], symbols or []

    @property
    def outputs(self) -> int:
        """Number of outputs: the symbols and the blank."""
        return len(self.symbols) + 1

    def card(self) -> dict[str, str]:
        """Return what a model card says: `pipeline`, `title`, `summary`, meaning of `outputs`."""
        return {
            "pipeline": "automatic-speech-recognition",
            "title": f"A speech model for {self.unit}",
            "summary": f"CTC over {self.unit}",
            "outputs": "CTC: 0 is the blank",
        }

    def units(self, utterance: Utterance) -> list[str]:
        """Return the target symbols of an utterance; [] if it has none that can be learnt."""
        return list(utterance.phones) if self.unit == "phones" else characters(utterance.text)

    def obstacle(self, utterance: Utterance) -> str:
        """Return why an utterance cannot be used: it has no units.

        Training also leaves out what is longer than `LONGEST`, and what has more units than CTC has
        frames for; such utterances are scored.
        """
        if not utterance.text:
            return "no text"
        units = self.units(utterance)
        if not units:
            return "no phones" if self.unit == "phones" else unspelt(utterance.text)
        if utterance.split != "train":
            return ""
        if utterance.seconds > LONGEST:
            return f"longer than {LONGEST:g} s"
        repeats = sum(a == b for a, b in zip(units, units[1:], strict=False))
        if len(units) + repeats >= 49 * utterance.seconds:
            return f"more {self.unit} than frames"
        return ""

    def learn_symbols(self, utterances: list[Utterance]) -> None:
        """Set `symbols` to every unit of the training utterances."""
        self.symbols = sorted({unit for u in utterances for unit in self.units(u)})

    def weight(self, lengths: Tensor) -> Tensor:
        """Return what the loss of a batch of `lengths` frames (batch,) weighs: all its frames."""
        return lengths.sum()

    def loss(self, logits: Tensor, lengths: Tensor, utterances: Sequence[Utterance]) -> Tensor:
        """Return the CTC loss per frame, averaged over the frames of a batch."""
        import torch
        from torch.nn import functional

        index = {symbol: i for i, symbol in enumerate(self.symbols, start=1)}
        targets = [[index[unit] for unit in self.units(u) if unit in index] for u in utterances]
        total = functional.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1),  # (T, B, outputs)
            torch.tensor(sum(targets, []), device=logits.device),
            lengths,
            torch.tensor([len(target) for target in targets], device=logits.device),
            reduction="sum",
            zero_infinity=True,
        )
        return total / lengths.sum()

    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """Return the best path without repeats and blanks; phones are separated by blanks."""
        import torch

        best = logits.argmax(-1)  # (B, T)
        joint = " " if self.unit == "phones" else ""
        hypotheses = []
        for path, length in zip(best, lengths, strict=True):
            indices = torch.unique_consecutive(path[:length]).tolist()
            hypotheses.append(joint.join(self.symbols[i - 1] for i in indices if i).strip())
        return hypotheses

    def words(self, logits: Tensor, length: int) -> list[tuple[str, int, int]]:
        """Return the words of a recording, or its phones, each with its first and last frame.

        Of logits (1, T, outputs) the first `length` frames count. A frame at which CTC writes a
        symbol need not be where it sounds most, but is near it.
        """
        import torch

        path = logits[0, :length].argmax(-1)
        indices, counts = torch.unique_consecutive(path, return_counts=True)
        found: list[tuple[str, int, int]] = []
        frame, begun = 0, False
        for index, count in zip(indices.tolist(), counts.tolist(), strict=True):
            symbol = self.symbols[index - 1] if index else ""
            if symbol == " ":
                begun = False
            elif symbol:
                last = frame + count - 1
                if begun and self.unit != "phones":
                    text, first, _ = found.pop()
                    found.append((text + symbol, first, last))
                else:
                    found.append((symbol, frame, last))
                begun = True
            frame += count
        return found

    def join(self, hypotheses: list[str]) -> str:
        """Return the hypothesis of a recording from those of its windows, cut in pauses."""
        return " ".join(text for text in hypotheses if text)

    def reference(self, utterance: Utterance) -> str:
        """Return an utterance's units as `decode` writes them."""
        return (" " if self.unit == "phones" else "").join(self.units(utterance))

    def score(self, references: list[str], hypotheses: list[str]) -> tuple[dict, list[dict]]:
        """Return PER, or CER and WER, and error shares, all in percent of the reference length.

        Counts per utterance come second: deletions, insertions, substitutions and length, of
        phones or characters; beside characters also `word_errors` and `words`.
        """
        counts = []
        for first in range(0, len(references), ALIGNED):
            block = slice(first, first + ALIGNED)
            counts += self._align(references[block], hypotheses[block])
        total = {key: sum(count[key] for count in counts) for key in counts[0]}
        rate = 100 * sum(total[kind] for kind in ERRORS) / total["length"]
        if self.unit == "phones":
            metrics = {"per": rate}
        else:
            metrics = {"cer": rate, "wer": 100 * total["word_errors"] / total["words"]}
        metrics |= {kind: 100 * total[kind] / total["length"] for kind in ERRORS}
        return {k: round(v, 4) for k, v in metrics.items()}, counts

    def _align(self, references: list[str], hypotheses: list[str]) -> list[dict[str, int]]:
        """Return the counts of each utterance, as `score` does."""
        with extra("workflow"):
            import jiwer

        words = _counts(jiwer.process_words(references, hypotheses))
        if self.unit == "phones":
            return words
        counts = _counts(jiwer.process_characters(references, hypotheses))
        for count, word in zip(counts, words, strict=True):
            length = word.pop("length")
            count |= {"word_errors": sum(word.values()), "words": length}
        return counts


def _counts(errors: Any) -> list[dict[str, int]]:
    """Return the errors of each utterance from what jiwer found."""
    pairs = zip(errors.references, errors.alignments, strict=True)
    return [_count(reference, chunks) for reference, chunks in pairs]


def _count(reference: list[str], chunks: list) -> dict[str, int]:
    """Return the errors of one utterance from its alignment."""
    kinds = dict(zip(("delete", "insert", "substitute"), ERRORS, strict=True))
    count = {**dict.fromkeys(ERRORS, 0), "length": len(reference)}
    for chunk in chunks:
        if chunk.type in kinds:
            count[kinds[chunk.type]] += max(
                chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
            )
    return count
