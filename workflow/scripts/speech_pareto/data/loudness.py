"""How loud the speech of a recording is, whatever its pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

FRAME = 320  # samples, 20 ms
PAUSE = 1e-3  # of the power of the loudest frame: 30 dB below it


def speech_power(wave: np.ndarray) -> Any:
    """Return the mean power of a recording (samples,) over its frames within 30 dB of the loudest.

    Ours: ITU-T P.56 finds active speech in a finer way.
    """
    import numpy as np

    frames = np.pad(np.float64(wave), (0, -len(wave) % FRAME)).reshape(-1, FRAME)
    powers = np.mean(frames**2, axis=1)
    return powers[powers >= PAUSE * powers.max()].mean()
