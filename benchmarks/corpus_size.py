"""Do time and memory of what reads a corpus grow in a straight line, and what will 960 h take?

    python benchmarks/corpus_size.py RECORDINGS FOLDER [--hours 10 20 40] [--threads 2]

RECORDINGS is a prepared corpus of real speech; FOLDER gets a copy of the largest part (120 MB an
hour). From RECORDINGS some hundred FLAC files are made, as long as LibriSpeech's utterances, and
linked under LibriSpeech's names, with their texts, until a part has so many hours. Each step runs
in a process of its own on each part. The table has its seconds and its memory, and what a straight
line through them says of 960 h.

Units are fitted to `--fitted` hours, less than every part has: by default it would be 33 h, which
takes its own time and memory once, whatever the corpus.
"""

import argparse
import copy
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

FILES = 400  # different recordings
SPEAKERS = 251  # as in train-clean-100
WHOLE = 960.0  # hours
GIB = 2**30
RUN = {"study": "size", "teacher": "t", "recipe": "r", "seed": 1, "config": {}, "ratio": 0.0}
RUN |= {"role": "student", "pretrained": False}


def lengths(number: int, generator: np.random.Generator) -> np.ndarray:
    """Return seconds of utterances as LibriSpeech's are: most of 12 to 16, mean 12.3."""
    long = generator.normal(14.6, 1.2, number)
    short = generator.uniform(1.4, 14.0, number)
    return np.clip(np.where(generator.random(number) < 0.67, long, short), 1.4, 24.5)


def make_files(recordings: Path, folder: Path) -> list[tuple[Path, str, float]]:
    """Write FLAC files of real speech, one speaker in each; return (file, text, seconds)."""
    import soundfile

    from speech_pareto.data.audio import SAMPLE_RATE
    from speech_pareto.data.corpus import read

    spoken = [u for u in read(recordings) if u.text and u.seconds > 0.3 and u.language[:2] == "en"]
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


def prepare(part: Path, corpus: Path, given: argparse.Namespace) -> None:
    """Decode, spell phones, write."""
    import prepare_corpus

    settings = {"source": "librispeech", "languages": ["en"], "parts": ["train-clean-100"]}
    prepare_corpus.main("librispeech", settings, part, corpus, given.threads)


def read_table(part: Path, corpus: Path, given: argparse.Namespace) -> None:
    """Read the table of utterances."""
    from speech_pareto.data.corpus import read

    read(corpus)


def batches(part: Path, corpus: Path, given: argparse.Namespace) -> None:
    """Read all audio once, in batches of 100 s."""
    from speech_pareto.compression.runner import batcher
    from speech_pareto.data.corpus import read
    from speech_pareto.models.backbone import new, tiny_config
    from speech_pareto.training.settings import Unlabelled

    steps = int(sum(u.seconds for u in read(corpus)) / 100)
    settings = Unlabelled(steps=steps, learning_rate=0.0, batch_seconds=100.0)
    batch = batcher([corpus], new(tiny_config()), settings, 1)
    for step in range(steps):
        batch(step)


def units(corpus: Path, given: argparse.Namespace, layer: bool) -> None:
    """Name the unit of each frame, as `pretrain_teacher` does."""
    from speech_pareto.data.corpus import read
    from speech_pareto.models.backbone import new, tiny_config
    from speech_pareto.training import frame_units

    frame_units.FRAMES = round(given.fitted * 3600 * 50)
    features = frame_units.LayerStates(new(tiny_config(layers=2)), 2) if layer else None
    frame_units.name_frames(features or frame_units.Cepstra(), read(corpus), 100, 1)


def units_of_cepstra(part: Path, corpus: Path, given: argparse.Namespace) -> None:
    """Name the unit of each frame by its cepstra."""
    units(corpus, given, layer=False)


def units_of_layer(part: Path, corpus: Path, given: argparse.Namespace) -> None:
    """Name the unit of each frame by the second layer of a tiny model."""
    units(corpus, given, layer=True)


def scores(part: Path, corpus: Path, given: argparse.Namespace) -> None:
    """Score the heads of a tiny model by a quarter of the corpus, as Lin et al. do of theirs."""
    from speech_pareto.compression import recipes
    from speech_pareto.compression.method import Context
    from speech_pareto.compression.runner import listener
    from speech_pareto.data.corpus import read
    from speech_pareto.models.backbone import new, tiny_config

    model = new(tiny_config(layers=2)).eval()
    teacher = copy.deepcopy(model)
    seconds = sum(u.seconds for u in read(corpus))
    step = {"units": 20, "unit_seconds": 60.0, "batches": int(seconds / 4 / 48)}
    method = recipes.make({"data_driven_head_pruning": step | {"batch_seconds": 48.0}})
    method.scores(model, Context(1, teacher, batches=listener([corpus], model, 1)))


