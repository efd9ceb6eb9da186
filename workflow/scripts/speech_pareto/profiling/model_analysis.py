"""What compression did to a model: what each layer keeps, its attention, its hidden states."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from speech_pareto.data.batches import collate
from speech_pareto.data.corpus import read
from speech_pareto.models.architecture import ATTENTION
from speech_pareto.models.backbone import load
from speech_pareto.models.hidden_states import states
from speech_pareto.models.hooks import removed_after
from speech_pareto.models.layers.exit_branches import leaving
from speech_pareto.models.similarity import linear_cka
from speech_pareto.models.surgery import matrix, matrix_names, shape_of
from speech_pareto.profiling.diagonality import DEFINITIONS
from speech_pareto.runtime.hashing import rank_of

SECONDS = 30.0  # of validation audio, the same for all models of a scope
LONGEST = 12.0  # seconds; longer recordings are left out, if there are shorter ones
DIGITS = 5  # of what is written: threads may disagree on further ones


def recordings(corpora: Sequence, least: float | None = None) -> list:
    """Return some `SECONDS`, or at least so many, of validation utterances.

    They are of all splits if there are none of validation. ValueError if the corpora hold no
    utterance at all.
    """
    members = [u for folder in corpora for u in read(folder)]
    if not members:
        raise ValueError(f"there is no utterance in {', '.join(map(str, corpora))}")
    members = [u for u in members if u.split == "valid"] or members
    shortest = [min(members, key=lambda u: u.samples)]
    members = [u for u in members if u.seconds <= LONGEST] or shortest
    chosen, seconds = [], 0.0
    for utterance in sorted(members, key=lambda u: rank_of(u.id)):
        if seconds < (least or SECONDS):
            chosen.append(utterance)
            seconds += utterance.seconds
    return chosen


def analyse(teacher: str | Path, student: str | Path, utterances: list) -> dict:
    """Return the `analysis` section of a result."""
    models = {"teacher": load(teacher), "student": load(student)}
    seen = {name: listen(model, utterances) for name, model in models.items()}
    cka = linear_cka(seen["student"]["states"], seen["teacher"]["states"])
    return {
        "seconds": round(sum(u.seconds for u in utterances), 3),
        "frames": len(seen["student"]["states"][0]),
        "layers": {name: layers(model) for name, model in models.items()},
        "diagonality": {name: seen[name]["diagonality"] for name in models},
        "cka": _rounded(cka.tolist()),
    }


def layers(model) -> list[dict]:
    """Return of each layer its heads, its feed-forward rows and the weights of its matrices."""
    found = []
    for layer in model.encoder.layers:
        shape = shape_of(layer)
        weights = {"attention": 0, "ffn": 0, "zeros": 0}
        for name in matrix_names(layer):
            for parameter in matrix(layer, name).parameters():
                nonzero = int(parameter.count_nonzero())
                weights["attention" if name in ATTENTION else "ffn"] += nonzero
                weights["zeros"] += parameter.numel() - nonzero
        found.append({"heads": list(shape.heads), "rows": shape.ffn, **weights})
    return found


def listen(model, utterances: list) -> dict:
    """Return hidden `states`, L + 1 of (frames, width), and each head's `diagonality`.

    The latter is a mean over utterances: definition -> layer -> head. Each utterance runs alone.
    """
    hidden, near = [], {name: [[] for _ in model.encoder.layers] for name in DEFINITIONS}

    def keep(index: int, module, inputs, output) -> None:
        for name, define in DEFINITIONS.items():
            near[name][index].append(define(output[1][0].float()))

    attentions = [layer.attention for layer in model.encoder.layers]
    hooks = (x.register_forward_hook(partial(keep, i)) for i, x in enumerate(attentions))
    every = leaving(model, len(model.encoder.layers))
    with removed_after(hooks), every, torch.inference_mode():
        for utterance in utterances:
            wave, mask = collate([utterance.wave()], model.preprocessor["do_normalize"])
            wave, mask = (x[:, : utterance.samples] for x in (wave, mask))  # no padding
            batch = {"input_values": wave, "attention_mask": mask}
            hidden.append([x[0].float() for x in states(model, batch)])
    means = {
        name: [_rounded(torch.stack(heads).mean(0).tolist()) for heads in every]
        for name, every in near.items()
    }
    return {"states": [torch.cat(x) for x in zip(*hidden, strict=True)], "diagonality": means}


def _rounded(values: list) -> list:
    """Return numbers, nested or not, with `DIGITS` digits."""
    return [_rounded(x) if isinstance(x, list) else round(x, DIGITS) for x in values]
