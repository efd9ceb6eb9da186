"""The unit of each frame of a corpus: k-means of cepstra or of a layer, HuBERT's pretraining.

HuBERT (arXiv 2106.07447, section II) fits k-means to a tenth of 960 h.  Here what is fitted has a
size of its own, and the other frames are described, named and forgotten, so that memory does not
grow with the corpus: all frames of 960 h at width 768 are 530 GB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm

from speech_pareto.data.corpus import Utterance
from speech_pareto.runtime.extras import extra
from speech_pareto.training.hubert_units import k_means

FRAME = 320  # samples between two frames of a model, 20 ms
CONTEXT = 560  # samples that the last frame of a 20 ms log-mel stem needs
BAR: dict = {"unit": "utterance", "mininterval": 5}
# What k-means is fitted to: as many frames, but no more than so many bytes of features.
FRAMES, BYTES = 6_000_000, 4 * 2**30  # 33 h; 8 h of width 768


class Features(Protocol):
    """What describes frames, and how it is put right for the speaker."""

    dim: int  # numbers of a frame, as k-means sees it

    def of(self, wave: np.ndarray) -> np.ndarray:
        """Return the features (frames, any) of a waveform."""
        ...

    def fit(self, found: list[np.ndarray], speakers: list[str]) -> None:
        """Learn from features of some utterances what `adjusted` needs to know of all speakers."""
        ...

    def adjusted(self, found: np.ndarray, speaker: str) -> np.ndarray:
        """Return features (frames, dim) that do not tell the speaker."""
        ...


class Cepstra:
    """c0-c12, per speaker centred and scaled, with their change over 6 frames, smoothed over 3.

    The cepstra keep their natural spread to the power 0.7, c0 damped: with every dimension whitened
    the clusters follow noise and the model does not learn.
    """

    dim = 26

    def of(self, wave: np.ndarray) -> np.ndarray:
        """Return c0-c12 (frames, 13) of the 80 log-mel bands, one frame per 20 ms."""
        with extra("workflow"):
            from scipy.fft import dct

        from speech_pareto.models.layers.log_mel import LogMel

        bands = LogMel()(torch.from_numpy(wave)[None])[0].T.numpy()  # (T, 160)
        mean = bands.reshape(len(bands), 2, -1).mean(axis=1)  # (T, 80)
        return dct(mean, type=2, norm="ortho", axis=1)[:, :13]

    def fit(self, found: list[np.ndarray], speakers: list[str]) -> None:
        """Learn the spread of all cepstra, mean and spread of each speaker's."""
        self.weight = np.concatenate(found).std(axis=0) ** 0.7
        self.weight[0] *= 0.6
        self.moments = {
            speaker: (own.mean(axis=0), own.std(axis=0) + 1e-6)
            for speaker, own in _by_speaker(found, speakers)
        }

    def adjusted(self, found: np.ndarray, speaker: str) -> np.ndarray:
        """Return (frames, 26) from cepstra (frames, 13)."""
        mean, spread = self.moments[speaker]
        static = (found - mean) / spread * self.weight
        padded = np.pad(static, ((3, 3), (0, 0)), mode="edge")
        joined = np.concatenate([static, (padded[6:] - padded[:-6]) / 2], axis=1)
        edge = np.pad(joined, ((1, 1), (0, 0)), mode="edge")
        return (edge[:-2] + 2 * edge[1:-1] + edge[2:]) / 4


class LayerStates:
    """The hidden states after a layer (1-based), less their speaker's mean."""

    def __init__(self, model: torch.nn.Module, layer: int) -> None:
        self.model, self.layer = model.eval(), layer
        self.dim = model.config.hidden_size

    @torch.no_grad()
    def of(self, wave: np.ndarray) -> np.ndarray:
        """Return hidden states (frames, width)."""
        home = next(self.model.parameters()).device  # a GPU, once it has trained on one
        out = self.model(torch.from_numpy(wave)[None].to(home), output_hidden_states=True)
        return out.hidden_states[self.layer][0].float().cpu().numpy()

    def fit(self, found: list[np.ndarray], speakers: list[str]) -> None:
        """Learn the mean of each speaker's states."""
        self.means = {speaker: own.mean(axis=0) for speaker, own in _by_speaker(found, speakers)}

    def adjusted(self, found: np.ndarray, speaker: str) -> np.ndarray:
        """Return the states (frames, width) less the speaker's mean."""
        return found - self.means[speaker]


