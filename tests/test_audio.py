"""Recordings of any format become 16 kHz mono."""

import numpy as np
import pytest
import soundfile

from speech_pareto.audio import SAMPLE_RATE, UnreadableAudio, decode


def tone(rate: int, seconds: float = 0.5) -> np.ndarray:
    """Return 440 Hz at half of full scale."""
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_rate_channels_and_level(tmp_path, kind, rate):
    path = tmp_path / f"tone.{kind}"
    soundfile.write(path, np.stack([tone(rate)] * 2, axis=1), rate)
    wave = decode(path)
    assert wave.dtype == np.int16 and abs(len(wave) - SAMPLE_RATE / 2) <= 1
    spectrum = np.abs(np.fft.rfft(wave))
    assert abs(spectrum.argmax() * SAMPLE_RATE / len(wave) - 440) < 3
    assert wave[2000:-2000].max() == pytest.approx(16384, rel=0.05)


def test_g722_is_decoded_by_ffmpeg(tmp_path):
    import av

    path = tmp_path / "tone.g722"
    with av.open(path, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16_000, layout="mono")
        samples = (tone(16_000) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    wave = decode(path)
    assert wave.dtype == np.int16 and abs(len(wave) - 8_000) < 400
    assert np.array_equal(wave, decode(path))


def test_a_file_that_is_no_audio_is_named(tmp_path):
    path = tmp_path / "notes.wav"
    path.write_text("not audio")
    with pytest.raises(UnreadableAudio, match="notes.wav"):
        decode(path)
