"""A stem without parameters: log-mel features in the place of a convolutional feature extractor."""

import torch
from torch import Tensor, nn

from speech_pareto.models.architecture import (
    BINS,
    HOP,
    KERNEL,
    MELS,
    SAMPLE_RATE,
    STACK,
    STRIDE,
    WINDOW,
)

# Floor of a band's mean power density, near 16-bit noise; mean and spread of its log in speech.
FLOOR, MEAN, SPREAD = 1e-7, -9.5, 4.4


def mel_filters() -> Tensor:
    """Return triangles (80, 257), each of sum 1, evenly spaced in mel = 2595 lg(1 + f / 700)."""
    top = 2595 * torch.log10(torch.tensor(1 + SAMPLE_RATE / 2 / 700, dtype=torch.float64))
    edges = torch.linspace(0, 1, MELS + 2, dtype=torch.float64) * top
    frequencies = torch.linspace(0, SAMPLE_RATE / 2, BINS // 2 + 1, dtype=torch.float64)
    mels = 2595 * torch.log10(1 + frequencies / 700)
    low, middle, high = (edges[i : i + MELS, None] for i in range(3))
    filters = torch.minimum((mels - low) / (middle - low), (high - mels) / (high - middle)).clamp(0)
    return (filters / filters.sum(1, keepdim=True)).float()


class LogMel(nn.Module):
    """Turn waveforms (batch, samples) in [-1, 1], 16 kHz, into (batch, 160, frames) of 20 ms.

    80 bands from a 25 ms Hann window each 10 ms, two neighbours stacked. Each frame depends on its
    own 560 samples alone: neither padding nor other utterances of its batch change it.
    """

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(WINDOW, periodic=False)
        self.register_buffer("window", window / window.norm(), persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)

    def forward(self, input_values: Tensor) -> Tensor:
        count = (input_values.shape[-1] - KERNEL) // STRIDE + 1
        with torch.autocast(input_values.device.type, enabled=False):
            frames = input_values.float().unfold(-1, WINDOW, HOP)[
                :, : STACK * count
            ]  # (B, 2T, 400)
            power = torch.fft.rfft(frames * self.window, n=BINS).abs().square()  # (B, 2T, 257)
            features = ((power @ self.filters.T + FLOOR).log() - MEAN) / SPREAD  # (B, 2T, 80)
        return features.unflatten(1, (count, STACK)).flatten(2).transpose(1, 2)  # (B, 160, T)

    def _freeze_parameters(self) -> None:
        """Do nothing: transformers calls this to freeze a stem, and here is nothing to freeze."""
