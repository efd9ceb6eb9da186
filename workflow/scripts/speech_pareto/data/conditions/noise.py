"""Noise at a signal-to-noise ratio: white, babble of other recordings, or from a folder of yours.

    SNR = 10 log₁₀(power of speech / power of noise)

The power of speech leaves pauses out (`loudness.py`), that of noise is over the whole recording.
Sums may exceed 1 and are not clipped. For one recording the noise is the same at all SNRs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from speech_pareto.data.condition import Change, Others
from speech_pareto.data.loudness import speech_power
from speech_pareto.runtime.bounds import Within
from speech_pareto.runtime.locate import locate
from speech_pareto.runtime.suggest import unknown

if TYPE_CHECKING:
    import numpy as np

MADE = ("white", "babble")


@dataclass(frozen=True, kw_only=True)
class Setting(Change):
    """`noise` is white, babble, or a folder of recordings; `snr` is in dB.

    Babble is as many `voices`, equally loud, each another recording of the same corpus and split,
    by other speakers where the corpus has some.
    """

    noise: str
    snr: Annotated[float, Within(-30, 60, unit="dB")]
    voices: Annotated[int, Within(1, 100, unit="recordings")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.voices is not None and self.noise != "babble":
            raise ValueError("voices: only 'babble' has them")
        if self.noise not in MADE:
            listed(self.noise)

    def files(self) -> list[str]:
        """Return the folder of noises, if it is one."""
        return [] if self.noise in MADE else [self.noise]

    def apply(self, wave: np.ndarray, random: np.random.Generator, others: Others) -> np.ndarray:
        """Return the recording with its noise (samples,)."""
        import numpy as np

        found = np.float64(self.drawn(len(wave), random, others))
        power, wanted = np.mean(found**2), speech_power(wave) / 10 ** (self.snr / 10)
        return (wave + found * np.sqrt(wanted / power if power else 0.0)).astype(np.float32)

    def drawn(self, samples: int, random: np.random.Generator, others: Others) -> np.ndarray:
        """Return noise (samples,) of any power."""
        import numpy as np

        if self.noise == "white":
            return random.standard_normal(samples)
        if self.noise == "babble":
            voices = [stretch(one, samples, random) for one in others(random, self.voices or 8)]
            return np.sum([one / np.sqrt(np.mean(one**2) or 1) for one in voices], axis=0)
        names = listed(self.noise)
        return stretch(read(names[random.integers(len(names))]), samples, random)


def stretch(wave: np.ndarray, samples: int, random: np.random.Generator) -> np.ndarray:
    """Return so many samples of a recording from a drawn place, over and over if need be."""
    import numpy as np

    return np.resize(np.roll(np.float64(wave), -int(random.integers(len(wave)))), samples)


def listed(folder: str) -> list[Path]:
    """Return a folder's files but hidden ones, sorted; ValueError if there are none."""
    try:
        found = sorted(file for file in locate(folder).rglob("[!.]*") if file.is_file())
        there = bool(folder.strip()) and locate(folder).is_dir()
    except (OSError, RuntimeError, ValueError):  # no path at all
        found, there = [], False
    if not there:
        named = unknown("noise", folder, MADE).rstrip(".")
        raise ValueError(f"noise: {named}, and there is no folder of this name")
    if not found:
        raise ValueError(f"noise: the folder '{folder}' is empty")
    return found


@cache
def read(file: Path) -> np.ndarray:
    """Return a recording of noise (samples,), int16; a ValueError if it is none."""
    from speech_pareto.data.audio import decode

    return decode(file)
