"""How alike the layers of two models are: linear CKA, whatever their widths.

    CKA(X, Y) = |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F)      X, Y centred over frames

Kornblith et al., ICML 2019, https://arxiv.org/abs/1905.00414. It ignores rotations and scales. With
fewer frames than features it is too high for anything: give it thousands of frames.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def linear_cka(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Return the similarity (ours, theirs) of each of our layers (frames, width) to each of theirs.

    Each is in [0, 1]; a layer that is the same for all frames has 0 with any other.
    """
    ours, theirs = ([_centred(x) for x in layers] for layers in (ours, theirs))
    lengths = [torch.tensor([_norm(x, x) for x in layers]) for layers in (ours, theirs)]
    both = torch.tensor([[_norm(x, y) ** 2 for y in theirs] for x in ours])
    return both / (lengths[0][:, None] * lengths[1]).clamp(min=1e-12)


def _centred(features: Tensor) -> Tensor:
    """Return features (frames, width) with mean 0 over the frames and length 1 in all."""
    features = features.float() - features.float().mean(0)
    return features / features.norm().clamp(min=1e-12)


def _norm(x: Tensor, y: Tensor) -> float:
    """Return |Y^T X|_F."""
    return float((y.T @ x).norm())
