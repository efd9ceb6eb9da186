"""Your own recordings: a TSV file with the columns path, text, label, speaker, split.

Only `path` is required.  Paths are relative to the TSV's folder; `split` is train, valid or test;
rows without one are split by duration and text like the built-in corpora.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from speech_pareto.corpus import SPLITS, Recording
from speech_pareto.text import clean

COLUMNS = ("path", "text", "label", "speaker", "split")
LICENCE = "your own"
ATTRIBUTION = []
LOSSY = False
PUBLISHED_SPLITS = False
DIGESTS = {}


def recordings(settings: Mapping, path: Path) -> list[Recording]:
    """Return the recordings that the TSV at `path` lists, all in the one language given.

    Raises ValueError that lists every bad row with its line number.
    """
    (language,), problems, found = settings["languages"], [], []
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = rows.fieldnames or []
        if "path" not in header:
            raise ValueError(
                f"{path}, line 1: no column 'path' (found: {', '.join(header) or 'none'})"
            )
        if unknown := sorted(set(header) - set(COLUMNS)):
            problems.append(f"line 1: unknown column {unknown[0]!r} (known: {', '.join(COLUMNS)})")
        for row in rows:
            at = f"line {rows.line_num}"
            if None in row or None in row.values():
                problems.append(f"{at}: {len(header)} columns expected, tab-separated")
                continue
            audio = path.parent / row["path"]
            split = row.get("split", "").strip()
            if not row["path"].strip() or not audio.is_file():
                problems.append(f"{at}: no such recording: {row['path'] or '(empty path)'}")
            if split not in ("", *SPLITS):
                problems.append(f"{at}: split {split!r} is none of {', '.join(SPLITS)}")
            text, label = clean(row.get("text", "")), row.get("label", "").strip()
            speaker = row.get("speaker", "").strip() or "unknown"
            found.append(Recording(row["path"], audio, text, language, speaker, label, split))
    names = [recording.id for recording in found]
    problems += [
        f"{name}: listed twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if problems:
        raise ValueError(f"{path} cannot be used:\n  " + "\n  ".join(problems))
    if not found:
        raise ValueError(f"{path} lists no recordings")
    return found
