"""Recordings of any format become 16 kHz mono."""

import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr

from speech_pareto.data.audio import SAMPLE_RATE, UnreadableAudio, decode, pieces


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


def noise(seconds: float) -> np.ndarray:
    """Return noise at 16 kHz, which no codec makes small."""
    return np.random.default_rng(1).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)


def encoded(path, wave=None, **settings):
    """Write 20 s of noise, or `wave`, and return its bytes."""
    soundfile.write(path, noise(20) if wave is None else wave, 16_000, **settings)
    return path.read_bytes()


KINDS = {
    "wav": {},
    "flac": {},
    "ogg": {},
    "mp3": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "aiff": {},
    "au": {},
    "w64": {},
    "rf64": {"format": "RF64"},
    "sph": {"format": "NIST", "subtype": "PCM_16"},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_what_is_cut_short_is_refused(tmp_path, kind, share):
    path = tmp_path / f"speech.{kind}"
    data = encoded(path, **KINDS[kind])
    assert len(decode(path)) == 320_000
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UnreadableAudio, match=rf"speech\.{kind}: ") as caught:
        decode(path)
    assert caught.value.reason in ("cut or damaged", "unreadable", "empty")


@pytest.mark.parametrize("kind", ["flac", "ogg", "opus"])
def test_bytes_that_flipped_are_found(tmp_path, kind):
    path = tmp_path / f"speech.{kind}"
    data = bytearray(encoded(path, **KINDS[kind]))
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(byte ^ 255 for byte in data[middle : middle + 40])
    path.write_bytes(data)
    with pytest.raises(UnreadableAudio, match="speech") as caught:
        decode(path)
    assert caught.value.reason == "cut or damaged"


def with_ffmpeg(path, codec, **options):
    """Write 20 s of noise with FFmpeg."""
    import av

    with av.open(path, "w", options=options) as container:
        stream = container.add_stream(codec, rate=16_000, layout="mono")
        form = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=16_000)
        frame = av.AudioFrame.from_ndarray(noise(20)[None], format="flt", layout="mono")
        frame.sample_rate = 16_000
        waiting = av.AudioFifo()
        for part in form.resample(frame):
            waiting.write(part)
        while part := waiting.read(stream.codec_context.frame_size) or waiting.read():
            for packet in stream.encode(part):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.m4a", {}), ("first.m4a", {"movflags": "faststart"}), ("a.mkv", {}), ("a.aac", {})],
)
def test_what_ffmpeg_alone_reads_must_be_whole_too(tmp_path, name, options):
    path = tmp_path / name
    data = with_ffmpeg(path, "aac", **options)
    assert abs(len(decode(path)) / 16_000 - 20) < 0.2
    for share in (0.1, 0.5):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(UnreadableAudio, match=name):
            decode(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 32_044], ids=["pipe", "sox", "file"])
def test_headers_that_programs_write_to_pipes_are_sound(tmp_path, size):
    path = tmp_path / "piped.wav"
    data = bytearray(encoded(path, noise(1)))
    data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    assert len(decode(path)) == 16_000


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (np.where(np.arange(16_000) == 4_000, np.nan, 0.1), "not finite"),
        (np.where(np.arange(16_000) == 4_000, np.inf, 0.1), "not finite"),
        (np.stack([tone(16_000), -tone(16_000)], 1), "channels cancel"),
        (np.empty(0), "empty"),
    ],
)
def test_numbers_that_are_no_sound_are_refused(tmp_path, wave, reason):
    path = tmp_path / "bad.wav"
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    with pytest.raises(UnreadableAudio, match=r"bad\.wav") as caught:
        decode(path)
    assert caught.value.reason == reason


def test_channels_that_differ_are_mixed(tmp_path):
    path = tmp_path / "stereo.wav"
    left = noise(1)
    right = np.roll(left, 1_000)
    soundfile.write(path, np.stack([left, right, 0 * left], 1), 16_000, subtype="FLOAT")
    mixed = np.rint((left + right) / 3 * 32768)
    assert np.abs(decode(path) - mixed).max() <= 1


def test_what_has_no_audio_is_named(tmp_path):
    import av

    silent = tmp_path / "film.mp4"
    with av.open(silent, "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={})
        stream.width = stream.height = 32
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    unknown = tmp_path / "codec.wav"
    data = bytearray(encoded(unknown, noise(1)))
    data[20:22] = struct.pack("<H", 0x4242)
    unknown.write_bytes(data)
    zero = tmp_path / "bits.wav"
    data[20:22], data[34:36] = struct.pack("<H", 1), struct.pack("<H", 0)
    zero.write_bytes(data)
    for path, said in ((silent, "no audio"), (unknown, "can read it"), (zero, "bits.wav")):
        with pytest.raises(UnreadableAudio, match=said) as caught:
            decode(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_give_what_the_whole_gives(tmp_path, rate):
    path = tmp_path / "long.wav"
    wave = np.random.default_rng(2).normal(0, 0.1, 25 * rate).astype(np.float32)
    soundfile.write(path, wave, rate, subtype="FLOAT")
    whole = soxr.resample(wave, rate, 16_000) if rate != 16_000 else wave
    assert np.array_equal(decode(path), np.rint(whole * 32768).astype(np.int16))


@pytest.mark.slow
def test_a_long_recording_needs_little_more_than_its_samples(tmp_path):
    path = tmp_path / "hour.flac"
    soundfile.write(path, np.tile(noise(10), 120), 16_000)
    tracemalloc.start()
    samples = decode(path).nbytes
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * samples + 20e6  # the floats of it all would be 8 bytes a sample


def test_pieces_end_in_pauses():
    wave = (noise(50) * 10_000).astype(np.int16)
    wave[12 * 16_000 : 13 * 16_000] = 0
    parts = list(pieces(wave, 20 * 16_000))
    assert np.array_equal(np.concatenate(parts), wave)
    assert max(map(len, parts)) <= 20 * 16_000 and 12 <= len(parts[0]) / 16_000 <= 13
