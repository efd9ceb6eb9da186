"""Made-up corpora and models with random weights: what the GPU kit works on, without internet."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.data.corpus import Utterance, samples_file, write
from speech_pareto.models import architecture
from speech_pareto.models.backbone import build

TEACHER = Path(__file__).parents[2] / "resources/teachers/tiny-characters"
FINE_TUNING = "fine-tuning"
AUGMENTED = {"dropout": 0.1, "mask_share": 0.25, "mask_channels": 0.1}  # of fine-tuning
LETTERS = list("etaoinshrdlu")
SPACE = " "
TASK = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}


def loop(tiny: bool) -> dict:
    """Return how long what trains the tiny teacher does so."""
    return {"steps": 2, "batch_seconds": 3.0} if tiny else {"steps": 4, "batch_seconds": 12.0}


def babble(generator: np.random.Generator, seconds: float) -> np.ndarray:
    """Return int16 samples (samples,) that sound like syllables: a buzz or noise in formants."""
    from scipy.signal import lfilter  # slow to import, and seldom needed

    pieces, left = [], round(seconds * SAMPLE_RATE)
    while left > 0:
        length = min(left, int(generator.integers(1_600, 4_800)))
        pitch = generator.uniform(90, 240)
        source = np.cumsum(np.full(length, pitch / SAMPLE_RATE)) % 1 - 0.5
        if generator.random() < 0.3:
            source = generator.normal(0, 0.3, length)
        for formant in generator.uniform((250, 800, 2_000), (800, 2_200, 3_200)):
            radius, angle = 0.97, 2 * np.pi * formant / SAMPLE_RATE
            source = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], source)
        pieces.append(source / (np.abs(source).max() + 1e-9) * np.hanning(length))
        left -= length
    return (8_000 * np.concatenate(pieces)).astype(np.int16)


def corpus(folder: Path, number: int, seconds: float, spread: float = 0.0, speech: bool = True):
    """Write a prepared corpus of `number` recordings of `seconds` ± `spread`.

    Half is for training, a quarter each for validation and test. Without `speech` they are noise,
    which is made in no time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    rows, begin = [], 0
    with samples_file(folder / "audio.npy") as append:
        for index in range(number):
            length = generator.uniform(seconds - spread, seconds + spread)
            if speech:
                wave = babble(generator, length)
            else:
                wave = generator.integers(-9_000, 9_000, round(length * SAMPLE_RATE), np.int16)
            words = generator.choice([*LETTERS, SPACE], round(10 * length))
            text = " ".join("".join(words).split()) or "a"
            split = ("train", "train", "valid", "test")[index % 4]
            rows.append(Utterance(str(index), text, "", "", "x", "en", split, begin, len(wave)))
            append(wave)
            begin += len(wave)
    write(folder, rows)
    (folder / "README.md").write_text("Licence: none, it is made up\n")


def random_model(config: dict, device: torch.device | str) -> nn.Module:
    """Return the model that `config` describes on `device`, in eval mode, with small weights."""
    model, generator = build(config), torch.Generator(device=device).manual_seed(0)
    state = {}
    for name, tensor in model.state_dict().items():
        state[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        if "norm" in name and name.endswith("weight") or name.endswith("original0"):
            state[name].fill_(1)
        else:
            state[name].normal_(0, 0.02, generator=generator)
    model.load_state_dict(state, assign=True)
    return model.to(device)


def base(tiny: bool, name: str = "hubert-base") -> dict:
    """Return a published teacher's config with transformers' defaults, or a tiny one's."""
    from speech_pareto.models.teachers import TEACHERS

    if tiny:
        return architecture.tiny(hidden=48, layers=4, heads=6, ffn=96, pos_conv=16)
    return dict(TEACHERS[name].config)