def recognise(part: Path, corpus: Path, given: argparse.Namespace) -> None:
    """Write and score what a tiny model with a random head recognises in the whole part."""
    import evaluate
    from speech_pareto.models import backbone
    from speech_pareto.tasks.task import TaskModel, make_task, save_head

    task = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}
    folder = corpus.with_name(f"{corpus.name}-tuned")
    model = backbone.new(backbone.tiny_config(layers=2))
    backbone.save(model, folder, texts={"provenance.json": json.dumps({"task": task})})
    definition = make_task(task, list("abcdefghijklmnopqrstuvwxyz' "))
    save_head(TaskModel(model, definition.outputs, "finetune"), definition, folder)
    run = RUN | {"task": "characters"}
    files = (folder.with_suffix(suffix) for suffix in (".json", ".tsv"))
    evaluate.main(task | {"metric": "cer"}, folder, [held_out(corpus, "test")], run, *files)


def analyse(part: Path, corpus: Path, given: argparse.Namespace) -> None:
    """See what a tiny model does with recordings of a validation split of the whole part."""
    import analyse as script
    from speech_pareto.models import backbone

    model, output = corpus.with_name(f"{corpus.name}-model"), corpus.with_name("analysis.json")
    backbone.save(backbone.new(backbone.tiny_config(layers=2)), model)
    script.main(model, model, [held_out(corpus, "valid")], RUN | {"scope": "any"}, output)


def held_out(corpus: Path, split: str) -> Path:
    """Return the folder of a copy of the corpus, nearly all of which belongs to one split."""
    from speech_pareto.data.corpus import read, write

    folder = corpus.with_name(f"{corpus.name}-{split}")
    folder.mkdir(exist_ok=True)
    kinds = ["train"] * 20 + ["valid"] * 20
    pairs = itertools.zip_longest(read(corpus), kinds, fillvalue=split)
    write(folder, [replace(u, split=kind) for u, kind in pairs])
    for name in ("audio.npy", "README.md"):
        (folder / name).unlink(missing_ok=True)
        os.link(corpus / name, folder / name)
    return folder


STEPS: dict[str, Callable] = {
    step.__name__: step
    for step in (
        *(prepare, read_table, batches, units_of_cepstra, units_of_layer),
        *(scores, recognise, analyse),
    )
}


def one(name: str, hours: str, given: argparse.Namespace) -> dict:
    """Return seconds and memory of a step; imports count in memory alone."""
    import torch

    import prepare_corpus  # noqa: F401  what all steps import

    torch.set_num_threads(given.threads)
    most: list[int] = []
    threading.Thread(target=watch, args=[most], daemon=True).start()
    before, began = time.process_time(), time.perf_counter()
    STEPS[name](*places(given.folder, float(hours)), given)
    seconds, cpu = time.perf_counter() - began, time.process_time() - before
    return {"seconds": seconds, "cpu": cpu, "bytes": max(most)}


def watch(found: list[int]) -> None:
    """Note this process's memory ten times a second, without pages of files that it only reads."""
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        found.append(1024 * next(int(x.split()[1]) for x in lines if x.startswith("RssAnon")))
        time.sleep(0.1)


def places(folder: Path, hours: float) -> tuple[Path, Path]:
    """Return the folders of a part and of the corpus that is prepared of it."""
    return folder / f"{hours:g}h", folder / f"{hours:g}h-prepared"


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
    parser.add_argument("--fitted", type=float, default=2.0, help="hours that units are fitted to")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # step, hours
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(*given.one, given)))
        return
    flac = given.folder / "flac"
    if not flac.is_dir():
        files = make_files(given.recordings, flac)
        (flac / "files.json").write_text(json.dumps(files, default=str))
    files = json.loads((flac / "files.json").read_text())
    found: dict[str, dict[float, dict]] = {name: {} for name in given.steps}
    for hours in given.hours:
        if not places(given.folder, hours)[0].is_dir():
            make_part(files, hours, places(given.folder, hours)[0])
        for name in given.steps:
            command = [sys.executable, *sys.argv, "--one", name, str(hours)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name][hours] = json.loads(done.stdout.splitlines()[-1])
            print(f"{hours:g} h, {name}: {found[name][hours]}", file=sys.stderr, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
