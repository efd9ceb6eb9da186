"""A prepared corpus: one table of utterances and one file with all their samples."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from speech_pareto.audio import SAMPLE_RATE
from speech_pareto.text import fingerprint

SPLITS = ("train", "valid", "test")
COLUMNS = ("id", "text", "phones", "label", "speaker", "language", "split", "offset", "samples")


@dataclass
class Recording:
    """What a corpus source knows of one audio file before it is decoded."""

    id: str
    path: Path
    text: str = ""
    language: str = ""
    speaker: str = ""
    label: str = ""
    split: str = ""


@dataclass
class Utterance:
    """A row of a prepared corpus; `offset` and `samples` locate it in `audio` (int16, 16 kHz)."""

    id: str
    text: str
    phones: str
    label: str
    speaker: str
    language: str
    split: str
    offset: int
    samples: int
    corpus: str = ""
    audio: np.ndarray = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / SAMPLE_RATE

    def wave(self) -> np.ndarray:
        """Return float32 samples (samples,) in [-1, 1]."""
        return self.audio[self.offset : self.offset + self.samples].astype(np.float32) / 32768


def read(folder: str | Path) -> list[Utterance]:
    """Return the utterances of a prepared corpus; their samples stay on disk until used."""
    folder = Path(folder)
    audio = np.load(folder / "audio.npy", mmap_mode="r")
    with (folder / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            Utterance(
                **{**row, "offset": int(row["offset"]), "samples": int(row["samples"])},
                corpus=folder.name,
                audio=audio,
            )
            for row in rows
        ]


def credits(folders: list) -> str:
    """Return a Markdown list of prepared corpora with their licences and attributions."""
    lines = []
    for folder in map(Path, folders):
        readme = (folder / "README.md").read_text(encoding="utf-8").splitlines()
        licence = next(line for line in readme if line.startswith("Licence: "))
        lines.append(f"- `{folder.name}`: {licence.removeprefix('Licence: ')}")
        lines += [f"  {line}" for line in readme if line.startswith("- ")]
    return "\n".join(lines) + "\n"


@contextmanager
def samples_file(path: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends int16 samples to the NumPy file `path`; none stay in memory."""
    count = 0

    def append(wave: np.ndarray) -> None:
        nonlocal count
        count += len(wave)
        wave.tofile(file)

    def header() -> None:
        # NumPy leaves room in the header for the length to grow
        facts = {"descr": "<i2", "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, facts)

    with path.open("wb") as file:
        header()
        yield append
        file.seek(0)
        header()


def write(folder: Path, utterances: list[Utterance]) -> None:
    """Write the table of a corpus."""
    with (folder / "manifest.tsv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(
            file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n"
        )
        table.writerow(COLUMNS)
        table.writerows([getattr(utterance, name) for name in COLUMNS] for utterance in utterances)


def digest(recordings: list[Recording], contents: list[bytes]) -> str:
    """Return one SHA-256 over ids, texts and the SHA-256 of contents, in the order of ids.

    Contents are samples, or files of a lossy codec.
    """
    total = hashlib.sha256()
    for recording, content in sorted(zip(recordings, contents, strict=True), key=lambda x: x[0].id):
        total.update(f"{recording.id}\t{recording.text}\t{recording.split}\n".encode())
        total.update(content)
    return total.hexdigest()


def assign_splits(
    recordings: list[Recording], seconds: list[float], valid: float = 0.05, test: float = 0.12
) -> list[str]:
    """Return a split per recording: the same words never stand in two splits.

    Shares of the duration are kept inside each stratum of language and duration (quarters), by a
    hash of the words, so a recording keeps its place when others come or go nearby.  Recordings
    without text go to `train`; a recording that names its split keeps it, with all of its words.
    """
    groups = defaultdict(list)  # words -> recordings
    for index, recording in enumerate(recordings):
        groups[fingerprint(recording.text) or f"\t{recording.id}"].append(index)
    quarters = np.quantile(seconds, (0.25, 0.5, 0.75))
    strata, result = defaultdict(list), [""] * len(recordings)
    for words, members in sorted(groups.items()):
        named = {recordings[i].split for i in members} - {""}
        if len(named) > 1:
            texts = ", ".join(recordings[i].id for i in members)
            raise ValueError(f"the same text stands in the splits {sorted(named)}: {texts}")
        if named or words.startswith("\t"):
            for i in members:
                result[i] = recordings[i].split or min(named, default="train")
            continue
        first = min(members, key=lambda i: recordings[i].id)  # whatever the order of the files
        quarter = int(np.searchsorted(quarters, seconds[first]))
        strata[recordings[first].language, quarter].append((_hash(words), members))
    for _, stratum in sorted(strata.items()):
        total = sum(seconds[i] for _, members in stratum for i in members)
        passed = 0.0
        for _, members in sorted(stratum):
            length = sum(seconds[i] for i in members)
            middle = (passed + length / 2) / total
            passed += length
            split = "test" if middle < test else "valid" if middle < test + valid else "train"
            for i in members:
                result[i] = split
    return result


def _hash(words: str) -> str:
    """Return a stable pseudo-random rank of a text."""
    return hashlib.md5(words.encode(), usedforsecurity=False).hexdigest()
