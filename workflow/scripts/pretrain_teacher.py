"""Pretrain a small HuBERT: masked prediction of units, from cepstra and then from its own layer."""

import logging
import shutil
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from speech_pareto.data.corpus import Utterance, credits, read
from speech_pareto.models.backbone import new, save, tiny_config
from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.processes import first
from speech_pareto.runtime.provenance import meta
from speech_pareto.runtime.result import to_text
from speech_pareto.training import frame_units
from speech_pareto.training.checkpoint import keep, newest
from speech_pareto.training.hubert_units import UnitPredictor
from speech_pareto.training.loop import Training, train
from speech_pareto.training.masking import span_mask

log = logging.getLogger(__name__)


class Windows:
    """Windows of fixed length from speech of one speaker, with the unit of each frame."""

    def __init__(
        self,
        waves: list,
        labels: list,
        speakers: list,
        seconds: float,
        size: int,
        seed: int,
    ) -> None:
        self.frames = round(seconds * 16_000 / frame_units.FRAME)
        self.size = size
        self.waves, self.labels, self.seed = waves, labels, seed
        self.by_speaker = defaultdict(list)
        for index, speaker in enumerate(speakers):
            self.by_speaker[speaker].append(index)
        self.epochs, self.count = {}, None

    def epoch(self, number: int) -> list[list[tuple[int, int, int]]]:
        """Return shuffled windows, each a list of (utterance, first block, last block)."""
        if number not in self.epochs:
            generator = np.random.default_rng([self.seed, number])
            windows = []
            for _, members in sorted(self.by_speaker.items()):
                window, room = [], self.frames
                for index in generator.permutation(members):
                    begin, total = 0, len(self.labels[index])
                    while begin < total:
                        end = min(total, begin + room)
                        window.append((int(index), begin, end))
                        room, begin = room - (end - begin), end
                        if room == 0:
                            windows.append(window)
                            window, room = [], self.frames
            generator.shuffle(windows)
            self.epochs = {number: windows}  # one epoch in memory
            self.count = self.count or len(windows) // self.size
        return self.epochs[number]

    def batch(self, step: int, generator: object = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return waveforms (batch, samples) and units (batch, frames) of a step."""
        count = self.count or (self.epoch(0) and self.count)
        windows = self.epoch(step // count)
        chosen = windows[step % count * self.size :][: self.size]
        waves = np.stack([self.window(window) for window in chosen])
        labels = np.stack([np.concatenate([self.labels[i][b:e] for i, b, e in w]) for w in chosen])
        return torch.from_numpy(waves), torch.from_numpy(labels.astype(np.int64))

    def window(self, parts: list) -> np.ndarray:
        """Return the samples of a window and the context that its last frame looks at."""
        size = frame_units.FRAME
        pieces = [self.waves[i][b * size : e * size] for i, b, e in parts]
        joined = np.concatenate(pieces).astype(np.float32) / 32768
        return np.pad(joined, (0, frame_units.CONTEXT - size))


def main(settings: dict, corpora: list, seed: int, output: str | Path, state: str | Path) -> None:
    """Write a pretrained backbone to the folder `output`, with its training curve.

    `settings`: `model` (arguments of `tiny_config`), `iterations` (a list: units, optionally the
    layer they come from, and the settings of `Training`), `window_seconds`, `mask_share`,
    `mask_span`, `unmasked_weight`. Of several processes the first one writes.
    """
    state, output = Path(state), Path(output)
    utterances = [u for folder in corpora for u in read(folder) if u.split == "train"]
    speakers = [frame_units.voice(u) for u in utterances]
    waves = [u.audio[u.offset : u.offset + u.samples] for u in utterances]  # int16, still on disk
    torch.manual_seed(seed)
    backbone, curves = new(tiny_config(**settings.get("model", {}))), []
    for number, iteration in enumerate(settings["iterations"], start=1):
        iteration = dict(iteration)
        layer, count = iteration.pop("layer", None), iteration.pop("units")
        folder = state / f"iteration{number}"
        if finished := newest(folder, "backbone"):
            saved = torch.load(finished, weights_only=True)
            backbone.load_state_dict(saved["model"])
            curves.append(saved["curve"])
            continue
        labels = _labels(backbone, utterances, layer, count, seed, folder)
        training = Training(**iteration)
        seconds = settings["window_seconds"]
        size = training.batch_utterances or max(1, round(training.batch_seconds / seconds))
        windows = Windows(waves, labels, speakers, seconds, size, seed + number)
        torch.manual_seed(seed + number)  # the head is the same after an interruption
        head = nn.Linear(backbone.config.hidden_size, count)
        predictor = UnitPredictor(backbone, head)
        loss, name = _masked_prediction(predictor, settings), f"pretrain, iteration {number}"
        curve = train(predictor, windows.batch, loss, training, seed + number, folder, name)
        curves.append(curve)
        saved = {"model": backbone.state_dict(), "curve": curve}
        keep(folder, "backbone", partial(torch.save, saved))
    facts = {
        "settings": settings,
        "corpora": {Path(c).name: sha256(Path(c) / "manifest.tsv") for c in corpora},
        "meta": meta(seed=seed, threads=torch.get_num_threads()),
    }
    hours = sum(u.seconds for u in utterances) / 3600
    texts = {
        "README.md": _card(facts, corpora, hours, curves),
        "provenance.json": to_text(facts),
        "training.json": to_text(curves),
    }
    if first():
        save(backbone, output, torch.float16, texts)
        shutil.rmtree(state, ignore_errors=True)


def _card(facts: dict, corpora: list, hours: float, curves: list) -> str:
    """Return the model card of a pretrained teacher."""
    rows = []
    for settings, curve in zip(facts["settings"]["iterations"], curves, strict=True):
        origin = f"layer {settings['layer']}" if "layer" in settings else "cepstra"
        end = f"{curve[-1]['masked']:.2f} | {curve[-1]['accuracy']:.1f} %"
        rows.append(f"| {origin} | {settings['units']} | {settings['steps']} | {end} |")
    table = "\n".join(rows)
    return f"""---
library_name: transformers
tags: [hubert, speech, self-supervised]
---
# A tiny HuBERT

Masked prediction of k-means units (arXiv 2106.07447) on {hours:.1f} h of speech, seed
{facts["meta"]["seed"]}; log-mel features in place of the convolutional stem; weights in fp16.
Load it with `speech_pareto.models.backbone.load`.

| units of | units | steps | masked loss | masked accuracy |
|---|---|---|---|---|
{table}

`training.json` holds the curves, `provenance.json` all settings, versions, hardware and digests.

## Data

{credits(corpora)}
The weights were learnt from these recordings; whoever passes them on should pass on these credits
and licences.  Few voices, few hours: a research model for comparing compression methods.
"""


def _masked_prediction(predictor: UnitPredictor, settings: dict):
    """Return HuBERT's loss: cross-entropy on masked frames, plus a share of it on the others."""

    def loss(batch: tuple) -> tuple[torch.Tensor, dict]:
        waves, labels = batch
        lengths = torch.full((len(labels),), labels.shape[1])
        mask = span_mask(lengths, settings["mask_share"], settings["mask_span"])
        logits = predictor(waves, mask=mask).float()  # (B, T, units)
        each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        masked, seen = each[mask.flatten()].mean(), each[~mask.flatten()].mean()
        hits = (logits.argmax(-1) == labels)[mask].float().mean()
        total = masked + settings["unmasked_weight"] * seen
        return total, {"masked": masked, "accuracy": 100 * hits}

    return loss


def _labels(backbone, utterances: list[Utterance], layer, count, seed, folder: Path) -> list:
    """Return the units of each utterance, kept in `folder` for a run that is resumed."""
    if cache := newest(folder, "units"):
        with np.load(cache) as stored:
            return np.split(stored["units"], stored["ends"][:-1])

    features = frame_units.LayerStates(backbone, layer) if layer else frame_units.Cepstra()
    labels = frame_units.name_frames(features, utterances, count, seed)
    runs = np.mean([len(u) / (1 + (np.diff(u.astype(int)) != 0).sum()) for u in labels])
    log.info("%d units, a unit lasts %.2f frames", count, runs)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, units=np.concatenate(labels), ends=np.cumsum([len(u) for u in labels]))

    keep(folder, "units", write)
    return labels


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.launch import spread
    from speech_pareto.runtime.log import logged
    from speech_pareto.runtime.processes import threads
    from speech_pareto.runtime.store import stored

    job, gpus = snakemake.params.job, snakemake.resources.get("gpu")
    pieces = [each.get("accumulate", 1) for each in job["settings"]["iterations"]]
    with logged(snakemake.log[0]), reserved(gpus):
        torch.set_num_threads(threads(snakemake.threads))
        make = spread(main, gpus if pieces else 1, min(pieces, default=1))
        made = list(snakemake.input.corpora), job["seed"], snakemake.output[0]
        stored(snakemake, make, job["settings"], *made, snakemake.params.state)
