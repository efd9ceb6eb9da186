"""How deep the utterances of a test split go through a model, and means over them.

Costs of a model that utterances leave early are those of one utterance, at the length at which all
models are measured, that leaves behind a given layer; their distribution is that of the layers
behind which the real utterances of the test split leave.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speech_pareto.data.batches import collate
from speech_pareto.data.corpus import Utterance, read
from speech_pareto.data.selection import utterances
from speech_pareto.models.layers.exit_branches import exits_of, leaving
from speech_pareto.runtime import result
from speech_pareto.runtime.hashing import rank_of
from speech_pareto.tasks.task import make_task

MOST = 300  # utterances; the share of a layer is then within 6 points
HIGH = 0.95  # the share of utterances that cost no more than the 95th percentile


@dataclass(frozen=True)
class Depths:
    """What share of the utterances runs how many layers; {None: 1} of a model that runs all."""

    shares: Mapping[int | None, float]
    utterances: int = 0

    def each(self, model: torch.nn.Module, measure: Callable[[], Any]) -> dict[int | None, Any]:
        """Return what `measure` finds for each depth, while all utterances go that deep."""
        found = {}
        for depth in self.shares:
            with leaving(model, depth):
                found[depth] = measure()
        return found

    def mean(self, found: Mapping[int | None, Any]) -> Any:
        """Return the mean over utterances of numbers, or mappings of such, by depth."""
        first = next(iter(found.values()))
        if len(found) == 1:
            return first
        if isinstance(first, Mapping):
            return {key: self.mean({d: own[key] for d, own in found.items()}) for key in first}
        if not isinstance(first, int | float):
            return first
        return sum(share * found[depth] for depth, share in self.shares.items())

    def high(self, found: Mapping[int | None, Any]) -> Any:
        """Return what belongs to the 95th percentile over utterances; deeper ones cost more."""
        passed = 0.0
        for depth in sorted(self.shares, key=lambda depth: depth or 0):
            passed += self.shares[depth]
            if passed >= HIGH - 1e-9:
                break
        return found[depth]


WHOLE = Depths({None: 1.0})


def heard(model: torch.nn.Module, folder: str | Path, corpora: Sequence) -> Depths:
    """Return how deep the test utterances of `corpora` go through the model of a folder.

    `WHOLE` for a model without exits. Each utterance runs alone; those that its task cannot use do
    not count, and of more than `MOST` a fixed sample is heard. Without corpora none leaves.
    """
    exits = exits_of(model)
    if exits is None:
        return WHOLE
    if not corpora:
        return Depths({exits.last: 1.0})
    chosen = sorted(_test(Path(folder), corpora), key=lambda u: (rank_of(u.id), u.corpus))[:MOST]
    found: Counter[int] = Counter()
    with torch.inference_mode():
        for utterance in chosen:
            wave, mask = collate([utterance.wave()], model.preprocessor["do_normalize"])
            model(wave, attention_mask=mask)
            found.update(exits.depths)
    return Depths({d: n / len(chosen) for d, n in sorted(found.items())}, len(chosen))


def _test(folder: Path, corpora: Sequence) -> list[Utterance]:
    """Return the test utterances of the task that a folder was fine-tuned on, else all of them."""
    file = folder / "provenance.json"
    task = result.read_json(file).get("task") if file.is_file() else None
    if task:
        found = utterances(task, make_task(task), corpora, "test")
    else:
        found = [u for corpus in corpora for u in read(corpus) if u.split == "test"]
    if not found:
        raise ValueError(f"there is no test utterance in {', '.join(map(str, corpora))}")
    return found
