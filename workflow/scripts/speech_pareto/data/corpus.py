"""A prepared corpus: a table of utterances, a file of all their samples, a list of what is not in.

Its utterances are usable, in the sense of `usable.py`.
"""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.data.recording import Recording

COLUMNS = ("id", "text", "phones", "label", "speaker", "language", "split", "offset", "samples")
AUDIO, LEFT_OUT = "audio.npy", "left_out.tsv"


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
    audio: Any = field(default=None, repr=False)  # int16 samples of the whole corpus

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / SAMPLE_RATE

    def wave(self) -> np.ndarray:
        """Return float32 samples (samples,) in [-1, 1]."""
        return self.audio[self.offset : self.offset + self.samples].astype(np.float32) / 32768


@dataclass
class LeftOut:
    """A recording that a corpus does without: a `reason` that counts it, and a sentence."""

    id: str
    split: str
    language: str
    reason: str
    detail: str


def read(folder: str | Path) -> list[Utterance]:
    """Return the utterances of a prepared corpus; their samples stay on disk until used."""
    folder = Path(folder)
    audio = np.load(folder / AUDIO, mmap_mode="r")
    return [
        Utterance(
            **{name: row[name] for name in COLUMNS[:-2]},
            offset=int(row["offset"]),
            samples=int(row["samples"]),
            corpus=folder.name,
            audio=audio,
        )
        for row in _rows(folder / "manifest.tsv")
    ]


def left_out(folder: str | Path) -> list[LeftOut]:
    """Return the recordings that a prepared corpus does without; none if it lists none."""
    file = Path(folder) / LEFT_OUT
    return [LeftOut(**row) for row in _rows(file)] if file.is_file() else []


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table that `write` wrote; ValueError if it is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            found = list(rows)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}); delete its folder and run again") from None
    if any(None in row or None in row.values() for row in found):
        raise ValueError(f"{path} is damaged (a row is cut); delete its folder and run again")
    return found


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
def samples_file(path: Path, have: int = 0) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends int16 samples to the NumPy file `path`; none stay in memory.

    The file's first `have` samples stay, what an earlier run wrote behind them goes.
    """
    count = have

    def append(wave: np.ndarray) -> None:
        nonlocal count
        count += len(wave)
        wave.tofile(file)

    def header() -> None:
        # NumPy leaves room in the header for the length to grow
        facts = {"descr": "<i2", "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, facts)

    with path.open("r+b" if have else "wb") as file:
        header()
        file.truncate(file.tell() + 2 * have)
        file.seek(0, os.SEEK_END)
        yield append
        file.seek(0)
        header()


def write(folder: Path, utterances: list[Utterance], lost: Sequence[LeftOut] = ()) -> None:
    """Write the tables of a corpus: its utterances, and the recordings that are left out."""
    _write(folder / "manifest.tsv", COLUMNS, utterances)
    _write(folder / LEFT_OUT, [field.name for field in fields(LeftOut)], lost)


def _write(path: Path, columns: Iterable[str], items: Iterable) -> None:
    """Write a row of attributes for each item."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(
            file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n"
        )
        table.writerow(columns)
        table.writerows([getattr(item, name) for name in columns] for item in items)


def count(reasons: Iterable[str]) -> dict[str, int]:
    """Return how often each reason occurs, the most frequent first."""
    return dict(sorted(Counter(reasons).items(), key=lambda pair: (-pair[1], pair[0])))


def digest(recordings: list[Recording], contents: list[str]) -> str:
    """Return one SHA-256 over ids, texts and the SHA-256 of contents, in the order of ids.

    Contents are samples, or files of a lossy codec.
    """
    total = hashlib.sha256()
    for recording, content in sorted(zip(recordings, contents, strict=True), key=lambda x: x[0].id):
        total.update(f"{recording.id}\t{recording.text}\t{recording.split}\n".encode())
        total.update(bytes.fromhex(content))
    return total.hexdigest()
