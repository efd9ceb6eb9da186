"""One vector of an utterance from those of its frames: a layer between a task's head and its loss.

The head maps each frame by a matrix first, as SUPERB's heads do; so a student that learnt to map
its last layer to its teacher's can begin with the teacher's head (`head.hand_on_head`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

ATTENTION = 64  # width of the hidden layer that weighs frames
FLOOR = 1e-5  # added to variances, whose root has no slope at 0


class Pooled(nn.Module):
    """A linear map of an utterance's pooled frames.

    `pooling` is `mean`, `statistics` (mean and standard deviation) or `attentive`: both, weighted
    by a = softmax over t of v . tanh(W h_t + b), Okabe et al., Interspeech 2018.
    """

    def __init__(self, features: int, pooling: str, outputs: int) -> None:
        super().__init__()
        self.deviates = pooling != "mean"
        self.attention = None
        if pooling == "attentive":
            layers = nn.Linear(features, ATTENTION), nn.Tanh(), nn.Linear(ATTENTION, 1, bias=False)
            self.attention = nn.Sequential(*layers)
        self.out = nn.Linear(features * (2 if self.deviates else 1), outputs)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return (batch, outputs) of frames (batch, T, features), `lengths` (batch,) of them valid.

        Sums are taken in full precision, also under autocast.
        """
        lengths = lengths.to(frames.device)
        valid = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]  # (B, T)
        frames = frames.float().masked_fill(~valid[..., None], 0.0)
        if self.attention is None:
            shares = valid / lengths[:, None]
        else:
            weights = self.attention(frames).squeeze(-1).float()
            shares = weights.masked_fill(~valid, -math.inf).softmax(-1)
        shares = shares[..., None]
        pooled = mean = (shares * frames).sum(1)
        if self.deviates:
            variance = (shares * (frames - mean[:, None]).square()).sum(1)
            pooled = torch.cat([mean, (variance + FLOOR).sqrt()], -1)
        return self.out(pooled)


class Embedder(Pooled):
    """A vector of length 1 for an utterance, and one for each speaker of training to compare with.

    `speakers` (number, embedding) has no part in the vector: an exported model lacks it.
    """

    def __init__(self, features: int, pooling: str, embedding: int, speakers: int) -> None:
        super().__init__(features, pooling, embedding)
        self.speakers = nn.Parameter(torch.randn(speakers, embedding))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return (batch, embedding), each of length 1, see `Pooled`."""
        return functional.normalize(super().forward(frames, lengths).float(), dim=-1)


def aam_softmax(
    embeddings: Tensor, speakers: Tensor, targets: Tensor, margin: float, scale: float
) -> Tensor:
    """Return the additive angular margin loss, averaged over a batch: Deng et al., CVPR 2019.

        -log softmax(s c)_y,  c_j = cos θ_j,  but c_y = cos(θ_y + m)

    for embeddings (batch, size) of length 1 and `targets` (batch,), rows of `speakers` (number,
    size). Where θ_y + m > π, the cosine would rise again: c_y = cos θ_y - m sin m there, as in the
    authors' code.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        cosines = embeddings.float() @ functional.normalize(speakers.float(), dim=-1).T
        own = cosines.gather(1, targets[:, None])
        sine = (1 - own.square()).clamp_min(1e-12).sqrt()
        turned = own * math.cos(margin) - sine * math.sin(margin)
        turned = torch.where(
            own > math.cos(math.pi - margin), turned, own - margin * math.sin(margin)
        )
        cosines = cosines.scatter(1, targets[:, None], turned)
        return functional.cross_entropy(scale * cosines, targets)
