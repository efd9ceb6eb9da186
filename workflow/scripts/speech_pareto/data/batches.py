"""Batches of recordings: which go together, in which order, padded to one length."""

import numpy as np
import torch
from torch import Tensor

PAD = 5120  # samples; batches are padded to a multiple, 0.32 s


def buckets(
    lengths: np.ndarray, most: int, generator: np.random.Generator, count: int | None = None
) -> list[list[int]]:
    """Return one epoch of batches: indices of like length, at most `most` padded samples in each.

    With `count`, each has so many, whatever their length; the last one that is filled may have
    fewer. Lengths are jittered by 10 % before sorting, so that batches differ between epochs.
    """
    order = np.argsort(lengths * generator.uniform(0.9, 1.1, len(lengths)), kind="stable")
    batches, longest = [[]], 0
    for index in order:
        longest = max(longest, lengths[index])
        number = len(batches[-1])
        full = longest * (number + 1) > most if count is None else number == count
        if number and full:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(int(index))
    generator.shuffle(batches)
    return batches


class Epochs:
    """Batches of step k: the same whether the run began at step 0 or was resumed at k.

    One epoch is in memory: 200 epochs of 281,241 utterances would take gigabytes.
    """

    def __init__(self, lengths: np.ndarray, most: int, seed: int, count: int | None = None) -> None:
        self.lengths, self.most, self.seed, self.count = lengths, most, seed, count
        self.first = [0]  # step of each epoch that is known, and of the next
        self.number, self.batches = -1, []

    def __call__(self, step: int) -> list[int]:
        """Return the indices of the utterances in the batch of a step."""
        while step >= self.first[-1]:
            self._open(len(self.first) - 1)
            self.first.append(self.first[-1] + len(self.batches))
        epoch = int(np.searchsorted(self.first, step, side="right")) - 1
        if epoch != self.number:
            self._open(epoch)
        return self.batches[step - self.first[epoch]]

    def _open(self, epoch: int) -> None:
        generator = np.random.default_rng([self.seed, epoch])
        self.number = epoch
        self.batches = buckets(self.lengths, self.most, generator, self.count)


def crop(wave: np.ndarray, longest: int, generator: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return `longest` samples of a longer waveform (samples,), and where they begin, drawn."""
    if len(wave) <= longest:
        return wave, 0
    begin = int(generator.integers(len(wave) - longest + 1))
    return wave[begin : begin + longest], begin


def collate(waves: list[np.ndarray], normalize: bool = False) -> tuple[Tensor, Tensor]:
    """Return padded waveforms (batch, samples) and their attention mask (batch, samples).

    `normalize` gives each recording zero mean and unit variance, as `do_normalize` of a teacher's
    preprocessor asks for.
    """
    if normalize:
        waves = [(wave - wave.mean()) / np.sqrt(wave.var() + 1e-7) for wave in waves]
    lengths = torch.tensor([len(wave) for wave in waves])
    # Few different shapes: kernels are compiled, and memory is laid out, once for each.
    padded = torch.zeros(len(waves), -(-int(lengths.max()) // PAD) * PAD)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long()
