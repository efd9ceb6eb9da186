"""How near the diagonal an attention map is: definitions by name, each of maps (..., T, T).

A frame that attends to itself alone is diagonal, one that attends everywhere is not. No paper's
name stands for one formula, so the name of the definition stands beside every number; a further
one is a further function in `DEFINITIONS`.
"""

import torch
from torch import Tensor


def distances(frames: int, like: Tensor) -> Tensor:
    """Return |i - j| of queries i and keys j (frames, frames)."""
    places = torch.arange(frames, dtype=like.dtype, device=like.device)
    return (places[:, None] - places).abs()


def row_normalised(maps: Tensor) -> Tensor:
    """Return the mean over queries of 1 - sum_j A_ij |i - j| / max_j |i - j|.

    1 is perfectly diagonal; a uniform map of many frames has 0.56, one that always attends to the
    farthest frame 0.
    """
    away = distances(maps.shape[-1], maps)
    farthest = away.amax(-1).clamp(min=1)
    return (1 - (maps * away).sum(-1) / farthest).mean(-1)


def length_normalised(maps: Tensor) -> Tensor:
    """Return - 1/T^2 sum_ij |i - j| A_ij, as Yang et al. 2020, https://arxiv.org/abs/2006.03265.

    0 is perfectly diagonal; a uniform map of many frames has -1/3.
    """
    frames = maps.shape[-1]
    return -(maps * distances(frames, maps)).sum((-2, -1)) / frames**2


DEFINITIONS = {"row_normalised": row_normalised, "length_normalised": length_normalised}
