"""Read recordings of any format and rate as 16 kHz mono, a block at a time; refuse damaged ones.

What decoders pass over in silence is looked for here: samples that the header promises and the
file lacks, numbers that are none, channels that cancel each other.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speech_pareto.runtime.extras import extra

SAMPLE_RATE = 16_000  # Hz, what every teacher here expects
BLOCK = 1 << 18  # frames that are decoded at a time, so that hours need no memory
MALFORMED = 3  # libsndfile's code: it knows the format and finds the file broken
CANCEL = 0.01  # mixed channels with less of their energy than this are each other's opposite
# Longer recordings are recognised in windows, since attention's memory grows with the square of the
# length.  LibriSpeech's longest test utterance has 35 s and is scored whole, as in published work.
WINDOW = 40 * SAMPLE_RATE  # samples
QUIET = SAMPLE_RATE // 10  # samples of the pause that a long recording is cut in
UNKNOWN_SIZE = 0x7F000000  # bytes; from here on a header's size is what programs write to pipes
# libsndfile's words on data that end before their promised size: of WAV and AIFF, AU, RF64 and W64.
MISSING = re.compile(
    r"^\s*(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)", re.M
)
STATED = ("mov", "matroska", "asf")  # containers whose header states a duration


class UnreadableAudio(ValueError):
    """A recording that cannot be used; the message names the file, `reason` is what counts it."""

    def __init__(self, path: str | Path, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass
class _Source:
    """What a decoder gives: blocks (frames, channels) at `rate`, and how much it should give.

    `promised` seconds are what the header states, None if it states nothing; a decoder may stay
    `slack` seconds below it.
    """

    blocks: Iterator[np.ndarray]
    rate: int
    promised: float | None
    slack: float


def decode(path: str | Path) -> np.ndarray:
    """Return a recording as int16 samples (samples,) at 16 kHz mono; raise as `stream` does."""
    return np.concatenate(list(stream(path)))


def stream(path: str | Path) -> Iterator[np.ndarray]:
    """Yield a recording as blocks of int16 samples (samples,) at 16 kHz mono.

    libsndfile reads what it knows (WAV, FLAC, Ogg, MP3, ...), FFmpeg through PyAV the rest
    (G.722, M4A, ...).  Raises `UnreadableAudio` for what neither reads, and for what is empty, cut
    short, damaged, holds NaN or infinity, or has channels that cancel each other: some of that is
    known at the end alone.
    """
    path = Path(path)
    if path.is_file() and not path.stat().st_size:
        raise UnreadableAudio(path, "empty", "the file is empty")
    source = _libsndfile(path) or _ffmpeg(path)
    found, energy, mixed = 0, 0.0, 0.0
    convert = _Converter(source.rate)
    for block in source.blocks:
        if not np.isfinite(block).all():
            at = (found + int(np.argmin(np.isfinite(block).all(axis=1)))) / source.rate
            said = f"NaN or infinity among its samples, {at:g} s"
            raise UnreadableAudio(path, "not finite", said)
        mono = block.mean(axis=1) if block.dtype != np.int16 else block[:, 0]
        if block.shape[1] > 1:
            energy += float(np.vdot(block, block)) / block.shape[1]
            mixed += float(np.vdot(mono, mono))
        found += len(block)
        yield convert(mono)
    if not found:
        raise UnreadableAudio(path, "empty", "it holds no samples")
    yield convert.rest()
    seconds = found / source.rate
    if source.promised and source.promised - seconds > source.slack + 0.01 * source.promised:
        said = f"its header promises {source.promised:.2f} s, {seconds:.2f} s can be read"
        raise UnreadableAudio(path, "cut or damaged", said)
    if mixed < CANCEL * energy:
        said = "its channels are opposite and cancel each other when mixed"
        raise UnreadableAudio(path, "channels cancel", said)


def pieces(wave: np.ndarray, longest: int = WINDOW) -> Iterator[np.ndarray]:
    """Yield stretches of at most `longest` samples, cut where their last half is quietest."""
    while len(wave) > longest:
        cut = quietest(wave, longest)
        yield wave[:cut]
        wave = wave[cut:]
    yield wave


def quietest(wave: np.ndarray, longest: int) -> int:
    """Return the sample around which the last half of the first `longest` ones is quietest."""
    first = longest // 2
    blocks = wave[first : longest - (longest - first) % QUIET].reshape(-1, QUIET)
    loudness = np.square(blocks, dtype=np.float32).sum(1)
    return first + int(loudness.argmin()) * QUIET + QUIET // 2


def _libsndfile(path: Path) -> _Source | None:
    """Return what libsndfile reads; None if it does not know the format."""
    with extra():
        import soundfile

    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        if error.code == MALFORMED:
            raise _damaged(path, error) from None
        return None
    except TypeError:  # a suffix that it takes for headerless
        return None
    if _ogg_ends_early(path):
        raise UnreadableAudio(path, "cut or damaged", "its last Ogg page is cut")
    # after each block `read` seeks to where it should be, which hides holes in an Ogg
    file.seekable = lambda: False
    promised = file.frames / file.samplerate
    if short := MISSING.search(file.extra_info):
        size, there = map(int, short.groups())
        if there and size < UNKNOWN_SIZE:
            promised *= size / there
    if file.format == "NIST" and (count := _nist_samples(path)):
        promised = count / file.samplerate

    def blocks() -> Iterator[np.ndarray]:
        with file:
            try:
                while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                    yield block
            except soundfile.LibsndfileError as error:
                raise _damaged(path, error) from None

    return _Source(blocks(), file.samplerate, promised, slack=0.1)


def _damaged(path: Path, error: Exception) -> UnreadableAudio:
    """Return what to raise for a file of a known format that libsndfile or FFmpeg gives up."""
    said = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    said = said.removeprefix("Error : ").rstrip(".")
    return UnreadableAudio(path, "cut or damaged", f"it cannot be decoded: {said}")


def _ogg_ends_early(path: Path) -> bool:
    """Return whether the last page of an Ogg file is longer than what is left of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        start = max(0, size - (1 << 17))  # two pages, the longest there are
        file.seek(start)
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""  # of the page's segments
    return len(page) < 27 or len(page) < 27 + page[26] + sum(lengths)


