"""Trials of speaker verification: which pairs of utterances are compared, and their scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speech_pareto.runtime.hashing import rank_of
from speech_pareto.runtime.problems import Problems
from speech_pareto.tasks import trial_list
from speech_pareto.tasks.detection import DIGITS, Trials, curve, metrics
from speech_pareto.tasks.trial_list import need_both

if TYPE_CHECKING:
    from speech_pareto.data.corpus import Utterance

CHUNK = 1 << 16  # trials whose vectors are in memory at a time


def listed(path: str | Path, data: Sequence[Utterance], split: str) -> Trials:
    """Return the trials of a list (`trial_list`) among the utterances of a split.

    A name is an utterance's id. ValueError that names the lines of those that are not there.
    """
    lines, problems = trial_list.read(path), Problems()
    places: dict[str, list[int]] = defaultdict(list)
    for place, utterance in enumerate(data):
        places[utterance.id].append(place)
    found = []
    for line in lines:
        for name in (line.first, line.second):
            if len(there := places.get(name, ())) != 1:
                what = "several corpora have" if there else f"no usable utterance of {split} is"
                problems.add("names", f"line {line.number}: {what} {name!r}")
        found.append([*places.get(line.first, ())[:1], *places.get(line.second, ())[:1]])
    if problems:
        raise ValueError(f"the list {path} does not fit the corpora of the task:\n{problems}")
    first, second = np.array(found, dtype=np.int64).T
    return Trials(first, second, np.array([line.target for line in lines]))


def made(data: Sequence[Utterance], speakers: Sequence[str], most: int, seed: int) -> Trials:
    """Return as many pairs of one speaker as of two, at most `most` in all, from `data`.

    Utterances are ranked by a hash of seed, corpus and id. Each is paired with the next one of its
    speaker, and with the next one of all if that is another speaker's; then with the next but one;
    and so on, until there are enough. So all are used about equally often, and no pair twice.
    ValueError if there are no pairs of one speaker, or none of two.
    """
    ranks = [rank_of(f"{seed}/{one.corpus}/{one.id}") for one in data]
    order = np.array(sorted(range(len(data)), key=ranks.__getitem__), dtype=np.int64)
    groups: dict[str, list[int]] = defaultdict(list)
    for place in order.tolist():
        groups[speakers[place]].append(place)
    names = {name: number for number, name in enumerate(groups)}
    numbers = np.array([names[name] for name in speakers], dtype=np.int64)
    half = most // 2
    circles = [np.array(group) for group in groups.values()]
    same = _pairs(circles, order, numbers, True, half)
    other = _pairs([order], order, numbers, False, min(half, len(same)))
    same = same[: len(other)]
    both = np.concatenate([same, other])
    target = np.arange(len(both)) < len(same)
    if not len(both):
        found = f"{len(data)} utterances of {len(groups)} speaker{'s' * (len(groups) != 1)}"
        need_both([] if len(groups) == len(data) else [True], f"a split of {found}")
    return Trials(both[:, 0], both[:, 1], target)


def _pairs(
    circles: list[np.ndarray], order: np.ndarray, speakers: np.ndarray, same: bool, most: int
) -> np.ndarray:
    """Return at most `most` pairs (pairs, 2) of one speaker, or of two, round by round.

    In round k each member of a circle is paired with the k-th after it. Within a round pairs stand
    in the order of their first members, so that the last one is not of few speakers.
    """
    rank = np.argsort(order)
    rounds, count = [np.empty((0, 2), dtype=np.int64)], 0
    for k in range(1, max(map(len, circles), default=0) // 2 + 1):
        found = []
        for circle in circles:
            if k <= len(circle) // 2:
                pairs = np.stack([circle, np.roll(circle, -k)], axis=1)
                # in a circle of 2 k, the other half are the same the other way round
                found.append(pairs[:k] if 2 * k == len(circle) else pairs)
        pairs = np.concatenate(found)
        pairs = pairs[(speakers[pairs[:, 0]] == speakers[pairs[:, 1]]) == same]
        rounds.append(pairs[np.argsort(rank[pairs[:, 0]], kind="stable")])
        count += len(pairs)
        if count >= most:
            break
    return np.concatenate(rounds)[:most]


def cosines(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the scores (trials,) of pairs of rows of `vectors`, each of length 1, rounded."""
    scores = np.empty(len(first))
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        scores[part] = np.einsum("ij,ij->i", vectors[first[part]], vectors[second[part]])
    return scores.round(DIGITS) + 0.0  # no -0.0


def score(
    trials: Trials, scores: np.ndarray, data: Sequence[Utterance], p_targets: Sequence[float]
) -> tuple[dict, list[dict]]:
    """Return the metrics of a split, by corpus and by language too, and a row for each trial.

    A corpus or language has those of the trials whose both utterances are of it, if there are
    pairs of one speaker and of two among them; they have no bounds.
    """
    numbers: dict = metrics(trials, scores, p_targets)
    for key in ("corpus", "language"):
        of = np.array([getattr(utterance, key) for utterance in data])
        one, other = of[trials.first], of[trials.second]
        groups: Mapping = {name: (one == name) & (other == name) for name in sorted(set(of))}
        numbers[f"by_{key}"] = {
            str(name): {"eer": round(100 * float(curve(scores[own], trials.target[own]).eer()), 4)}
            for name, own in groups.items()
            if trials.target[own].any() and not trials.target[own].all()
        }
    numbers["utterances"] = len(np.union1d(trials.first, trials.second))
    numbers["trials"], numbers["target_trials"] = len(scores), int(trials.target.sum())
    rows = []
    for a, b, target, value in zip(*trials, scores, strict=True):
        one, other = data[a], data[b]
        row = {"id": one.id, "corpus": one.corpus, "split": one.split, "other": other.id}
        row |= {"other_corpus": other.corpus, "reference": int(target)}
        rows.append(row | {"score": f"{value:.{DIGITS}f}"})
    return numbers, rows
