"""LibriSpeech: English audiobooks, 16 kHz FLAC with transcripts, and its small subset Mini.

960 h for training (100 h and 360 h clean, 500 h other), four parts of 5 h for validation and test;
Mini LibriSpeech has 5 h and 2 h.  Licence: CC-BY 4.0.  Panayotov et al., ICASSP 2015.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from speech_pareto.data.download import download, unpack
from speech_pareto.data.recording import Recording
from speech_pareto.data.text import clean

LANGUAGES = ("en",)
LICENCE = "CC-BY 4.0"
ATTRIBUTION = ["Vassil Panayotov, Guoguo Chen, Daniel Povey and Sanjeev Khudanpur, CC-BY 4.0"]
MIRROR = "https://www.openslr.org/resources"
# Digests of {part}.tar.gz: SHA-256 as torchaudio pins them, or the MD5 that OpenSLR publishes.
PARTS = {
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-5": "5df7d4e78065366204ca6845bb08f490",
    "dev-clean-2": "6d7ab67ac6a1d2c993d050e16d61080d",
}
MINI = ("train-clean-5", "dev-clean-2")
SPLITS = {"train": "train", "dev": "valid", "test": "test"}  # by how a part's name begins
LOSSY = False
DIGESTS = {}  # the archives' are enough
PUBLISHED_SPLITS = True


def fetch(settings: Mapping, folder: Path) -> None:
    """Leave the parts that `settings["parts"]` names in `folder`/LibriSpeech.

    `mirror` is a URL with the folders 12 and 31, as at OpenSLR. A part that is there stays.
    """
    for part in settings["parts"]:
        if not (folder / "LibriSpeech" / part).is_dir():
            number = 31 if part in MINI else 12
            url = f"{settings.get('mirror') or MIRROR}/{number}/{part}.tar.gz"
            archive = download(url, PARTS[part], folder / f"{part}.tar.gz")
            scratch = folder / f"{part}.unpacked"
            shutil.rmtree(scratch, ignore_errors=True)
            unpack(archive, scratch)
            (folder / "LibriSpeech").mkdir(exist_ok=True)
            (scratch / "LibriSpeech" / part).rename(folder / "LibriSpeech" / part)
            shutil.rmtree(scratch)
            archive.unlink()


def recordings(settings: Mapping, folder: Path) -> list[Recording]:
    """Return the utterances of the parts that `settings` names, in lower case.

    `folder` is LibriSpeech or holds it. Raises ValueError for a part, or a transcript, that is not
    there.
    """
    found = []
    for part in settings["parts"]:
        places = (folder / "LibriSpeech" / part, folder / part)
        root = next((place for place in places if place.is_dir()), None)
        if root is None:
            raise ValueError(f"{folder}: no folder {part}, nor LibriSpeech/{part}")
        texts = {}
        for file in root.glob("*/*/*.trans.txt"):
            lines = file.read_text(encoding="utf-8").splitlines()
            texts |= dict(line.split(" ", 1) for line in lines if " " in line)
        for path in sorted(root.glob("*/*/*.flac")):
            if path.stem not in texts:
                raise ValueError(f"{path}: no transcript of it in {path.parent}")
            words, speaker = clean(texts[path.stem].lower()), path.parts[-3]
            split = SPLITS[part.partition("-")[0]]
            found.append(Recording(f"{part}/{path.stem}", path, words, "en", speaker, split=split))
    return found
