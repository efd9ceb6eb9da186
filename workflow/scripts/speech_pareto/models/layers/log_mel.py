"""A stem without parameters: log-mel features in the place of a convolutional feature extractor."""

import torch
from torch import Tensor, nn

from speech_pareto.models import architecture

BINS, MELS, RATE = architecture.BINS, architecture.MELS, architecture.SAMPLE_RATE
# Floor of a band's mean power density, near 16-bit noise; mean and spread of its log in speech.
FLOOR, MEAN, SPREAD = 1e-7, -9.5, 4.4


def mel_filters() -> Tensor:
    """Return triangles (80, 257), each of sum 1, evenly spaced in mel = 2595 lg(1 + f / 700)."""
    top = 2595 * torch.log10(torch.tensor(1 + RATE / 2 / 700, dtype=torch.float64))
    edges = torch.linspace(0, 1, MELS + 2, dtype=torch.float64) * top
    frequencies = torch.linspace(0, RATE / 2, BINS // 2 + 1, dtype=torch.float64)
    mels = 2595 * torch.log10(1 + frequencies / 700)
    low, middle, high = (edges[i : i + MELS, None] for i in range(3))
    filters = torch.minimum((mels - low) / (middle - low), (high - mels) / (high - middle)).clamp(0)
    return (filters / filters.sum(1, keepdim=True)).float()


class FilterBank(nn.Module):
    """Base of the stems without convolutions: bands of a window of 25 ms each 10 ms, in fp32.

    Two neighbours are stacked, which makes frames of 20 ms; the last of an odd number is dropped.
    Each frame depends on its own 560 samples alone: neither padding nor other utterances of its
    batch change it. With a `field` of fewer samples there are as many frames as of convolutions
    with that receptive field: the last frame may lack up to 160 samples, which are read as zeros.
    Samples are multiplied by `loudness`.
    """

    def __init__(self, field: int = architecture.KERNEL) -> None:
        super().__init__()
        self.lacking = architecture.KERNEL - field
        self.loudness = 1.0

    def bands(self, windows: Tensor) -> Tensor:
        """Return (batch, 2 frames, bands) of windows of samples (batch, 2 frames, 400)."""
        raise NotImplementedError

    def forward(self, input_values: Tensor) -> Tensor:
        """Return (batch, 2 bands, frames) of waveforms (batch, samples) in [-1, 1], 16 kHz."""
        if self.lacking:
            input_values = nn.functional.pad(input_values, (0, self.lacking))
        count = (input_values.shape[-1] - architecture.KERNEL) // architecture.STRIDE + 1
        with torch.autocast(input_values.device.type, enabled=False):
            waves = input_values.float()
            waves = waves if self.loudness == 1.0 else self.loudness * waves
            windows = waves.unfold(-1, architecture.WINDOW, architecture.HOP)
            bands = self.bands(windows[:, : architecture.STACK * count])
        return bands.unflatten(1, (count, architecture.STACK)).flatten(2).transpose(1, 2)

    def _freeze_parameters(self) -> None:
        """Do nothing: transformers calls this to freeze a stem, and here is nothing to freeze."""


class LogMel(FilterBank):
    """80 bands through a Hann window."""

    def __init__(self, field: int = architecture.KERNEL) -> None:
        super().__init__(field)
        window = torch.hann_window(architecture.WINDOW, periodic=False)
        self.register_buffer("window", window / window.norm(), persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)

    def bands(self, windows: Tensor) -> Tensor:
        power = torch.fft.rfft(windows * self.window, n=BINS).abs().square()  # (B, 2T, 257)
        return ((power @ self.filters.T + FLOOR).log() - MEAN) / SPREAD
