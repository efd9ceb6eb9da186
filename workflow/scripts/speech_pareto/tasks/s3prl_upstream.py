"""A student as an upstream of s3prl: its hidden states, as SUPERB's heads read them.

    from speech_pareto.tasks.s3prl_upstream import register
    register()
    model = s3prl.nn.S3PRLUpstream("speech_pareto", "results/models/tiny/low-rank/0.5/1/any")

Nothing is copied into s3prl's tree. Only `register` needs s3prl: https://github.com/s3prl/s3prl
"""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from speech_pareto.data.batches import collate
from speech_pareto.models.backbone import load
from speech_pareto.models.hidden_states import frames_of, states

NAME = "speech_pareto"  # of the upstream in s3prl.hub


class Upstream(nn.Module):
    """The backbone in a folder, behind the interface that s3prl expects of an upstream.

    With a folder `cache`, the hidden states of each recording are computed once, alone, and kept
    there: (L + 1) x frames x dim numbers of four bytes. It must be frozen then.
    """

    def __init__(self, ckpt: str | Path, cache: Path | None = None, **unused) -> None:
        super().__init__()
        self.model, self.cache = load(ckpt), cache

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples from one frame to the next, the same for all layers."""
        return prod(self.model.config.conv_stride)

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Return `hidden_states`, L + 1 of (batch, frames, dim), of waveforms (samples,).

        Frames are those of the longest recording. s3prl counts a frame or two more than there are:
        past the end of a recording its last frame stands, and not what padding gives there, which
        depends on the recordings beside it.
        """
        hidden = self._kept(wavs, self.cache) if self.cache else self._computed(wavs)
        return {"hidden_states": hidden}

    def _computed(self, wavs: Sequence[Tensor]) -> list[Tensor]:
        """Return the hidden states of a batch."""
        waves, mask = collate(
            [wave.detach().cpu().numpy() for wave in wavs], self.model.preprocessor["do_normalize"]
        )
        # no longer than s3prl's own: the group norm of Base models depends on padding
        longest, device = max(map(len, wavs)), wavs[0].device
        waves, mask = waves[:, :longest].to(device), mask[:, :longest].to(device)
        batch = {"input_values": waves, "attention_mask": mask}
        frames = frames_of(self.model.config, mask.sum(1))
        places = torch.arange(int(frames.max()), device=mask.device)
        places = torch.minimum(places, frames[:, None] - 1)[..., None]  # (batch, frames, 1)
        return [x.float().take_along_dim(places, 1) for x in states(self.model, batch)]

    def _kept(self, wavs: Sequence[Tensor], cache: Path) -> list[Tensor]:
        """Return the hidden states of a batch from those of each recording, in the cache or new."""
        alone = [self._alone(wave.detach(), cache) for wave in wavs]  # (L + 1, frames, dim)
        longest = max(one.shape[1] for one in alone)
        places = np.arange(longest)
        padded = np.stack([one[:, np.minimum(places, one.shape[1] - 1)] for one in alone], axis=1)
        return list(torch.from_numpy(padded).to(wavs[0].device))

    def _alone(self, wave: Tensor, cache: Path) -> np.ndarray:
        """Return the hidden states (L + 1, frames, dim) of a recording (samples,) by itself."""
        content = wave.cpu().numpy().tobytes()
        file = cache / f"{hashlib.sha256(content).hexdigest()[:32]}.npy"
        if not file.is_file():
            with torch.no_grad():
                hidden = torch.cat(self._computed([wave]))
            part = file.with_suffix(f".{os.getpid()}")
            with part.open("wb") as stream:
                np.save(stream, hidden.cpu().numpy())
            part.replace(file)
        return np.load(file, mmap_mode="r")


def register(cache: Path | None = None) -> None:
    """Make the upstream known to s3prl by its `NAME`; its hidden states may go to a folder."""
    from s3prl import hub

    if cache:
        cache.mkdir(parents=True, exist_ok=True)
    setattr(hub, NAME, partial(Upstream, cache=cache))
