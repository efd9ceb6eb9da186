"""What a source of corpora knows of a recording; planning reads this, so it imports no numpy."""

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "valid", "test")


@dataclass
class Recording:
    """One audio file before it is decoded."""

    id: str
    path: Path
    text: str = ""
    language: str = ""
    speaker: str = ""
    label: str = ""
    split: str = ""
