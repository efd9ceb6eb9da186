"""Recordings decoded one after the other into a prepared corpus; what was killed goes on."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from speech_pareto.data import usable
from speech_pareto.data.audio import SAMPLE_RATE, UnreadableAudio, decode, pieces
from speech_pareto.data.corpus import AUDIO, samples_file
from speech_pareto.data.recording import Recording
from speech_pareto.runtime.ahead import in_order

_log = logging.getLogger(__name__)
JOURNAL = "decoded.jsonl"  # a line for each recording whose samples are in the file


@dataclass
class Decoded:
    """What became of a recording: its pieces (samples of each, in a row), and what is left out.

    An obstacle is (number of the piece, 0 for the whole recording; reason; sentence).
    """

    pieces: list[int]
    seconds: float
    content: str  # SHA-256 of the samples, of the file of a lossy codec
    obstacles: list[tuple[int, str, str]]


def decode_all(
    recordings: list[Recording], lossy: bool, longest: float, part: Path, threads: int
) -> Iterator[Decoded]:
    """Write all samples to the folder `part`; yield what became of each recording, in order.

    A journal beside the samples says what is done, so that a run that was killed goes on: with the
    same files and settings, or from the first file that is another one.
    """
    journal, settings = part / JOURNAL, {"lossy": lossy, "longest": longest}
    known, fresh = _known(part, settings, recordings), part / f"{JOURNAL}.new"
    with fresh.open("w", encoding="utf-8") as log:
        log.write(json.dumps(settings) + "\n")
        log.writelines(map(_line, recordings, known))
    fresh.replace(journal)
    if known:
        _log.info("%d of %d recordings were decoded before", len(known), len(recordings))
    yield from known

    def work(recording: Recording) -> tuple[Recording, Decoded, list[np.ndarray]]:
        return recording, *_decode(recording, lossy, longest)

    done, rest = sum(sum(one.pieces) for one in known), recordings[len(known) :]
    with (
        samples_file(part / AUDIO, done) as append,
        journal.open("a", encoding="utf-8") as log,
    ):
        for recording, one, waves in in_order(work, rest, threads, 2 * threads):
            for wave in waves:
                append(wave)
            log.write(_line(recording, one))
            log.flush()
            yield one


def _line(recording: Recording, one: Decoded) -> str:
    """Return a recording's line of the journal."""
    return json.dumps([_identity(recording), asdict(one)]) + "\n"


def _identity(recording: Recording) -> list:
    """Return what tells whether a file is the one that was decoded before."""
    if not recording.path.is_file():
        return [str(recording.path)]
    about = recording.path.stat()
    has_words = bool(recording.text or recording.label)  # these are not cut into pieces
    return [str(recording.path), about.st_size, about.st_mtime_ns, has_words]


def _known(part: Path, settings: dict, recordings: list[Recording]) -> list[Decoded]:
    """Return what an earlier run has done of the first recordings; nothing if there was none."""
    rows = []
    try:
        size = (part / AUDIO).stat().st_size
        for line in (part / JOURNAL).read_text(encoding="utf-8").splitlines():
            rows.append(json.loads(line))
    except FileNotFoundError:
        return []
    except ValueError:
        pass  # the run was killed while it wrote this line: those before it hold
    if not rows or rows[0] != settings:
        return []
    known = []
    for recording, (identity, one) in zip(recordings, rows[1:], strict=False):
        size -= 2 * sum(one["pieces"])
        if identity != _identity(recording) or size < 0:
            break
        obstacles = [(number, reason, said) for number, reason, said in one.pop("obstacles")]
        known.append(Decoded(**one, obstacles=obstacles))
    return known


def _decode(recording: Recording, lossy: bool, longest: float) -> tuple[Decoded, list[np.ndarray]]:
    """Return what becomes of a recording, and its samples; one without words may become pieces."""
    try:
        wave = decode(recording.path)
        obstacle = usable.obstacle(wave)
    except UnreadableAudio as error:
        wave, obstacle = np.empty(0, np.int16), (error.reason, error.detail)
    seconds, parts = len(wave) / SAMPLE_RATE, [wave]
    if not obstacle and seconds > longest:
        if recording.text or recording.label:
            said = f"{seconds:.1f} s are longer than the {longest:g} s that `longest` allows"
            obstacle = "too long", said
        else:
            parts = list(pieces(wave, round(min(usable.PIECE, longest) * SAMPLE_RATE)))
    if lossy and recording.path.is_file():
        with recording.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    else:
        content = hashlib.sha256(wave.data).hexdigest()
    if obstacle:
        return Decoded([], seconds, content, [(0, *obstacle)]), []
    kept, obstacles = [], []
    for number, part in enumerate(parts, start=1):
        if len(parts) > 1 and (obstacle := usable.obstacle(part)):
            obstacles.append((number, *obstacle))
        else:
            kept.append(part)
    return Decoded([len(part) for part in kept], seconds, content, obstacles), kept
