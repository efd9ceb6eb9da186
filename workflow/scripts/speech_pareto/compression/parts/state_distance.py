"""How far apart hidden states are: DistilHuBERT's distance, and DPHuBERT's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def distance(ours: Tensor, theirs: Tensor, cosine: float, log: bool = True) -> Tensor:
    """Return ‖a − b‖₁ / D − λ log σ(cos(a, b)) of features (..., D), for each frame (...).

    λ is `cosine`; without `log`, the cosine itself stands in the place of its log σ.
    """
    from torch.nn import functional

    likeness = functional.cosine_similarity(ours, theirs, dim=-1)
    likeness = functional.logsigmoid(likeness) if log else likeness
    return (ours - theirs).abs().mean(-1) - cosine * likeness