def name_frames(
    features: Features, utterances: Sequence[Utterance], count: int, seed: int
) -> list[np.ndarray]:
    """Return the unit of each frame of each utterance, uint8 or uint16 (frames,).

    K-means with `count` centres is fitted to at most `FRAMES` frames and `BYTES` bytes of features,
    of each speaker the same share.
    """
    lengths = [frames(utterance.samples) for utterance in utterances]
    speakers = [voice(utterance) for utterance in utterances]
    most = min(FRAMES, BYTES // (4 * features.dim))
    chosen = sample(lengths, speakers, most, seed)
    own, spoke = [lengths[i] for i in chosen], [speakers[i] for i in chosen]
    fitted = tqdm([utterances[i] for i in chosen], desc="features", **BAR)
    block = in_one_block((features.of(framed(utterance.wave())) for utterance in fitted), own)
    found = np.split(block, np.cumsum(own)[:-1])
    features.fit(found, spoke)
    if block.shape[1] == features.dim:  # in place: there may be no room for two
        for states, speaker in zip(found, spoke, strict=True):
            states[:] = features.adjusted(states, speaker)
    else:
        block = in_one_block(map(features.adjusted, found, spoke), own)
        found = np.split(block, np.cumsum(own)[:-1])
    means, known = k_means(block, count, seed), dict(zip(chosen, found, strict=True))
    # In one block: a small array for each would keep the memory around it from being used again.
    units = np.empty(sum(lengths), np.uint8 if count <= 256 else np.uint16)
    each = np.split(units, np.cumsum(lengths)[:-1])
    for index, utterance in enumerate(tqdm(utterances, desc="units", **BAR)):
        here = known.get(index)
        if here is None:
            here = features.adjusted(features.of(framed(utterance.wave())), speakers[index])
        each[index][:] = means.predict(np.asarray(here, np.float32))
    return each


def voice(utterance: Utterance) -> str:
    """Return who speaks; speakers of two corpora may have the same name."""
    return f"{utterance.corpus}/{utterance.speaker}"


def sample(lengths: Sequence[int], speakers: Sequence[str], most: int, seed: int) -> list[int]:
    """Return which utterances have about `most` frames: of each speaker the same share, not none.

    All, if they have no more.
    """
    share = most / max(1, sum(lengths))
    if share >= 1:
        return list(range(len(lengths)))
    members: dict[str, list[int]] = {}
    for index, speaker in enumerate(speakers):
        members.setdefault(speaker, []).append(index)
    chosen, generator = [], np.random.default_rng(seed)
    for speaker in sorted(members):
        wanted, got = share * sum(lengths[i] for i in members[speaker]), 0
        for index in generator.permutation(members[speaker]):
            if got and got + lengths[index] / 2 > wanted:
                break
            chosen.append(int(index))
            got += lengths[index]
    return sorted(chosen)


def in_one_block(features: Iterable[np.ndarray], lengths: list[int]) -> np.ndarray:
    """Return features (frames, dim), of `lengths` frames, copied into one block of memory.

    Kept one by one between the blocks that come and go while they are made, they leave thousands of
    gaps, which C's allocator searches for every later block: after 27,000 utterances that was half
    of the time of the training that followed.
    """
    block, end = np.empty((0, 0)), 0
    for found, length in zip(features, lengths, strict=True):
        if not end:
            block = np.empty((sum(lengths), found.shape[1]), found.dtype)
        block[end : end + length] = found
        end += length
    return block


def _by_speaker(found: list[np.ndarray], speakers: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each speaker and all of its features (frames, dim)."""
    members: dict[str, list[np.ndarray]] = {}
    for features, speaker in zip(found, speakers, strict=True):
        members.setdefault(speaker, []).append(features)
    for speaker, own in members.items():
        yield speaker, np.concatenate(own)


def frames(samples: int) -> int:
    """Return how many frames `framed` makes of a number of samples."""
    return max(1, samples // FRAME)


def framed(wave: np.ndarray) -> np.ndarray:
    """Return a waveform cut to whole 20 ms blocks, padded so that each gives one frame."""
    blocks = frames(len(wave))
    cut = wave[: blocks * FRAME]
    return np.pad(cut, (0, blocks * FRAME - len(cut) + CONTEXT - FRAME))
