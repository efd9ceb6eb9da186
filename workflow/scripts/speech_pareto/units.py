"""Units: what a masked frame must be recognised as, k-means clusters of cepstra or of a layer.

HuBERT (arXiv 2106.07447, section II).  The cepstra keep their natural spread: with every dimension
whitened the clusters follow noise and the model does not learn.
"""

from collections.abc import Callable

import numpy as np
import torch

FRAME = 320  # samples between two frames of a model, 20 ms
CONTEXT = 560  # samples that the last frame of a 20 ms log-mel stem needs


def cepstra(wave: np.ndarray) -> np.ndarray:
    """Return c0-c12 (frames, 13) of the 80 log-mel bands, one frame per 20 ms."""
    from scipy.fft import dct

    from speech_pareto.log_mel import LogMel

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


def cluster(features: list[np.ndarray], count: int, seed: int) -> list[np.ndarray]:
    """Return the unit of each frame, uint8 or uint16 (frames,), of k-means with `count` centres."""
    from sklearn.cluster import MiniBatchKMeans

    stacked = np.concatenate(features).astype(np.float32)
    means = MiniBatchKMeans(
        count, batch_size=10_000, max_iter=20, n_init=3, random_state=seed, compute_labels=False
    ).fit(stacked)
    kind = np.uint8 if count <= 256 else np.uint16
    return [means.predict(f.astype(np.float32)).astype(kind) for f in features]


def layer_features(
    model: torch.nn.Module, waves: list[np.ndarray], layer: int, progress: Callable
) -> list[np.ndarray]:
    """Return the hidden states (frames, dim) after `layer` (1-based) for each waveform."""
    model.eval()
    result = []
    with torch.no_grad():
        for wave in progress(waves):
            out = model(torch.from_numpy(wave)[None], output_hidden_states=True)
            result.append(out.hidden_states[layer][0].float().numpy())
    return result


def framed(wave: np.ndarray) -> np.ndarray:
    """Return a waveform cut to whole 20 ms blocks, padded so that each gives one frame."""
    blocks = max(1, len(wave) // FRAME)
    cut = wave[: blocks * FRAME]
    return np.pad(cut, (0, blocks * FRAME - len(cut) + CONTEXT - FRAME))
