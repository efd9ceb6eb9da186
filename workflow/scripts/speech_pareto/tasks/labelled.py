"""Utterances that have one label: which column of a corpus holds it, and its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speech_pareto.data.corpus import Utterance

COLUMNS = ("label", "language", "speaker", "text")  # any of them may be the label
DEFAULT = "label"


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


def counts(references: list[str], hypotheses: list[str]) -> list[dict[str, int]]:
    """Return the errors of each utterance, of length 1: a wrong label is a substitution."""
    none = {"deletions": 0, "insertions": 0, "length": 1}
    pairs = zip(references, hypotheses, strict=True)
    return [none | {"substitutions": int(one != other)} for one, other in pairs]
