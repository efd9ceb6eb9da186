"""Codecs: a recording as it arrives behind a call, encoded and decoded in memory by FFmpeg.

    narrow_band   8 kHz, G.711 with the μ-law: a telephone line
    g722          ITU-T G.722 at 64 kb/s: wide-band telephony
    opus          RFC 6716 at `bit_rate`, frames of 20 ms, as in calls over the internet

Length and time stay: what a codec is late by is taken off, for Opus to within one sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.data.condition import Change, Others
from speech_pareto.runtime.bounds import Within
from speech_pareto.runtime.extras import extra

if TYPE_CHECKING:
    import numpy as np

FRAME = 320  # samples in a packet, where a codec takes any number
# Samples at 16 kHz that the two filter banks of G.722 are late by. Opus tells its decoder itself.
LATE = {"g722": 22}
NARROW = 8000  # Hz


@dataclass(frozen=True, kw_only=True)
class Setting(Change):
    """A codec; `bit_rate` (bits per second, 16000 if left out) is for Opus alone."""

    codec: Literal["narrow_band", "g722", "opus"]
    bit_rate: Annotated[int, Within(6000, 128_000, unit="bits per second")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bit_rate is not None and self.codec != "opus":
            raise ValueError("bit_rate: only 'opus' has one")

    def apply(self, wave: np.ndarray, random: np.random.Generator, others: Others) -> np.ndarray:
        """Return the decoded recording (samples,); what is beyond 1 is clipped before."""
        if self.codec == "opus":
            return coded("libopus", wave, SAMPLE_RATE, bit_rate=self.bit_rate or 16_000)
        if self.codec == "narrow_band":
            return coded("pcm_mulaw", wave, NARROW)
        return coded("g722", wave, SAMPLE_RATE)


def coded(name: str, wave: np.ndarray, rate: int, **options: Any) -> np.ndarray:
    """Return a recording (samples,) at 16 kHz that went through a codec at `rate`."""
    import numpy as np

    with extra():
        import av
        import soxr

    encoder: Any = av.CodecContext.create(name, "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", "s16"
    encoder.time_base = Fraction(1, rate)
    for key, value in options.items():
        setattr(encoder, key, value)
    encoder.open()
    sent = soxr.resample(wave, SAMPLE_RATE, rate) if rate != SAMPLE_RATE else wave
    sent = np.clip(np.rint(sent * 32768), -32768, 32767).astype(np.int16)
    size = encoder.frame_size or FRAME
    sent = np.pad(sent, (0, -len(sent) % size + 3 * size))  # what comes late comes, too
    packets = []
    for start in range(0, len(sent), size):
        frame = av.AudioFrame.from_ndarray(sent[None, start : start + size], "s16", "mono")
        frame.sample_rate, frame.pts = rate, start
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.sample_rate, decoder.layout, decoder.extradata = rate, "mono", encoder.extradata
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    heard = np.float32(heard / 32768 if heard.dtype == np.int16 else heard)
    if frames[0].sample_rate != SAMPLE_RATE:
        heard = soxr.resample(heard, frames[0].sample_rate, SAMPLE_RATE)
    late = LATE.get(name, 0)
    return heard[late : late + len(wave)]
