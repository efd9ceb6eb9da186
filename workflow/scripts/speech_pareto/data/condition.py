"""Conditions in which a task is scored as well: noise, rooms, codecs, speed.

A condition is a chain of changes of a recording. What it draws, it draws by the recording's own
samples: neither the order of recordings, nor batches, nor other conditions matter.

Planning imports this file and those of the changes, so they import numpy inside functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from speech_pareto.runtime import bounds, plugins
from speech_pareto.runtime.suggest import unknown

if TYPE_CHECKING:
    import numpy as np

PACKAGE = "data.conditions"
CLEAN, WORST = (
    "clean",
    "worst",
)  # recordings as they are; of each student the condition it does worst in

# Conditions that a task names without saying what they are.
READY: dict[str, list[dict]] = {
    "white-20": [{"noise": "white", "snr": 20}],
    "white-10": [{"noise": "white", "snr": 10}],
    "babble-20": [{"noise": "babble", "snr": 20}],
    "babble-10": [{"noise": "babble", "snr": 10}],
    "room-small": [{"reverberation": [4, 3, 2.5], "rt60": 0.3, "distance": 1}],
    "room-large": [{"reverberation": [10, 8, 4], "rt60": 0.7, "distance": 2}],
    "phone": [{"codec": "narrow_band"}],
    "g722": [{"codec": "g722"}],
    "opus-12k": [{"codec": "opus", "bit_rate": 12000}],
    "slow": [{"speed": 0.9}],
    "fast": [{"speed": 1.1}],
}


@dataclass(frozen=True, kw_only=True)
class Change(bounds.Checked):
    """One change of a recording; a file of `conditions/` has its class, `Setting`.

    The first field has the file's name, and what a config says under it.
    """

    def length(self, samples: int) -> int:
        """Return how many samples are left of so many."""
        return samples

    def files(self) -> list[str]:
        """Return the files or folders that it reads, as paths of the config."""
        return []

    def apply(self, wave: np.ndarray, random: np.random.Generator, others: Others) -> np.ndarray:
        """Return the changed recording, float32 (length(samples),) at 16 kHz, of `wave` (samples,).

        All that it draws comes from `random`; `others` gives other recordings of the corpus.
        """
        raise NotImplementedError


# (generator, number) -> as many recordings of others, drawn by the generator
Others = Callable[[Any, int], "list[np.ndarray]"]


def changes(steps: Sequence[Mapping]) -> list[Change]:
    """Return the changes of a condition of a resolved config; ValueError for wrong settings."""
    return [_kind(name).Setting(**step) for step in steps for name in _named(step)]


def files(steps: Sequence[Mapping]) -> list[str]:
    """Return the files and folders that a condition reads, as paths of the config."""
    return [file for change in changes(steps) for file in change.files()]


def sources(steps: Sequence[Mapping]) -> list[str]:
    """Return the source files of a condition's changes, relative to the scripts."""
    return sorted({plugins.path(PACKAGE, name) for step in steps for name in _named(step)})


def filled(given: Sequence) -> list[dict]:
    """Return the conditions of a config as [{name: changes}]: ready ones written out."""
    pairs = [
        ((one, READY[one]) if isinstance(one, str) else next(iter(one.items()))) for one in given
    ]
    return [{str(name): steps if isinstance(steps, list) else [steps]} for name, steps in pairs]


def of_task(task: Mapping) -> dict[str, list[dict]]:
    """Return name -> changes of the conditions of a resolved task, in its order; mostly none."""
    return {name: steps for one in task.get("conditions", ()) for name, steps in one.items()}


def problems(given: Sequence) -> Iterator[tuple[str, str]]:
    """Yield (place, sentence) for what is wrong with the conditions of a config."""
    seen: set[str] = set()
    for index, one in enumerate(given):
        at = f"[{index}]"
        if isinstance(one, str):
            if one not in READY:
                said = unknown("condition", one, READY)
                yield (
                    at,
                    f"{said} One of your own says what it is: '{one}: {{noise: white, snr: 5}}'.",
                )
            names = [one]
        elif isinstance(one, dict) and len(one) == 1:
            ((name, steps),) = one.items()
            names = [str(name)]
            yield from _own(f"{at}.{name}", str(name), steps)
        else:
            yield at, "a condition is the name of a ready one, or one name with its changes."
            names = []
        if twice := seen.intersection(names):
            yield at, f"'{twice.pop()}' is listed twice."
        seen.update(names)


def _own(at: str, name: str, steps: object) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a condition that says its changes."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        yield at, f"'{name}' must be lower-case words joined by '-'."
    if name in (CLEAN, WORST):
        yield at, f"a condition cannot be named '{name}'."
    steps = steps if isinstance(steps, list) else [steps]
    for place, step in enumerate(steps):
        here = f"{at}[{place}]" if len(steps) > 1 else at
        if not isinstance(step, dict) or not step:
            yield here, f"{bounds.shown(step)} must be a change, as in '{{noise: white, snr: 5}}'."
            continue
        known, kinds = plugins.names(PACKAGE), _named(step)
        if len(kinds) > 1:
            both = " and ".join(kinds)
            yield here, f"'{both}' are two changes; list one after the other, each in braces."
        elif kinds:
            for key, said in bounds.problems(_kind(kinds[0]).Setting, step):
                yield f"{here}.{key}" if key else here, said
        else:
            for key in step:
                yield here, unknown("change", key, known)
    if not steps:
        yield at, "must not be empty."


def _named(step: Mapping) -> list[str]:
    """Return the changes that an entry names: one, if it is right."""
    return [name for name in plugins.names(PACKAGE) if name in step]


def _kind(name: str) -> Any:
    """Return the module of a change."""
    return plugins.load(PACKAGE, name, "change")
