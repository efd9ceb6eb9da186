"""Speed: a recording plays faster or slower, and its pitch moves with it.

As the speed perturbation of Ko et al., Interspeech 2015, which is sox's `speed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from speech_pareto.data.condition import Change, Others
from speech_pareto.runtime.bounds import Within
from speech_pareto.runtime.extras import extra

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Setting(Change):
    """`speed` times as fast: above 1 the recording gets shorter."""

    speed: Annotated[float, Within(0.5, 2)]

    def length(self, samples: int) -> int:
        """Return how many samples are left of so many."""
        return max(1, round(samples / self.speed))

    def apply(self, wave: np.ndarray, random: np.random.Generator, others: Others) -> np.ndarray:
        """Return the recording, resampled (length(samples),)."""
        import numpy as np

        with extra():
            import soxr

        played, length = soxr.resample(wave, self.speed, 1.0), self.length(len(wave))
        return np.pad(played[:length], (0, max(0, length - len(played))))
