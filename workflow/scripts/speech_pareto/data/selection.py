"""Which utterances of prepared corpora a task uses, and how many it loses for which reason."""

from pathlib import Path
from typing import Protocol

from speech_pareto.data.corpus import Utterance, count, left_out, read

Losses = dict[str, dict[str, dict[str, int]]]  # corpus -> split -> reason -> utterances


class Selects(Protocol):
    """The part of a task that tells which utterances it can use, see `task.Task`."""

    def obstacle(self, utterance: Utterance) -> str: ...


def utterances(settings: dict, task: Selects, corpora: list, split: str) -> list[Utterance]:
    """Return a split's usable utterances over the task's corpora and languages."""
    return select(settings, task, corpora, split)[0]


def select(
    settings: dict, task: Selects, corpora: list, *splits: str
) -> tuple[list[Utterance], Losses]:
    """Return the usable utterances of some splits, and how many are lost for which reason.

    Those that the corpus was prepared without count too. Languages that the task does not want are
    no loss.
    """
    languages, found, losses = settings.get("languages"), [], {}
    for folder in corpora:
        members = [*read(folder), *left_out(folder)]
        members = [x for x in members if not languages or x.language in languages]
        for split in splits:
            reasons = []
            for member in (x for x in members if x.split == split):
                known = isinstance(member, Utterance)
                if reason := task.obstacle(member) if known else member.reason:
                    reasons.append(reason)
                else:
                    found.append(member)
            if reasons:
                losses.setdefault(Path(folder).name, {})[split] = count(reasons)
    return found, losses


def told(losses: Losses) -> str:
    """Return losses in words: `own, train: 3 digits, 1 no text; own, test: 1 empty`."""
    return "; ".join(
        f"{corpus}, {split}: {', '.join(f'{n} {reason}' for reason, n in reasons.items())}"
        for corpus, splits in losses.items()
        for split, reasons in splits.items()
    )
