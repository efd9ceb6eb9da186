"""What stands in for real things in a rehearsal: random weights, a head, some of the recordings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from speech_pareto.data import corpus
from speech_pareto.data.corpus import Utterance
from speech_pareto.models.backbone import build, load, save
from speech_pareto.tasks.task import save_head
from speech_pareto.training.finetuning import begin


def random_model(config: Mapping, folder: Path) -> Path:
    """Write a model of this config, compressed or not, with random weights; return its folder."""
    model = build(config)
    generator = torch.Generator().manual_seed(0)
    state = {name: _random(name, like, generator) for name, like in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    save(model, folder)
    return folder


def _random(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a tensor like `like`: ones for gains, zeros for biases, else small noise."""
    if not like.is_meta:
        return like
    if not like.is_floating_point():
        return torch.ones(like.shape, dtype=like.dtype)
    if like.ndim < 2 or name.endswith("original0"):  # of layer norms and scales; of weight norm
        value = 0.0 if name.endswith("bias") else 1.0
        return torch.full(like.shape, value, dtype=like.dtype)
    return (0.02 * torch.randn(like.shape, generator=generator)).to(like.dtype)


def new_head(task: Mapping, folder: Path, corpora: Sequence) -> None:
    """Write an untrained head beside a model, for the symbols or classes of the task's corpora."""
    model, definition, _ = begin(task, load(folder), folder, corpora)
    save_head(model, definition, folder)


def longest(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Return the longest utterance of each split."""
    by_split: dict[str, Utterance] = {}
    for utterance in utterances:
        so_far = by_split.get(utterance.split)
        if so_far is None or utterance.samples > so_far.samples:
            by_split[utterance.split] = utterance
    return list(by_split.values())


def some(utterances: Sequence[Utterance], seconds: float) -> list[Utterance]:
    """Return utterances of `seconds` of audio in each split, from all over it, and its longest."""
    chosen = {(u.corpus, u.id): u for u in longest(utterances)}
    for split in {u.split for u in utterances}:
        own = [u for u in utterances if u.split == split]
        share = min(1.0, seconds / sum(u.seconds for u in own))
        step = max(1, round(1 / share))
        chosen |= {(u.corpus, u.id): u for u in own[::step]}
    return list(chosen.values())


def speakers(utterances: Sequence[Utterance], seconds: float) -> list[Utterance]:
    """Return all utterances of as many speakers as have `seconds` of audio."""
    chosen: list[Utterance] = []
    total, before = 0.0, None
    for utterance in sorted(utterances, key=lambda u: (u.corpus, u.speaker)):
        speaker = utterance.corpus, utterance.speaker
        if total >= seconds and speaker != before:
            break
        total, before = total + utterance.seconds, speaker
        chosen.append(utterance)
    return chosen


def parts_of(corpora: Sequence, chosen: Sequence[Utterance], target: Path) -> list[Path]:
    """Write prepared corpora that hold the `chosen` utterances of others; return their folders.

    Their samples are links. A corpus of which none is chosen is left out.
    """
    folders = []
    for whole in map(Path, corpora):
        own = [u for u in chosen if u.corpus == whole.name]
        folder = target / whole.name
        if not own:
            continue
        folder.mkdir(parents=True)
        corpus.write(folder, own)
        for name in ("audio.npy", "README.md"):
            (folder / name).symlink_to((whole / name).resolve())
        folders.append(folder)
    return folders
