"""A stem without learnt weights: Kaldi's log-mel features, for MelHuBERT (arXiv 2211.09944)."""

import torch
from torch import Tensor, nn

from speech_pareto.models.architecture import (
    BANDS,
    BINS,
    HOP,
    KERNEL,
    SAMPLE_RATE,
    STACK,
    STRIDE,
    WINDOW,
)

COUNT = BANDS["kaldi_fbank"]
EMPHASIS, LOWEST = 0.97, 20.0  # of high frequencies; Hz, where the first band begins
FLOOR = torch.finfo(torch.float32).eps  # of a band's energy


def mel_filters() -> Tensor:
    """Return triangles (257, 40), even in mel = 1127 ln(1 + f / 700) from 20 Hz to 8 kHz."""
    ends = torch.tensor([LOWEST, SAMPLE_RATE / 2], dtype=torch.float64)
    low, top = 1127 * torch.log1p(ends / 700)
    edges = torch.linspace(0, 1, COUNT + 2, dtype=torch.float64) * (top - low) + low
    frequencies = torch.arange(BINS // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / BINS
    mels = 1127 * torch.log1p(frequencies / 700)[:, None]
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    slopes = torch.minimum((mels - left) / (middle - left), (right - mels) / (right - middle))
    slopes[-1] = 0  # Kaldi leaves the highest bin out
    return slopes.clamp(0).float()


class KaldiFbank(nn.Module):
    """Turn waveforms (batch, samples) in [-1, 1], 16 kHz, into (batch, 80, frames) of 20 ms.

    40 bands from a 25 ms Hamming window each 10 ms, less the training data's mean and divided by
    its deviation, two neighbours stacked; the last frame of an odd number is dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        window = torch.hamming_window(WINDOW, periodic=False)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("mean", torch.zeros(COUNT))
        self.register_buffer("deviation", torch.ones(COUNT))

    def forward(self, input_values: Tensor) -> Tensor:
        count = (input_values.shape[-1] - KERNEL) // STRIDE + 1
        with torch.autocast(input_values.device.type, enabled=False):
            waves = input_values.float() * 32768
            frames = waves.unfold(-1, WINDOW, HOP)[:, : STACK * count]  # (B, 2T, 400)
            frames = frames - frames.mean(-1, keepdim=True)
            before = torch.cat((frames[..., :1], frames[..., :-1]), -1)
            spectrum = torch.fft.rfft((frames - EMPHASIS * before) * self.window, n=BINS)
            energy = spectrum.abs().square() @ self.filters  # (B, 2T, 40)
            features = (energy.clamp(FLOOR).log() - self.mean) / self.deviation
        return features.unflatten(1, (count, STACK)).flatten(2).transpose(1, 2)  # (B, 80, T)

    def _freeze_parameters(self) -> None:
        """Do nothing: transformers calls this to freeze a stem, and here is nothing to freeze."""
