"""Units: what a masked frame must be recognised as, k-means clusters of a teacher's layer.

HuBERT (arXiv 2106.07447, section II).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from speech_pareto.data.batches import collate
from speech_pareto.models.architecture import reach
from speech_pareto.models.backbone import describe
from speech_pareto.models.hidden_states import at_home, frames_of, real_frames, state_after, states
from speech_pareto.runtime.extras import extra

if TYPE_CHECKING:
    from sklearn.cluster import MiniBatchKMeans

    from speech_pareto.data.corpus import Utterance

WINDOW = 40 * 16_000  # samples that are named at once: more than most utterances have
BLOCK = 2**20  # names that are kept together
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

    `layer` is 1-based.  An utterance is named when a training first hears it: as a whole, alone and
    in fp32.  Its names are remembered, so that the teacher runs once for each utterance; they
    depend neither on a batch nor on when a training was stopped.
    """

    def __init__(self, teacher: nn.Module, layer: int, centres: Tensor) -> None:
        self.teacher, self.layer, self.centres = teacher, layer, centres
        self.field, self.stride = reach(describe(teacher))  # samples
        # Names in blocks, 2 bytes a frame (0.35 GB for 960 h), and where those of each are: small
        # tensors would keep the memory around them from being used again.
        kind = torch.int16 if len(centres) < 2**15 else torch.int32
        self.blocks, self.used = [torch.empty(BLOCK, dtype=kind, device=centres.device)], 0
        self.places: dict[tuple[str, str], tuple[int, int, int]] = {}  # block, first, end

    def __call__(self, batch: Mapping) -> Tensor:
        """Return the units (batch, frames) of a batch; those of padding mean nothing.

        A batch that does not say what is `heard` is named as it is, and forgotten. So is every
        batch if the teacher has dropout.
        """
        if "heard" not in batch or any(part.training for part in self.teacher.modules()):
            return self._nearest(batch)
        rows = []
        for utterance, begin in batch["heard"]:
            block, first, end = self._place(utterance)
            rows.append(self.blocks[block][first:end][begin // self.stride :])
        number = frames_of(self.teacher.config, batch["input_values"].shape[1])
        found = nn.utils.rnn.pad_sequence(rows, batch_first=True)[:, :number]
        return nn.functional.pad(found, (0, number - found.shape[1])).long()

    def _place(self, utterance: Utterance) -> tuple[int, int, int]:
        """Return where the names of an utterance are; name it, if nobody has."""
        key = utterance.corpus, utterance.id
        if key not in self.places:
            own = self._of(utterance.wave())
            if self.used + len(own) > len(self.blocks[-1]):
                self.blocks.append(self.blocks[0].new_empty(max(BLOCK, len(own))))
                self.used = 0
            first, self.used = self.used, self.used + len(own)
            self.blocks[-1][first : self.used] = own
            self.places[key] = len(self.blocks) - 1, first, self.used
        return self.places[key]

    def _of(self, wave: np.ndarray) -> Tensor:
        """Return the unit of each frame (frames,) of a waveform (samples,), in long windows."""
        normalize, found = self.teacher.preprocessor["do_normalize"], []
        frames, most = frames_of(self.teacher.config, len(wave)), WINDOW // self.stride
        for first in range(0, frames, most):
            number = min(most, frames - first)
            begin, samples = first * self.stride, (number - 1) * self.stride + self.field
            waves, mask = collate([wave[begin : begin + samples]], normalize)
            waves = waves.to(self.centres.dtype)
            batch = at_home(self.teacher, {"input_values": waves, "attention_mask": mask})
            # It must not matter whether whoever hears it first computes in bf16.
            with torch.autocast(self.centres.device.type, enabled=False):
                found.append(self._nearest(batch)[0, :number])
        return torch.cat(found) if found else self.blocks[0][:0]  # too short for a frame

    def _nearest(self, batch: Mapping) -> Tensor:
        """Return the units (batch, frames) of `input_values` and `attention_mask`."""
        with torch.no_grad():
            features = state_after(self.teacher, batch, self.layer)
            with torch.autocast(features.device.type, enabled=False):  # distances need all digits
                return torch.cdist(features.float(), self.centres).argmin(-1)


def k_means(features: np.ndarray, count: int, seed: int) -> MiniBatchKMeans:
    """Return k-means with `count` centres, fitted to features (frames, dim)."""
    with extra("workflow"):
        from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(
        count, batch_size=10_000, max_iter=20, n_init=3, random_state=seed, compute_labels=False
    ).fit(np.asarray(features, np.float32))


def fit(
    teacher: nn.Module,
    batches: Sequence[Mapping],
    layer: int,
    count: int,
    seed: int,
    remember: Callable[[Callable], tuple[Tensor, ...]] = lambda make: make(),
) -> tuple[Labeller, nn.Linear]:
    """Return the units of a teacher's `layer`, at most `count`, and a head that predicts them.

    The head is a logistic regression on the teacher's last layer, nothing masked, so that a student
    starts where its teacher stands; published backbones come without the head of their pretraining.
    `remember` is that of a `Context`. ValueError if fewer than 3 units are found.
    """
    own = teacher, batches, layer, count, seed
    centres, weight, bias = remember(lambda: _fitted(*own))
    head = nn.Linear(weight.shape[1], len(weight))
    head.load_state_dict({"weight": weight, "bias": bias})
    place = next(teacher.parameters()).device
    return Labeller(teacher, layer, centres.to(place)), head.to(place)


def _fitted(
    teacher: nn.Module, batches: Sequence[Mapping], layer: int, count: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return centres (units, dim), and the head's weights (units, dim) and biases (units,)."""
    with extra("workflow"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

    inner, last = [], []
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
    centres = torch.from_numpy(means.cluster_centers_[kept]).float()
    with warnings.catch_warnings():  # a head is good enough after so many iterations
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe = LogisticRegression(C=LOOSENESS, max_iter=100).fit(np.concatenate(last), labels)
    weight, bias = (torch.from_numpy(x).float() for x in (probe.coef_, probe.intercept_))
    return centres, weight, bias
