"""Recordings cut in their pauses while they are read."""

import tracemalloc

import numpy as np
import pytest

from speech_pareto.data import pauses
from speech_pareto.data.audio import SAMPLE_RATE, WINDOW

RANDOM = np.random.default_rng(0)


def loud(seconds):
    """Return noise."""
    return 0.1 * RANDOM.normal(size=round(seconds * SAMPLE_RATE)).astype(np.float32)


def still(seconds):
    """Return much less of it."""
    return loud(seconds) / 100


def in_blocks(wave, size):
    """Return a recording as a reader gives it."""
    return (wave[at : at + size] for at in range(0, len(wave), size))


@pytest.mark.parametrize("size", [1600, 4321, 10**6])
def test_pieces_are_what_is_said_between_pauses(size):
    spoken = [loud(6), loud(9), loud(3), loud(12), loud(7), loud(8)]
    gaps = [still(0.8), still(1.2), still(0.7), still(0.6), still(1.0), still(0)]
    whole = np.concatenate([part for pair in zip(spoken, gaps, strict=True) for part in pair])
    found = list(pauses.cut(in_blocks(whole, size)))
    for start, piece in found:
        assert np.array_equal(piece, whole[start : start + len(piece)])
    parts = [spoken[0], spoken[1], np.concatenate([spoken[2], gaps[2], spoken[3]]), *spoken[4:]]
    assert len(found) == len(parts)  # 3 s are too few for a piece
    ends = np.cumsum([len(one) + len(gap) for one, gap in zip(spoken, gaps, strict=True)])
    starts = [0, *(ends[at] for at in (0, 1, 3, 4))]
    for (start, piece), first, part in zip(found, starts, parts, strict=True):
        assert abs(start - first) <= 3200 and abs(len(piece) - len(part)) <= 6400


def test_what_is_not_long_is_whole():
    wave = np.concatenate([loud(8), still(1), loud(8)])
    ((start, piece),) = pauses.cut(in_blocks(wave, 5000))
    assert start == 0 and np.array_equal(piece, wave)
    assert list(pauses.cut(iter([]))) == []


def test_without_a_pause_the_quietest_place_is_cut():
    wave = loud(70)
    dip = slice(30 * SAMPLE_RATE, 30 * SAMPLE_RATE + 3200)
    wave[dip] /= 2
    first, second = pauses.cut(in_blocks(wave, 100_000))
    assert dip.start <= second[0] <= dip.stop and len(second[1]) <= WINDOW


def test_a_stream_is_cut_as_soon_as_a_pause_was_heard():
    given = []

    def microphone():
        for block in in_blocks(np.concatenate([loud(6), still(2), loud(4)]), 1600):
            given.append(len(block))
            yield block

    found = pauses.cut(microphone(), live=True)
    start, piece = next(found)
    assert start == 0 and 6.0 <= len(piece) / SAMPLE_RATE <= 6.2
    assert sum(given) / SAMPLE_RATE <= 6.7
    ((start, piece),) = found
    assert 7.8 <= start / SAMPLE_RATE <= 8.0 and 3.9 <= len(piece) / SAMPLE_RATE <= 4.2


def test_nothing_is_made_of_silence():
    assert list(pauses.cut([np.zeros(10 * WINDOW, np.float32)], live=True)) == []


def test_an_hour_needs_the_memory_of_a_piece():
    block = np.concatenate([loud(7), still(1)])
    tracemalloc.start()
    longest = max(len(piece) for _, piece in pauses.cut(block for _ in range(450)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert longest <= WINDOW and peak < 8 * 4 * WINDOW
