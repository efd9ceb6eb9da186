"""Utterances that have one label: which column of a corpus holds it, its classes, its errors.

Classification tells the label; verification learns from it and tells whether two are the same.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from speech_pareto.data.corpus import Utterance

COLUMNS = ("label", "language", "speaker", "text")  # any of them may be the label
DEFAULT = "label"
LONGEST = 20.0  # seconds; longer recordings are left out of training
UNEVEN = 10  # times as many utterances in the largest class as in the smallest: worth a warning
PROJECTED = 256  # outputs of the head for each frame, where a layer pools them; as SUPERB's SID
log = logging.getLogger(__name__)


class Labelled:
    """What `select` asks of a task whose utterances have one label each: that in `column`."""

    def __init__(self, column: str = DEFAULT) -> None:
        if column not in COLUMNS:
            raise ValueError(f"label: {column!r} must be one of {', '.join(COLUMNS)}")
        self.column = column

    def obstacle(self, utterance: Utterance) -> str:
        """Return why an utterance cannot be used, "" if it can: it has no label."""
        return "" if self.reference(utterance) else f"no {self.column}"

    def reference(self, utterance: Utterance) -> str:
        """Return the label."""
        return getattr(utterance, self.column)


class PooledTask(Labelled):
    """What tasks share that learn labels from one vector of an utterance.

    `symbols` are the classes of training, `pooling` says how frames become one, see `pooling.py`.
    """

    def __init__(self, column: str, symbols: list[str] | None, pooling: str) -> None:
        super().__init__(column)
        self.pooling, self.symbols = pooling, symbols or []

    @property
    def outputs(self) -> int:
        """Number of outputs of the head for each frame."""
        return PROJECTED

    def pool(self) -> nn.Module | None:
        """Return the layer behind the head: one vector of each utterance, (batch, outputs)."""
        from speech_pareto.tasks.pooling import Pooled

        return Pooled(self.outputs, self.pooling, len(self.symbols))

    def obstacle(self, utterance: Utterance) -> str:
        """Return why an utterance cannot be used: no label.

        Training also leaves out what is longer than `LONGEST`; such utterances are scored.
        """
        if reason := super().obstacle(utterance):
            return reason
        too_long = utterance.split == "train" and utterance.seconds > LONGEST
        return f"longer than {LONGEST:g} s" if too_long else ""

    def learn_symbols(self, utterances: list[Utterance]) -> None:
        """Set `symbols` to the classes of the training utterances; ValueError if it is one only."""
        sizes = Counter(map(self.reference, utterances))
        if len(sizes) < 2:
            raise ValueError(
                f"all {len(utterances)} training utterances have the same {self.column} "
                f"({next(iter(sizes), 'none')}): there is nothing to tell apart{self.advice()}"
            )
        if max(sizes.values()) > UNEVEN * min(sizes.values()):
            told = ", ".join(f"{name} {count}" for name, count in sizes.most_common(20))
            more = f" and {len(sizes) - 20} more" if len(sizes) > 20 else ""
            log.warning("classes are uneven, in training utterances: %s%s", told, more)
        self.symbols = sorted(sizes)

    def advice(self) -> str:
        """Return how another column would be the label, where that is a setting."""
        return ""

    def weight(self, lengths: Tensor) -> int:
        """Return what the loss of a batch of `lengths` frames (batch,) weighs: its utterances."""
        return len(lengths)

    def targets(self, utterances: Sequence[Utterance], device: Any) -> Tensor:
        """Return the place of each utterance's class (batch,) in `symbols`.

        ValueError if a class is none of the head's.
        """
        import torch

        names = [self.reference(utterance) for utterance in utterances]
        index = {name: i for i, name in enumerate(self.symbols)}
        if unknown := sorted(set(names) - set(index)):
            raise ValueError(
                f"the head knows no {self.column} {', '.join(unknown[:5])}: "
                "it was trained on other classes than these recordings have"
            )
        return torch.tensor([index[name] for name in names], device=device)


def counts(references: list[str], hypotheses: list[str]) -> list[dict[str, int]]:
    """Return the errors of each utterance, of length 1: a wrong label is a substitution."""
    none = {"deletions": 0, "insertions": 0, "length": 1}
    pairs = zip(references, hypotheses, strict=True)
    return [none | {"substitutions": int(one != other)} for one, other in pairs]
