"""Speech Commands v2: 105,829 recordings of 35 English words, a second each, 16 kHz WAV.

Each has its word as text and as label; splits are those of the release.  Licence: CC-BY 4.0.
Warden, arXiv 1804.03209.
"""

from collections.abc import Mapping
from pathlib import Path

from speech_pareto.data.download import download, unpack
from speech_pareto.data.recording import Recording

LANGUAGES = ("en",)
LICENCE = "CC-BY 4.0"
ATTRIBUTION = ["Pete Warden, Google, and the volunteers who spoke, CC-BY 4.0"]
MIRROR = "https://storage.googleapis.com/download.tensorflow.org/data"
NAME = "speech_commands_v0.02.tar.gz"
DIGEST = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"  # as torchaudio pins it
LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}  # all others are for training
LOSSY = False
DIGESTS = {}  # the archive's is enough
PUBLISHED_SPLITS = True


def fetch(settings: Mapping, folder: Path) -> None:
    """Leave a folder per word, and the lists of splits, in `folder`."""
    archive = download(f"{settings.get('mirror') or MIRROR}/{NAME}", DIGEST, folder / NAME)
    unpack(archive, folder)
    archive.unlink()


def recordings(settings: Mapping, folder: Path) -> list[Recording]:
    """Return every recording of a word; the long ones of noise are left out.

    Raises ValueError if a list of splits is missing.
    """
    splits = {}
    for name, split in LISTS.items():
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: no {name} here, so this is not Speech Commands")
        splits |= dict.fromkeys((folder / name).read_text(encoding="utf-8").split(), split)
    found = []
    for path in sorted(folder.glob("[a-z]*/*.wav")):
        word, id = path.parent.name, f"{path.parent.name}/{path.name}"
        speaker, split = path.stem.partition("_")[0], splits.get(id, "train")
        found.append(Recording(id.removesuffix(".wav"), path, word, "en", speaker, word, split))
    return found
