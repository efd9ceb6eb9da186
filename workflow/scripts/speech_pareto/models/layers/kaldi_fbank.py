"""A stem without learnt weights: Kaldi's log-mel features, for MelHuBERT (arXiv 2211.09944)."""

import torch
from torch import Tensor

from speech_pareto.models.architecture import BANDS, BINS, SAMPLE_RATE, WINDOW
from speech_pareto.models.layers.log_mel import FilterBank

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


class KaldiFbank(FilterBank):
    """40 bands through a Hamming window; the training data gives their mean and deviation."""

    def __init__(self) -> None:
        super().__init__()
        window = torch.hamming_window(WINDOW, periodic=False)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("mean", torch.zeros(COUNT))
        self.register_buffer("deviation", torch.ones(COUNT))

    def bands(self, windows: Tensor) -> Tensor:
        windows = windows * 32768
        windows = windows - windows.mean(-1, keepdim=True)
        before = torch.cat((windows[..., :1], windows[..., :-1]), -1)
        spectrum = torch.fft.rfft((windows - EMPHASIS * before) * self.window, n=BINS)
        energy = spectrum.abs().square() @ self.filters  # (B, 2T, 40)
        return (energy.clamp(FLOOR).log() - self.mean) / self.deviation
