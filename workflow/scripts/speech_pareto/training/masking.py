"""Masks of spans of frames, as HuBERT's pretraining and SpecAugment draw them."""

import torch
from torch import Tensor


def span_mask(lengths: Tensor, share: float, span: int, frames: int | None = None) -> Tensor:
    """Return a mask (batch, frames): spans start at each frame with probability share / span.

    `share` is the part of the frames that is masked if no spans overlapped (wav2vec 2.0, HuBERT
    state p = share / span as their start probability).
    """
    frames = frames or int(lengths.max())
    starts = torch.rand(len(lengths), frames, device=lengths.device) < share / span
    mask = torch.nn.functional.max_pool1d(
        torch.nn.functional.pad(starts.float(), (span - 1, 0))[:, None], span, stride=1
    )[:, 0].bool()  # (B, T): a frame is masked if one of the last `span` frames starts a span
    return mask & (torch.arange(frames, device=lengths.device) < lengths[:, None])
