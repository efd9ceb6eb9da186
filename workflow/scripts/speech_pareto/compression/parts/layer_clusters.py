"""Clusters of alike layers of a teacher, whose means a student learns: SKILL.

    target of cluster C = mean over layers l in C of t_l,  learnt by the mean of the student's h_l

t and h are hidden states, layer 0 what goes into the first one. https://arxiv.org/abs/2402.16830,
whose code is not released. Ours, where it is open: how alike layers are is what linear CKA says on
some audio, clusters are joined by average linkage, and the student's layers are those of the same
places.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor, nn

from speech_pareto.models.hidden_states import at_home, real_frames, states
from speech_pareto.models.similarity import linear_cka


def cluster_layers(teacher: nn.Module, batches: Sequence[Mapping], number: int) -> list[list[int]]:
    """Return the layers of at most `number` clusters, the lowest first, by `batches` of audio."""
    seen: list[list[Tensor]] = []
    with torch.no_grad():
        for batch in batches:
            moved = at_home(teacher, batch)
            real = real_frames(teacher, moved)
            seen.append([state[real].float().cpu() for state in states(teacher, moved)])
    layers = [torch.cat(parts) for parts in zip(*seen, strict=True)]  # (frames, D) each
    apart = (1 - linear_cka(layers, layers).double().numpy()).clip(0)  # but for rounding it is
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform((apart + apart.T) / 2), "average")
    names = fcluster(tree, number, "maxclust")
    return sorted(np.flatnonzero(names == name).tolist() for name in set(names.tolist()))


def means(clusters: Sequence[Sequence[int]], model: nn.Module, batch: Mapping) -> list[Tensor]:
    """Return the mean of a model's states over the layers of each cluster, (B, T, D) each."""
    found = states(model, batch)
    return [torch.stack([found[layer] for layer in own]).mean(0) for own in clusters]
