"""Units: what a masked frame must be recognised as, k-means clusters of cepstra or of a layer.

HuBERT (arXiv 2106.07447, section II).  The cepstra keep their natural spread: with every dimension
whitened the clusters follow noise and the model does not learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from speech_pareto.models.hidden_states import at_home, real_frames, states
from speech_pareto.runtime.extras import extra

if TYPE_CHECKING:
    from sklearn.cluster import MiniBatchKMeans

FRAME = 320  # samples between two frames of a model, 20 ms
CONTEXT = 560  # samples that the last frame of a 20 ms log-mel stem needs
LOOSENESS = 0.01  # of the head's fit, scikit-learn's C: more fits masked frames less well


class UnitPredictor(nn.Module):
    """A backbone with one linear map from its last layer to units: what is trained on them."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.config, self.preprocessor = backbone.config, backbone.preprocessor

    def forward(
        self, waves: Tensor, attention_mask: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return logits (batch, frames, units); `mask` (batch, frames) hides frames."""
        batch = {"input_values": waves, "attention_mask": attention_mask}
        return self.head(states(self.backbone, batch, mask)[-1])


class Labeller:
    """Names the unit of each frame: the nearest of `centres` (units, dim) to a teacher's `layer`.

    `layer` is 1-based.  Labels are made while a student trains, from the same audio, so that none
    are stored.
    """

    def __init__(self, teacher: nn.Module, layer: int, centres: Tensor) -> None:
        self.teacher, self.layer, self.centres = teacher, layer, centres

    def __call__(self, batch: Mapping) -> Tensor:
        """Return the units (batch, frames) of `input_values` and `attention_mask`."""
        with torch.no_grad():
            features = states(self.teacher, batch)[self.layer]
            with torch.autocast(features.device.type, enabled=False):  # distances need all digits
                return torch.cdist(features.float(), self.centres).argmin(-1)


def cepstra(wave: np.ndarray) -> np.ndarray:
    """Return c0-c12 (frames, 13) of the 80 log-mel bands, one frame per 20 ms."""
    with extra("workflow"):
        from scipy.fft import dct

    from speech_pareto.models.layers.log_mel import LogMel

    bands = LogMel()(torch.from_numpy(wave)[None])[0].T.numpy()  # (T, 160)
    mean = bands.reshape(len(bands), 2, -1).mean(axis=1)  # (T, 80)
    return dct(mean, type=2, norm="ortho", axis=1)[:, :13]


def describe(utterances: list[np.ndarray], speakers: list[str]) -> list[np.ndarray]:
    """Return (frames, 26) per utterance from its cepstra (frames, 13).

    Per speaker centred and scaled, the corpus-wide spread kept to the power 0.7, c0 damped, joined
    with the change over 6 frames, smoothed over 3.
    """
    stacked = np.concatenate(utterances)
    weight = stacked.std(axis=0) ** 0.7
    weight[0] *= 0.6
    moments = {}
    for speaker in set(speakers):
        own = np.concatenate([u for u, s in zip(utterances, speakers, strict=True) if s == speaker])
        moments[speaker] = own.mean(axis=0), own.std(axis=0) + 1e-6
    result = []
    for utterance, speaker in zip(utterances, speakers, strict=True):
        mean, spread = moments[speaker]
        static = (utterance - mean) / spread * weight
        padded = np.pad(static, ((3, 3), (0, 0)), mode="edge")
        joined = np.concatenate([static, (padded[6:] - padded[:-6]) / 2], axis=1)
        edge = np.pad(joined, ((1, 1), (0, 0)), mode="edge")
        result.append((edge[:-2] + 2 * edge[1:-1] + edge[2:]) / 4)
    return result


def centred(features: list[np.ndarray], speakers: list[str]) -> list[np.ndarray]:
    """Return features (frames, dim) less their speaker's mean, so that units are not voices."""
    means = {}
    for speaker in set(speakers):
        own = [f for f, s in zip(features, speakers, strict=True) if s == speaker]
        means[speaker] = np.concatenate(own).mean(axis=0)
    return [f - means[s] for f, s in zip(features, speakers, strict=True)]


def k_means(features: np.ndarray, count: int, seed: int) -> MiniBatchKMeans:
    """Return k-means with `count` centres, fitted to features (frames, dim)."""
    with extra("workflow"):
        from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(
        count, batch_size=10_000, max_iter=20, n_init=3, random_state=seed, compute_labels=False
    ).fit(features.astype(np.float32))


def cluster(features: list[np.ndarray], count: int, seed: int) -> list[np.ndarray]:
    """Return the unit of each frame, uint8 or uint16 (frames,), of k-means with `count` centres."""
    means = k_means(np.concatenate(features), count, seed)
    kind = np.uint8 if count <= 256 else np.uint16
    return [means.predict(f.astype(np.float32)).astype(kind) for f in features]


def fit(
    teacher: nn.Module, batches: list[Mapping], layer: int, count: int, seed: int
) -> tuple[Labeller, nn.Linear]:
    """Return the units of a teacher's `layer`, at most `count`, and a head that predicts them.

    The head is a logistic regression on the teacher's last layer, nothing masked, so that a student
    starts where its teacher stands; published backbones come without the head of their pretraining.
    ValueError if fewer than 3 units are found.
    """
    with extra("workflow"):
        from sklearn.linear_model import LogisticRegression

    place, inner, last = next(teacher.parameters()).device, [], []
    for batch in batches:
        batch = at_home(teacher, batch)
        with torch.no_grad():
            found = states(teacher, batch)
        real = real_frames(teacher, batch)
        inner.append(found[layer][real].float().cpu().numpy())  # (frames, dim)
        last.append(found[-1][real].float().cpu().numpy())
    features = np.concatenate(inner)
    means = k_means(features, count, seed)
    # A unit that no frame has is left out.
    kept, labels = np.unique(means.predict(features), return_inverse=True)
    if len(kept) < 3:
        raise ValueError(f"{len(kept)} units in {len(labels)} frames; training needs 3 or more")
    centres = torch.from_numpy(means.cluster_centers_[kept]).float().to(place)
    probe = LogisticRegression(C=LOOSENESS, max_iter=100).fit(np.concatenate(last), labels)
    head = nn.Linear(probe.coef_.shape[1], len(kept))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(probe.coef_))
        head.bias.copy_(torch.from_numpy(probe.intercept_))
    return Labeller(teacher, layer, centres), head.to(place)


@torch.no_grad()
def layer_features(
    model: torch.nn.Module, waves: Iterable[np.ndarray], layer: int
) -> Iterator[np.ndarray]:
    """Yield the hidden states (frames, dim) after `layer` (1-based) for each waveform."""
    model.eval()
    for wave in waves:
        out = model(torch.from_numpy(wave)[None], output_hidden_states=True)
        yield out.hidden_states[layer][0].float().numpy()


def in_one_block(features: Iterable[np.ndarray], lengths: list[int]) -> list[np.ndarray]:
    """Return copies of features (frames, dim), of `lengths` frames, in one block of memory.

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
    return np.split(block, np.cumsum(lengths)[:-1])


def frames(samples: int) -> int:
    """Return how many frames `framed` makes of a number of samples."""
    return max(1, samples // FRAME)


def framed(wave: np.ndarray) -> np.ndarray:
    """Return a waveform cut to whole 20 ms blocks, padded so that each gives one frame."""
    blocks = frames(len(wave))
    cut = wave[: blocks * FRAME]
    return np.pad(cut, (0, blocks * FRAME - len(cut) + CONTEXT - FRAME))
