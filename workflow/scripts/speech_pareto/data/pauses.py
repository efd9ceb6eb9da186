"""A recording cut in its pauses while it is read, so that hours of it need little memory.

A pause is half a second in which each tenth is at least 20 dB below the loud parts around it.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from speech_pareto.data.audio import QUIET, SAMPLE_RATE, WINDOW, quietest

LEAST = 5 * SAMPLE_RATE  # samples before a pause in which a recording is cut
PAUSE, KEPT = 5, 1  # blocks of QUIET samples: of a pause, and what stays of it at either side
LOUD, BELOW = 0.9, 0.1  # quantile of the blocks' amplitudes; of it, what a pause stays below


def cut(
    blocks: Iterable[np.ndarray], longest: int = WINDOW, live: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first sample of each piece of a recording, and its samples (samples,).

    A recording of at most `longest` samples is one piece. A longer one is cut in the first pause
    after `LEAST` samples, or where the last half of `longest` samples is quietest; of pauses at the
    ends of its pieces a tenth of a second stays, since models have learnt from utterances. `live`
    cuts in each such pause once it was heard, however short the recording will be.
    """
    have, start, whole = np.empty(0, np.float32), 0, not live
    for block in blocks:
        have = np.concatenate([have, block])
        while (live and len(have) > LEAST) or len(have) > longest:
            whole = False
            at = pause(have[:longest])
            if at is None and len(have) <= longest:
                break
            at = quietest(have, longest) if at is None else at
            yield from _trimmed(start, have[:at])
            start, have = start + at, have[at:]
    if whole:
        yield from [(start, have)] * bool(len(have))
        return
    while (at := pause(have)) is not None:
        yield from _trimmed(start, have[:at])
        start, have = start + at, have[at:]
    yield from _trimmed(start, have)


def pause(wave: np.ndarray) -> int | None:
    """Return the middle of the first pause after `LEAST` samples; None if there is none."""
    quiet = _quiet(wave)
    first = None
    for index in range(LEAST // QUIET, len(quiet)):
        if not quiet[index]:
            if first is not None and index - first >= PAUSE:
                return (first + index) * QUIET // 2
            first = None
        elif first is None:
            first = index
    if first is not None and len(quiet) - first >= PAUSE:
        return (first + len(quiet)) * QUIET // 2
    return None


def _quiet(wave: np.ndarray) -> np.ndarray:
    """Return of each block of QUIET samples whether it is quiet (blocks,)."""
    blocks = wave[: len(wave) - len(wave) % QUIET].reshape(-1, QUIET)
    if not len(blocks):
        return np.zeros(0, bool)
    loudness = np.sqrt(np.square(blocks, dtype=np.float32).mean(1))
    return loudness <= BELOW * np.quantile(loudness, LOUD)


def _trimmed(start: int, wave: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a piece without most of the pauses at its ends; nothing where no block is loud."""
    loud = (~_quiet(wave)).nonzero()[0]
    if not len(loud):
        return
    first = max(0, int(loud[0]) - KEPT) * QUIET
    # What is too short for a block of its own belongs to the last one.
    last = len(wave) if loud[-1] + KEPT >= len(wave) // QUIET - 1 else (loud[-1] + 1 + KEPT) * QUIET
    yield start + first, wave[first:last]
