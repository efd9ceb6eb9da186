"""Utterances of a prepared corpus as they are heard in a condition, made when they are read."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from speech_pareto.data.condition import Change, changes
from speech_pareto.data.corpus import Utterance


@dataclass(kw_only=True)
class Heard(Utterance):
    """An utterance in a condition: all that is said of it stays, `wave` and `samples` do not."""

    source: Utterance = field(repr=False)
    changes: Sequence[Change] = field(default=(), repr=False)
    beside: Sequence[Utterance] = field(default=(), repr=False)  # of its corpus and split, by id

    def wave(self) -> np.ndarray:
        """Return float32 samples (samples,) as the condition makes them of the recording's own."""
        wave = self.source.wave()
        digest = hashlib.sha256(wave.tobytes()).digest()
        for place, change in enumerate(self.changes):
            random = np.random.default_rng([place, *digest])
            wave = change.apply(wave, random, self.others)
        return wave

    def others(self, random: np.random.Generator, number: int) -> list[np.ndarray]:
        """Return recordings of other speakers or, where there are none, others of this one."""
        rest = [one for one in self.beside if one.id != self.id]
        rest = [one for one in rest if one.speaker != self.speaker] or rest
        if not rest:
            raise ValueError(f"{self.corpus}: babble needs more than one recording of {self.split}")
        places = random.choice(len(rest), min(number, len(rest)), replace=False)
        return [rest[place].wave() for place in places]


def heard(utterances: Sequence[Utterance], condition: Sequence[Mapping]) -> list[Heard]:
    """Return the utterances as heard in a condition of a resolved config."""
    chain, groups = changes(condition), defaultdict(list)
    for one in sorted(utterances, key=lambda one: one.id):
        groups[one.corpus, one.split].append(one)
    found = []
    for one in utterances:
        samples = one.samples
        for change in chain:
            samples = change.length(samples)
        own = {**vars(one), "samples": samples, "source": one, "changes": chain}
        found.append(Heard(**own, beside=groups[one.corpus, one.split]))
    return found
