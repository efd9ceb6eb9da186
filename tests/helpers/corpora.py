"""Corpora: real prompts, and noise in no time."""

import csv
import fcntl
import shutil
from pathlib import Path

import numpy as np
import soundfile
import soxr

import fetch_corpus
import prepare_corpus
from speech_pareto.data.audio import SAMPLE_RATE as SECOND
from speech_pareto.data.corpus import Utterance, read, samples_file, write
from speech_pareto.data.text import characters, fingerprint


def real_prompts(request, language: str) -> Path:
    """Folder of a language's prompts, really downloaded and prepared once, kept for later runs."""
    root = request.config.cache.mkdir(f"prompts-{language}")
    settings = {"source": "prompts", "languages": [language]}
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the processes of one run share the folder
        if not (root / "prompts").is_dir():
            shutil.rmtree(root / "downloads", ignore_errors=True)
            fetch_corpus.main("prompts", settings, root / "downloads")
            prepare_corpus.main("prompts", settings, root / "downloads", root / "prompts")
    return root / "prompts"


def write_recordings(folder: Path, corpus: Path, count: int = 40) -> None:
    """Write real prompts as WAV files at 8 kHz, and recordings.tsv."""
    (folder / "recordings").mkdir()
    spoken = [u for u in read(corpus) if characters(u.text) and 1 < u.seconds < 4]
    chosen = list({fingerprint(u.text): u for u in spoken}.values())[:count]
    assert len(chosen) == count
    rows = []
    for number, utterance in enumerate(chosen):
        wave = soxr.resample(utterance.wave(), 16_000, 8_000)
        soundfile.write(folder / "recordings" / f"{number}.wav", wave, 8_000)
        split = "test" if number % 5 == 0 else "valid" if number % 5 == 1 else "train"
        rows.append([f"recordings/{number}.wav", utterance.text, "", "anna", split])
    with (folder / "recordings.tsv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(
            file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
        )
        table.writerows([["path", "text", "label", "speaker", "split"], *rows])


def write_noise(folder: Path, lengths: list[int], text: str, generator=None) -> Path:
    """Write a corpus of noise: a recording for each number of samples to train on, one to score."""
    generator = generator or np.random.default_rng(0)
    rows = [
        Utterance(str(i), "a", text, "", "x", "en", "train", sum(lengths[:i]), n)
        for i, n in enumerate(lengths)
    ]
    for split in ("valid", "test"):
        rows.append(Utterance(split, "a", text, "", "x", "en", split, sum(lengths), SECOND))
    write(folder, rows)
    (folder / "README.md").write_text("Licence: none\n")
    with samples_file(folder / "audio.npy") as append:
        for samples in (sum(lengths), SECOND):
            append(generator.integers(-9000, 9000, samples).astype(np.int16))
    return folder
