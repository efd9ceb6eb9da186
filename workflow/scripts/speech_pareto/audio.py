"""Read recordings of any format and rate as 16 kHz mono."""

from pathlib import Path

import numpy as np

from speech_pareto.extras import extra

SAMPLE_RATE = 16_000  # Hz, what every teacher here expects


class UnreadableAudio(ValueError):
    """A recording that no decoder could read; the message names the file."""


def decode(path: str | Path) -> np.ndarray:
    """Return a recording as int16 samples (samples,) at 16 kHz mono.

    libsndfile reads what it knows (WAV, FLAC, Ogg, MP3, ...), FFmpeg through PyAV the rest
    (G.722, M4A, ...).  Raises `UnreadableAudio`.
    """
    with extra():
        import soundfile

    try:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a suffix it takes for headerless
        return _decode_with_ffmpeg(Path(path))
    return _as_int16(_resample(wave.mean(axis=1), rate))


def _decode_with_ffmpeg(path: Path) -> np.ndarray:
    """Return int16 samples at 16 kHz; G.722 stays integer from file to result."""
    with extra():
        import av

    try:
        with av.open(path, format="g722" if path.suffix == ".g722" else None) as container:
            stream = container.streams.audio[0]
            exact = stream.codec_context.name == "adpcm_g722"
            layout = av.AudioResampler(format="s16" if exact else "flt", layout="mono")
            frames = [
                out.to_ndarray()[0]
                for frame in [*container.decode(stream), None]  # None flushes the resampler
                for out in layout.resample(frame)
            ]
            rate = stream.codec_context.sample_rate
    except (OSError, IndexError, av.FFmpegError) as error:
        raise UnreadableAudio(
            f"{path}: neither libsndfile nor FFmpeg can read it: {error}"
        ) from None
    if not frames:
        raise UnreadableAudio(f"{path}: it holds no audio")
    wave = np.concatenate(frames)
    return wave if exact and rate == SAMPLE_RATE else _as_int16(_resample(_as_float(wave), rate))


def _resample(wave: np.ndarray, rate: int) -> np.ndarray:
    """Return float samples at 16 kHz."""
    with extra():
        import soxr

    return wave if rate == SAMPLE_RATE else soxr.resample(wave, rate, SAMPLE_RATE)


def _as_float(wave: np.ndarray) -> np.ndarray:
    """Return samples in [-1, 1]."""
    return wave.astype(np.float32) / 32768 if wave.dtype == np.int16 else wave


def _as_int16(wave: np.ndarray) -> np.ndarray:
    """Return rounded and clipped int16 samples."""
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)
