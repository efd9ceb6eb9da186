"""Many recordings through one student, in turn or in several processes, and a microphone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.runtime.extras import extra
from speech_pareto.tasks import captions
from speech_pareto.tasks.recogniser import Recogniser, load_recogniser

BLOCK = SAMPLE_RATE // 10  # samples of a stream that are read at a time


@dataclass(frozen=True)
class Answer:
    """What was made of a recording, or why it could not be; seconds of audio and computing."""

    path: Path
    text: str = ""
    error: str = ""
    heard: float = 0.0
    spent: float = 0.0
    device: str = ""


def transcribed(recognise: Recogniser, path: Path) -> str:
    """Return the text, or the class, of a recording."""
    return recognise(path)


def classified(recognise: Recogniser, path: Path) -> str:
    """Return the class of a recording and its probability, with a tab between them."""
    name, probability = recognise.classify(path)
    return f"{name}\t{probability:.4f}"


def captioned(form: str, recognise: Recogniser, path: Path) -> str:
    """Return a recording's words as one of `captions.FORMATS` has them."""
    words = [word for piece in recognise.words(path) for word in piece]
    return captions.FORMATS[form](words)


def answers(
    model: Path,
    recordings: Sequence[Path],
    ask: Callable[[Recogniser, Path], str],
    jobs: int = 1,
    threads: int | None = None,
    follow: Callable[[float], object] = lambda seconds: None,
) -> Iterator[Answer]:
    """Yield what `ask` returns of each recording, in their order.

    Each of `jobs` processes has `threads`, by default one if there are several processes. `follow`
    is told seconds of audio as they are done. FileNotFoundError or ValueError if there is no model.
    """
    if jobs == 1:
        _load(model, threads)
        _loaded.follow = follow
        yield from (_answer(ask, path) for path in recordings)
        return
    load_recogniser(model)  # what is wrong with it is said here: processes would only break
    # Forked, torch's threads would hang; each process loads the model for itself.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_load, initargs=(model, threads or 1)
    ) as pool:
        for answer in pool.map(partial(_answer, ask), recordings):
            follow(answer.heard)
            yield answer


def _load(model: Path, threads: int | None) -> None:
    """Load the model of this process."""
    global _loaded
    if threads:
        torch.set_num_threads(threads)
    _loaded = load_recogniser(model)
    with suppress(ValueError):  # what is no recogniser says so when it is asked
        _loaded(np.zeros(SAMPLE_RATE, np.float32))  # lays out memory: it is not timed


_loaded: Recogniser


def _answer(ask: Callable[[Recogniser, Path], str], path: Path) -> Answer:
    """Return what the model of this process makes of a recording."""
    _loaded.heard = _loaded.spent = 0.0
    try:
        text, error = ask(_loaded, path), ""
    except (OSError, ValueError) as reason:
        text, error = "", str(reason)
    return Answer(path, text, error, _loaded.heard, _loaded.spent, _loaded.device)


def seconds_of(recordings: Iterable[Path]) -> float | None:
    """Return how long recordings are in all, as their headers say; None if one does not."""
    with extra():
        import soundfile

    try:
        return sum(soundfile.info(path).duration for path in recordings)
    except (OSError, RuntimeError):
        return None


def heard(stream: BinaryIO, rate: int) -> Iterator[np.ndarray]:
    """Yield float32 samples (samples,) at 16 kHz of a stream of 16-bit samples, one channel."""
    with extra():
        import soxr

    convert = soxr.ResampleStream(rate, SAMPLE_RATE, 1) if rate != SAMPLE_RATE else None
    left = b""
    while data := stream.read(2 * max(1, BLOCK * rate // SAMPLE_RATE)):
        data = left + data
        whole = len(data) // 2 * 2
        left = data[whole:]
        wave = np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768
        yield convert.resample_chunk(wave) if convert else wave
    if convert:
        yield convert.resample_chunk(np.empty(0, np.float32), last=True)