def _nist_samples(path: Path) -> int | None:
    """Return the number of samples that the header of a NIST SPHERE file states."""
    with path.open("rb") as file:
        stated = re.search(rb"sample_count -i (\d+)", file.read(1024))
    return int(stated[1]) if stated else None


def _ffmpeg(path: Path) -> _Source:
    """Return what FFmpeg reads; G.722 stays integer from file to result."""
    with extra():
        import av

    def refuse(error: object) -> UnreadableAudio:
        said = f"neither libsndfile nor FFmpeg can read it: {error}"
        return UnreadableAudio(path, "unreadable", said)

    try:
        container = av.open(path, format="g722" if path.suffix == ".g722" else None)
    except (OSError, ValueError, av.FFmpegError) as error:
        raise refuse(getattr(error, "strerror", None) or error) from None
    if not container.streams.audio:
        container.close()
        raise UnreadableAudio(path, "unreadable", "it has no audio, only other streams")
    stream = container.streams.audio[0]
    codec = stream.codec_context
    if codec is None or not codec.sample_rate:
        container.close()
        raise refuse("its codec is unknown")
    exact = codec.name == "adpcm_g722" and codec.sample_rate == SAMPLE_RATE
    promised = None
    if container.format.name.startswith(STATED):
        if stream.duration is not None and stream.time_base is not None:
            promised = float(stream.duration * stream.time_base)
        elif container.duration and len(container.streams) == 1:
            promised = container.duration / av.time_base

    def blocks() -> Iterator[np.ndarray]:
        layout = av.AudioResampler("s16", "mono") if exact else av.AudioResampler("fltp")
        with container:
            try:
                for frame in container.decode(stream):
                    for out in layout.resample(frame):
                        yield out.to_ndarray().T
                for out in layout.resample(None):  # None flushes it
                    yield out.to_ndarray().T
            except (OSError, ValueError, av.FFmpegError) as error:
                raise _damaged(path, error) from None

    return _Source(blocks(), codec.sample_rate, promised, slack=0.5)


class _Converter:
    """Turns mono blocks, floats at some rate or int16 at 16 kHz, into int16 at 16 kHz."""

    def __init__(self, rate: int) -> None:
        with extra():
            import soxr

        other = rate != SAMPLE_RATE
        self.stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1) if other else None

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Return the samples (samples,) that a block completes."""
        if wave.dtype == np.int16:
            return wave
        return _as_int16(self.stream.resample_chunk(wave) if self.stream else wave)

    def rest(self) -> np.ndarray:
        """Return the samples that were waiting for a next block."""
        if not self.stream:
            return np.empty(0, np.int16)
        return _as_int16(self.stream.resample_chunk(np.empty(0, np.float32), last=True))


def _as_int16(wave: np.ndarray) -> np.ndarray:
    """Return rounded and clipped int16 samples."""
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)
