"""Do time and memory of what reads a corpus grow in a straight line, and how much is 960 h?

    python benchmarks/corpus_size.py RECORDINGS FOLDER [--hours 10 20 40] [--threads 2]

RECORDINGS is a prepared corpus of real speech, FOLDER has room for a copy of the largest one (120 MB
an hour).  From RECORDINGS some hundred FLAC files are made, as long as LibriSpeech's utterances are,
and linked under LibriSpeech's names, with their texts, until a part has so many hours.  Every step
runs in a process of its own on each part: prepare, read the table, batches of an epoch, k-means of
cepstra and of a layer, recognise two hours, one pass of a walk's scores.  A row of the table has the
seconds and the memory of each part, and what a straight line through them says of 960 h.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

FILES = 400  # different recordings
SPEAKERS = 251  # as in train-clean-100
WHOLE = 960.0  # hours
GIB = 2**30


def lengths(number: int, generator: np.random.Generator) -> np.ndarray:
    """Return seconds of utterances as LibriSpeech's are: most of 12 to 16, some short, mean 12.3."""
    long = generator.normal(14.6, 1.2, number)
    short = generator.uniform(1.4, 14.0, number)
    return np.clip(np.where(generator.random(number) < 0.67, long, short), 1.4, 24.5)


def make_files(recordings: Path, folder: Path) -> list[tuple[Path, str, float]]:
    """Write FLAC files of real speech, one speaker in each; return (file, text, seconds)."""
    import soundfile

    from speech_pareto.data.audio import SAMPLE_RATE
    from speech_pareto.data.corpus import read

    spoken = [u for u in read(recordings) if u.text and u.seconds > 0.3]
    generator, made = np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for number, seconds in enumerate(lengths(FILES, generator)):
        own = [u for u in spoken if u.speaker == spoken[number * len(spoken) // FILES].speaker]
        waves, texts, have = [], [], 0.0
        while have < seconds:
            utterance = own[generator.integers(len(own))]
            waves.append(utterance.wave())
            texts.append(utterance.text)
            have += utterance.seconds
        file = folder / f"{number}.flac"
        wave = np.concatenate(waves)[: round(seconds * SAMPLE_RATE)]
        soundfile.write(file, wave, SAMPLE_RATE, subtype="PCM_16")
        words = "".join(c for c in " ".join(texts).upper() if c.isalpha() or c in " '")
        made.append((file, words, len(wave) / SAMPLE_RATE))
    return made


def make_part(files: list, hours: float, folder: Path) -> None:
    """Link `files` under LibriSpeech's names until there are so many hours, and write the texts."""
    generator, total, number = np.random.default_rng(1), 0.0, 0
    rows: dict[Path, list[str]] = {}
    while total < hours * 3600:
        file, words, seconds = files[generator.integers(len(files))]
        speaker, chapter = 19 + number % SPEAKERS, 198 + number // (SPEAKERS * 50)
        place = folder / "LibriSpeech" / "train-clean-100" / str(speaker) / str(chapter)
        name = f"{speaker}-{chapter}-{len(rows.setdefault(place, [])):04d}"
        if not rows[place]:
            place.mkdir(parents=True)
        os.link(file, place / f"{name}.flac")
        rows[place].append(f"{name} {words}")
        total, number = total + seconds, number + 1
    for place, lines in rows.items():
        text = place / f"{place.parent.name}-{place.name}.trans.txt"
        text.write_text("\n".join(lines) + "\n")


def prepare(part: Path, corpus: Path, threads: int) -> None:
    """Decode, spell phones, write."""
    import prepare_corpus

    settings = {"source": "librispeech", "languages": ["en"], "parts": ["train-clean-100"]}
    prepare_corpus.main("librispeech", settings, part, corpus)


def read_table(part: Path, corpus: Path, threads: int) -> None:
    """Read the table of utterances."""
    from speech_pareto.data.corpus import read

    read(corpus)


def batches(part: Path, corpus: Path, threads: int) -> None:
    """Read all audio once, in batches of 100 s."""
    from speech_pareto.compression.runner import batcher
    from speech_pareto.data.corpus import read
    from speech_pareto.models.backbone import new, tiny_config

    batch = batcher([corpus], new(tiny_config()), 100.0, 1)
    for step in range(int(sum(u.seconds for u in read(corpus)) / 100)):
        batch(step)


def units(corpus: Path, layer: bool) -> None:
    """Name the unit of each frame, as `pretrain_teacher` does."""
    from speech_pareto.data.corpus import read
    from speech_pareto.models.backbone import new, tiny_config
    from speech_pareto.training import frame_units

    features = frame_units.LayerStates(new(tiny_config(layers=2)), 2) if layer else None
    frame_units.name_frames(features or frame_units.Cepstra(), read(corpus), 100, 1)


def units_of_cepstra(part: Path, corpus: Path, threads: int) -> None:
    """Name the unit of each frame by its cepstra."""
    units(corpus, layer=False)


def units_of_layer(part: Path, corpus: Path, threads: int) -> None:
    """Name the unit of each frame by the second layer of a tiny model."""
    units(corpus, layer=True)


STEPS = {
    step.__name__: step for step in (prepare, read_table, batches, units_of_cepstra, units_of_layer)
}


def one(name: str, part: Path, corpus: Path, threads: int) -> dict:
    """Return seconds and memory of a step, less those of imports."""
    import torch

    import prepare_corpus  # noqa: F401  what all steps import

    torch.set_num_threads(threads)
    before, began = time.process_time(), time.perf_counter()
    STEPS[name](part, corpus, threads)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - before,
        "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def line(hours: list[float], values: list[float]) -> float:
    """Return what a straight line through the values says of 960 h."""
    slope, start = np.polyfit(hours, values, 1)
    return float(slope * WHOLE + start)


def table(found: dict[str, dict[float, dict]]) -> str:
    """Return the results in Markdown."""
    hours = sorted(next(iter(found.values())))
    cells = [f"{h:g} h: s | CPU s | GiB" for h in hours]
    head = ["step", *cells, "960 h: hours | CPU hours | GiB"]
    lines = [f"| {' | '.join(head)} |", "|---" * (4 + 3 * len(hours)) + "|"]
    for name, rows in found.items():
        row = [name]
        for h in hours:
            row += [f"{rows[h]['seconds']:.1f}", f"{rows[h]['cpu']:.1f}"]
            row += [f"{rows[h]['bytes'] / GIB:.2f}"]
        ends = {k: line(hours, [rows[h][k] for h in hours]) for k in ("seconds", "cpu", "bytes")}
        row += [f"{ends['seconds'] / 3600:.2f}", f"{ends['cpu'] / 3600:.2f}"]
        row += [f"{ends['bytes'] / GIB:.1f}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Make the parts, run each step on each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", nargs="+", type=float, default=[10, 20, 40])
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # step, hours
    given = parser.parse_args()

    def places(hours: float) -> tuple[Path, Path]:
        return given.folder / f"{hours:g}h", given.folder / f"{hours:g}h-prepared"

    if given.one:
        print(json.dumps(one(given.one[0], *places(float(given.one[1])), given.threads)))
        return
    if not (given.folder / "flac").is_dir():
        files = make_files(given.recordings, given.folder / "flac")
        (given.folder / "flac" / "files.json").write_text(json.dumps(files, default=str))
    files = json.loads((given.folder / "flac" / "files.json").read_text())
    found: dict[str, dict[float, dict]] = {name: {} for name in given.steps}
    for hours in given.hours:
        if not places(hours)[0].is_dir():
            make_part(files, hours, places(hours)[0])
        for name in given.steps:
            command = [sys.executable, __file__, str(given.recordings), str(given.folder)]
            command += ["--threads", str(given.threads), "--one", name, str(hours)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name][hours] = json.loads(done.stdout.splitlines()[-1])
            print(f"{hours:g} h, {name}: {found[name][hours]}", file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
