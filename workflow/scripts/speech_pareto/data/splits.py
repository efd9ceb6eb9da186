"""Splits of a corpus whose source names none: what is held out must tell of new speech.

Connected speech is divided by its words, so that none stand in two splits. Where words or labels
repeat by design (digits, commands, emotions), it is divided by speaker.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from speech_pareto.data.recording import Recording
from speech_pareto.data.text import fingerprint
from speech_pareto.runtime.hashing import rank_of

REPEATED = 3  # recordings per text, on average, from which on words repeat by design
log = logging.getLogger(__name__)


def assign_splits(
    recordings: list[Recording], seconds: list[float], valid: float = 0.05, test: float = 0.12
) -> list[str]:
    """Return a split per recording; one that names its split keeps it, whatever it says.

    Where all are named and there is a test split, but none for validation, on which students are
    chosen, a part of the training recordings becomes that. `valid` and `test` are shares of the
    duration. Recordings are ranked by a hash, so that one keeps its place when others come or go
    nearby.
    """
    named = [recording.split for recording in recordings]
    if all(named):
        if "test" in named and "valid" not in named:
            taught = [index for index, split in enumerate(named) if split == "train"]
            free = [replace(recordings[index], split="") for index in taught]
            if free:
                own = assign_splits(free, [seconds[index] for index in taught], valid, test=0.0)
                for index, split in zip(taught, own, strict=True):
                    named[index] = split
        return named
    if not _fixed_vocabulary(recordings):
        return _by_words(recordings, seconds, valid, test)
    splits = _by_speaker(recordings, seconds, valid, test)
    if splits is None:
        said = "recordings of one speaker stand in several splits"
        log.warning("too few speakers to hold some out: %s", said)
        splits = _by_recording(recordings, valid, test)
    return splits


def repeated(texts: Iterable[str], training: Iterable[str]) -> int:
    """Return how many of the texts have the same words as a text of the training split."""
    known = set(map(fingerprint, training)) - {""}
    return sum(fingerprint(text) in known for text in texts)


def _fixed_vocabulary(recordings: list[Recording]) -> bool:
    """Return whether all recordings have a label, or the same few texts are spoken again."""
    texts = [words for recording in recordings if (words := fingerprint(recording.text))]
    labelled = all(recording.label for recording in recordings)
    return labelled or len(texts) >= REPEATED * len(set(texts)) > 0


def _class(recording: Recording) -> str:
    """Return what a fixed vocabulary is about: the label, else the words."""
    return recording.label or fingerprint(recording.text)


def _by_words(
    recordings: list[Recording], seconds: list[float], valid: float, test: float
) -> list[str]:
    """Return splits that share no text, with shares kept by language and duration (quarters).

    Recordings without text go to `train`; those with the words of one that names its split, there.
    """
    groups = defaultdict(list)  # words -> recordings
    for index, recording in enumerate(recordings):
        groups[fingerprint(recording.text) or f"\t{recording.id}"].append(index)
    quarters = np.quantile(seconds, (0.25, 0.5, 0.75))
    strata, result = defaultdict(list), [""] * len(recordings)
    for words, members in sorted(groups.items()):
        named = {recordings[i].split for i in members} - {""}
        if named or words.startswith("\t"):
            other = min(named) if len(named) == 1 else "train"
            for i in members:
                result[i] = recordings[i].split or other
            continue
        first = min(members, key=lambda i: recordings[i].id)  # whatever the order of the files
        quarter = int(np.searchsorted(quarters, seconds[first]))
        strata[recordings[first].language, quarter].append((rank_of(words), members))
    for _, stratum in sorted(strata.items()):
        total = sum(seconds[i] for _, members in stratum for i in members)
        passed = 0.0
        for _, members in sorted(stratum):
            length = sum(seconds[i] for i in members)
            middle = (passed + length / 2) / (total or 1.0)
            passed += length
            split = "test" if middle < test else "valid" if middle < test + valid else "train"
            for i in members:
                result[i] = split
    return result


def _by_speaker(
    recordings: list[Recording], seconds: list[float], valid: float, test: float
) -> list[str] | None:
    """Return splits that share no speaker, at least one in each; None if that cannot be.

    Nor if training would lack a label, or a word, that is held out. Who speaks most, and
    who has a part whose split is named, is not held out.
    """
    lengths, named = defaultdict(float), defaultdict(set)
    for recording, length in zip(recordings, seconds, strict=True):
        lengths[recording.speaker] += length
        named[recording.speaker].add(recording.split)
    free = {speaker for speaker, splits in named.items() if splits == {""}}
    total, place = sum(lengths.values()), {}
    free -= {max(sorted(lengths), key=lambda speaker: lengths[speaker])}
    ranked = sorted(free, key=lambda speaker: (lengths[speaker] > total / 4, rank_of(speaker)))
    wanted = {split: share for split, share in (("test", test), ("valid", valid)) if share}
    for split, share in wanted.items():
        held = 0.0
        while ranked and (held == 0 or held < share * total):
            speaker = ranked.pop(0)
            place[speaker], held = split, held + lengths[speaker]
    if set(place.values()) != set(wanted):
        return None
    splits = [r.split or place.get(r.speaker, "train") for r in recordings]
    pairs = list(zip(recordings, splits, strict=True))
    taught = {_class(recording) for recording, split in pairs if split == "train"}
    return splits if all(_class(recording) in taught for recording, _ in pairs) else None


def _by_recording(recordings: list[Recording], valid: float, test: float) -> list[str]:
    """Return splits in which each label, or word, keeps its shares; a single one goes to train."""
    groups, result = defaultdict(list), [recording.split for recording in recordings]
    for index, recording in enumerate(recordings):
        if not recording.split:
            groups[recording.language, _class(recording)].append(index)
    for (_, name), members in groups.items():
        begin = int(rank_of(name)[:8], 16) / 16**8  # so that shares hold over small groups together
        for rank, i in enumerate(sorted(members, key=lambda i: rank_of(recordings[i].id))):
            place = (rank + begin) / len(members) if len(members) > 1 else 1.0
            result[i] = "test" if place < test else "valid" if place < test + valid else "train"
    return result
