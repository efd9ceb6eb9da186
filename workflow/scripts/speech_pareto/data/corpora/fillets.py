"""Fish Fillets - Next Generation: the acted Czech and Dutch dialogue of a puzzle game.

3.4 h of connected conversational speech with subtitles (22-44 kHz Ogg Vorbis).  Licence: GPL-2.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from speech_pareto.data.download import download, from_apt, unpack
from speech_pareto.data.recording import Recording
from speech_pareto.data.text import clean

LANGUAGES = ("cs", "nl")
LICENCE = "GPL-2"
ATTRIBUTION = ["ALTAR interactive and the Fish Fillets - Next Generation team, GPL-2"]
RELEASES = (
    "https://downloads.sourceforge.net/project/fillets/Fish%20Fillets%20-%20Next%20Generation/1.0.1"
)
TARBALL = "f0c979fb35ec550a43246fc209add8f45ca550a382c94d6383bb3f01b1073799"
PUBLISHED_SPLITS = False
LOSSY = True  # Vorbis decodes through floats, whose last bit differs between processors
DIGESTS = {  # of texts and Ogg files, see corpus.digest
    "cs": "7b282f7f4572a00ce38f44095089b8a3ef4ab2417a32bef246b5e3fa0aed43af",
    "nl": "2a265c1e73a47f05ca64b9163f42027c4e6111885da692a0a25f05c8b67ecde3",
}
# The lead actors' subtitle fonts; everyone else is `other`.
ACTORS = {"font_small": "female", "font_big": "male"}
DIALOGUE = re.compile(
    r'dialogId\("([^"]+)",\s*"([^"]*)".*?\)\s*\n\s*dialogStr\("((?:[^"\\]|\\.)*)"\)'
)


def fetch(settings: Mapping, folder: Path) -> None:
    """Leave sounds and scripts of some languages below `folder`: from apt, else from upstream."""
    languages, mirror = settings["languages"], settings.get("mirror")
    packages = ["fillets-ng-data", *(f"fillets-ng-data-{language}" for language in languages)]
    if mirror is None and from_apt(packages, folder):
        return
    name = "fillets-ng-data-1.0.1.tar.gz"
    archive = download(f"{mirror or RELEASES}/{name}", TARBALL, folder / name)
    unpack(archive, folder)
    archive.unlink()


def recordings(settings: Mapping, folder: Path) -> list[Recording]:
    """Return every spoken line; those without a subtitle have an empty text."""
    sound = next(path for path in sorted(folder.rglob("sound")) if path.is_dir())
    found = []
    for language in settings["languages"]:
        lines = {}
        for script in sorted(sound.parent.glob(f"script/*/dialogs_{language}.lua")):
            for name, font, words in DIALOGUE.findall(script.read_text(encoding="utf-8")):
                lines[script.parent.name, name] = font, clean(words.replace('\\"', '"'))
        for path in sorted(sound.glob(f"*/{language}/*.ogg")):
            level, name = path.parts[-3], path.stem
            font, words = lines.get((level, name), ("", ""))
            speaker = f"{language}-{ACTORS.get(font, 'other')}"
            found.append(Recording(f"{language}/{level}/{name}", path, words, language, speaker))
    return found
