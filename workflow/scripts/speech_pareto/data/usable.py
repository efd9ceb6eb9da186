"""Which recordings can be used: one definition, applied once, when a corpus is prepared.

All that learns from a prepared corpus, or is scored on it, relies on it.
"""

import numpy as np

from speech_pareto.data.audio import SAMPLE_RATE

SHORTEST = 560  # samples that give every stem a frame: convolutions need 400, log-mel bands 560
CLIPPED = 0.5  # of the samples that are not zero; so loud no speech is
LONGEST = 120.0  # seconds, if the corpus sets no `longest`
PIECE = 20.0  # seconds; longer recordings without words are cut into such pieces
TOLERATED = 0.1  # share of the recordings, if the corpus sets no `unusable`


def obstacle(wave: np.ndarray) -> tuple[str, str] | None:
    """Return why int16 samples (samples,) cannot be used: what counts it, and a sentence."""
    if len(wave) < SHORTEST:
        milliseconds = 1000 * len(wave) / SAMPLE_RATE
        return "too short", f"{milliseconds:.1f} ms are too short for a frame of every model"
    low, high = int(wave.min()), int(wave.max())
    if low == high:
        return "silent", "all its samples are the same: digital silence"
    at_limit = np.count_nonzero((wave >= 32767) | (wave <= -32767))
    if at_limit > CLIPPED * np.count_nonzero(wave):
        at = f"{at_limit / len(wave):.0%} of its samples are at the limit"
        return "clipped", f"{at}: clipped, or integers stored as floats"
    return None
