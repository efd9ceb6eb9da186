"""Which utterances of prepared corpora a task uses, and how many it loses for which reason."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from speech_pareto.data.corpus import LeftOut, Utterance, count, left_out, read
from speech_pareto.runtime.hashing import rank_of

log = logging.getLogger(__name__)

Losses = dict[str, dict[str, dict[str, int]]]  # corpus -> split -> reason -> utterances


class Selects(Protocol):
    """The part of a task that tells which utterances it can use, see `task.Task`."""

    def obstacle(self, utterance: Utterance) -> str: ...


def utterances(settings: Mapping, task: Selects, corpora: Iterable, split: str) -> list[Utterance]:
    """Return a split's usable utterances over the task's corpora and languages."""
    return select(settings, task, corpora, split)[0]


def needed(
    settings: Mapping, task: Selects, corpora: Sequence, *splits: str, also: Sequence[str] = ()
) -> tuple[list[Utterance], Losses]:
    """Return the usable utterances of some splits, and what they and the splits `also` lose.

    Raises ValueError, with what was left out, if one of `splits` has none.
    """
    usable, losses = select(settings, task, corpora, *splits, *also)
    there = {utterance.split for utterance in usable}
    for split in splits:
        if split in there:
            continue
        what = {"train": "training", "valid": "validation"}.get(split, split)
        why = f" (left out: {told(losses)})" if losses else ""
        raise ValueError(
            f"no {what} utterance of {', '.join(map(str, corpora))} suits the task {settings}{why}"
        )
    if losses:
        log.info("utterances left out: %s", told(losses))
    return [utterance for utterance in usable if utterance.split in splits], losses


def first_hours(members: Iterable[Utterance], hours: float | None) -> list[Utterance]:
    """Return the utterances that are used of `members` if `hours` of them are: all for None.

    More hours hold all that fewer do, as in Libri-light (arXiv 1912.07875). Each corpus, language
    and speaker gives its share: its utterances, ranked by a hash, stand as far apart in the order
    as they are long, and the order ends after `hours`. ValueError if there is less.
    """
    members = list(members)
    if hours is None:
        return members
    groups = defaultdict(list)
    for member in sorted(members, key=lambda member: (rank_of(member.id), member.corpus)):
        groups[member.corpus, member.language, member.speaker].append(member)
    places = []
    for name, group in groups.items():
        total, passed = sum(member.seconds for member in group), 0.0
        for member in group:
            places.append(((passed + member.seconds / 2) / total, name, member))
            passed += member.seconds
    chosen, left = set(), 3600 * hours
    for _, _, member in sorted(places, key=lambda place: place[:2]):
        if left <= 0:
            break
        chosen.add((member.corpus, member.id))
        left -= member.seconds
    if left > 0:
        there = sum(member.seconds for member in members) / 3600
        raise ValueError(f"train_hours is {hours:g}, but only {there:.2f} h suit the task")
    return [member for member in members if (member.corpus, member.id) in chosen]


def within(members: Sequence[Utterance], shortest: float, longest: float | None) -> list[Utterance]:
    """Return the utterances that last from `shortest` to `longest` seconds; ValueError if none."""
    top = float("inf") if longest is None else longest
    found = [member for member in members if shortest <= member.seconds <= top]
    asked = (
        f"{shortest:g} s or longer" if longest is None else f"from {shortest:g} to {longest:g} s"
    )
    if not found:
        said = f"of {len(members)} training utterances none lasts {asked}"
        raise ValueError(f"{said}, as min_seconds and max_seconds ask")
    if len(found) < len(members):
        said = "%d of %d training utterances last %s; the others are not used"
        log.info(said, len(found), len(members), asked)
    return found


def select(
    settings: Mapping, task: Selects, corpora: Iterable, *splits: str
) -> tuple[list[Utterance], Losses]:
    """Return the usable utterances of some splits, and how many are lost for which reason.

    Those that the corpus was prepared without count too. Languages that the task does not want are
    no loss.
    """
    languages, losses = settings.get("languages"), {}
    found: list[Utterance] = []
    for folder in corpora:
        members: list[Utterance | LeftOut] = [*read(folder), *left_out(folder)]
        members = [x for x in members if not languages or x.language in languages]
        for split in splits:
            reasons = []
            for member in (x for x in members if x.split == split):
                if isinstance(member, LeftOut):
                    reasons.append(member.reason)
                elif reason := task.obstacle(member):
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
