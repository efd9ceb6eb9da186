"""Your own recordings: a TSV file with the columns path, text, label, speaker, split.

Only `path` is required.  Paths are relative to the TSV's folder; `split` is train, valid or test;
rows without one are divided as `splits.py` says.
"""

import codecs
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from speech_pareto.data.recording import SPLITS, Recording
from speech_pareto.data.text import clean
from speech_pareto.runtime.problems import Problems

COLUMNS = ("path", "text", "label", "speaker", "split")
LONGEST = 10_000  # characters of a field; nobody says as much in one recording
LICENCE = "your own"
ATTRIBUTION = []
LOSSY = False
PUBLISHED_SPLITS = False
DIGESTS = {}


def recordings(settings: Mapping, path: Path) -> list[Recording]:
    """Return the recordings that the TSV at `path` lists, all in the one language given.

    Raises ValueError that names the bad rows with their line numbers, the first of each kind.
    """
    (language,) = settings["languages"]
    lines, problems = _lines(path), Problems()
    number, first = next(lines, (1, ""))
    header = first.split("\t")
    if "path" not in header:
        found = ", ".join(map(repr, header)) if first.strip() else "none"
        raise ValueError(f"{path}, line {number}: no column 'path' (found: {found[:300]})")
    for name in dict.fromkeys(header):
        if name not in COLUMNS:
            known = ", ".join(COLUMNS)
            said = f"line {number}: unknown column {name!r} (known: {known})"
            problems.add("unknown columns", said)
        if header.count(name) > 1:
            said = f"line {number}: the column {name!r} is named twice"
            problems.add("columns named twice", said)
    listed: list[Recording] = []
    files: dict[tuple[int, int], tuple[str, str]] = {}
    for number, line in lines:
        at, fields = f"line {number}", line.split("\t")
        if len(fields) != len(header):
            said = f"{at}: {len(header)} columns expected, tab-separated, found {len(fields)}"
            problems.add("rows with more or fewer columns than the first line", said)
            continue
        row = dict(zip(header, fields, strict=True))
        long = next((name for name, value in row.items() if len(value) > LONGEST), None)
        if long:
            said = f"{at}: {long} has {len(row[long]):,} characters, at most {LONGEST:,} are taken"
            problems.add("fields that are too long", said)
            continue
        audio = _locate(path.parent, row["path"])
        if audio is None:
            said = f"{at}: no such recording: {row['path'] or '(empty path)'}"
            problems.add("rows without a recording", said)
            audio = path  # the list is refused in the end
        else:
            status = audio.stat()
            other, spelling = files.setdefault((status.st_dev, status.st_ino), (at, row["path"]))
            if other != at:
                also = "" if spelling == row["path"] else f", there as {spelling}"
                said = f"{at}: {row['path']}: listed twice, in {other} too{also}"
                problems.add("recordings listed twice", said)
        split = row.get("split", "").strip()
        if split not in ("", *SPLITS):
            said = f"{at}: split {split!r} is none of {', '.join(SPLITS)}"
            problems.add("rows with an unknown split", said)
        text, label = clean(row.get("text", "")), row.get("label", "").strip()
        speaker = row.get("speaker", "").strip() or "unknown"
        listed.append(Recording(row["path"], audio, text, language, speaker, label, split))
    if problems:
        raise ValueError(f"{path} cannot be used:\n{problems}")
    if not listed:
        raise ValueError(f"{path} lists no recordings")
    return listed


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and content of each line that is not blank; ValueError if it is no UTF-8."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(
            f"{path}, line 1: this is UTF-16, not UTF-8; iconv -f utf-16 -t utf-8 converts it"
        )
    data = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for number, line in enumerate(data.split(b"\n"), start=1):
        if b"\0" in line:
            raise ValueError(f"{path}, line {number}: this is no text file, it has bytes of zero")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: this is not UTF-8 (byte 0x{line[error.start]:02x} after "
                f"{line[max(0, error.start - 30) : error.start].decode(errors='replace')!r}); if "
                "it is Latin-1, iconv -f latin1 -t utf-8 converts it"
            ) from None
        if text.strip():
            yield number, text


def _locate(folder: Path, name: str) -> Path | None:
    """Return a recording's file, whichever way its accents are written; None if there is none."""
    if not name.strip():
        return None
    for form in (None, "NFC", "NFD"):  # archives made on a Mac decompose the names of files
        file = folder / (unicodedata.normalize(form, name) if form else name)
        try:
            if file.is_file():
                return file
        except (OSError, ValueError):  # a name that is too long, or holds what none may
            return None
    return None
