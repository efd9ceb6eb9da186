"""A student as an upstream of s3prl: its hidden states, as SUPERB's heads read them.

    from speech_pareto.tasks.s3prl_upstream import register
    register()
    model = s3prl.nn.S3PRLUpstream("speech_pareto", "results/models/tiny/low-rank/0.5/1/any")

Nothing is copied into s3prl's tree. Only `register` needs s3prl: https://github.com/s3prl/s3prl
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from speech_pareto.data.batches import collate
from speech_pareto.models.backbone import load
from speech_pareto.models.hidden_states import frames_of, states

NAME = "speech_pareto"  # of the upstream in s3prl.hub


class Upstream(nn.Module):
    """The backbone in a folder, behind the interface that s3prl expects of an upstream."""

    def __init__(self, ckpt: str | Path, **unused) -> None:
        super().__init__()
        self.model = load(ckpt)

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples from one frame to the next, the same for all layers."""
        return prod(self.model.config.conv_stride)

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Return `hidden_states`, L + 1 of (batch, frames, dim), of waveforms (samples,).

        Frames are those of the longest recording. s3prl counts a frame or two more than there are:
        past the end of a recording its last frame stands, and not what padding gives there, which
        depends on the recordings beside it.
        """
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
        hidden = [x.float().take_along_dim(places, 1) for x in states(self.model, batch)]
        return {"hidden_states": hidden}


def register() -> None:
    """Make the upstream known to s3prl by its `NAME`."""
    from s3prl import hub

    setattr(hub, NAME, Upstream)
