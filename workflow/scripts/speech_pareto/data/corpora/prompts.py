"""The Asterisk core sounds: telephone prompts read by one voice per language.

2.2 h in English, French, Spanish, Italian and Russian at 16 kHz (G.722), with transcripts.
Licences: CC-BY-SA 3.0 (English, French, Spanish), CC-BY 3.0 (Italian, Russian).
"""

import gzip
from collections.abc import Mapping
from pathlib import Path

from speech_pareto.data.download import download, from_apt, unpack
from speech_pareto.data.recording import Recording
from speech_pareto.data.text import clean

VOICES = {
    "en": ("en_US_f_Allison", "Allison Smith, CC-BY-SA 3.0"),
    "es": ("es_MX_f_Allison", "Allison Smith, CC-BY-SA 3.0"),
    "fr": ("fr_CA_f_June", "June Wallack, CC-BY-SA 3.0"),
    "it": ("it_IT_m_Carlo", "Carlo Flora, CC-BY 3.0"),
    "ru": ("ru_RU_f_IvrvoiceRU", "Maxim Topal, ivrvoice.ru, CC-BY 3.0"),
}
LANGUAGES = tuple(VOICES)
LICENCE = "CC-BY-SA 3.0 and CC-BY 3.0"
ATTRIBUTION = [f"{language}: {credit}" for language, (_, credit) in VOICES.items()]
RELEASES = "https://downloads.asterisk.org/pub/telephony/sounds/releases"
TARBALLS = {  # SHA-256 of asterisk-core-sounds-{language}-g722-1.6.1.tar.gz
    "en": "59891033e764d9dffc5ccdd78e845a1c8ea6bed0b434128bb0199c63ef591770",
    "es": "3c474f73cc4f65478b3cf05ab0c5da19c8ce408699f61491f6aafba450cb540a",
    "fr": "7ff3ca96bbb295a6458e6eb1ff92690d9a5d0db0b4ddfa2c488237e4d251efbe",
    "it": "44a7fd7b067ff7f71df7fec31f9a8c960e13d35ca30c31878913c4020bfc00b6",
    "ru": "fde2a071b811a081219138693d6813d122d91c2c3423936274b110b97645b61b",
}
PUBLISHED_SPLITS = False
LOSSY = False  # G.722 decodes to the same integers everywhere, so the digest covers the samples
DIGESTS = {  # of texts and decoded samples, see corpus.digest
    "en": "1598a153f031d4054f7997e741aba8a3545a727080b73a22bff8b9b853d5612b",
    "es": "f1ea55499978ccc74b4661a76d1e2498d63e75641fadd9509510862a447b4c0f",
    "fr": "9c9a12d1c893eb34565b6a1e91f9b032544b10372e8b983a3d66c2e8f84b6c26",
    "it": "3ca4d1889533f84ac15a128515523aa884e12eea5ffa51e2b1c3561708e6edec",
    "ru": "802fd0c81564806cec8c65b194d276e2513c670e88c58f91ffb19d8e1732a091",
}


def fetch(settings: Mapping, folder: Path) -> None:
    """Leave sounds and transcripts of some languages below `folder`: from apt, else from upstream.

    `mirror` (a URL of a folder with the release tarballs) is used instead of both.
    """
    languages, mirror = settings["languages"], settings.get("mirror")
    packages = [
        f"asterisk-core-sounds-{lang}{kind}" for lang in languages for kind in ("", "-g722")
    ]
    if mirror is None and from_apt(packages, folder):
        return
    for language in languages:
        name = f"asterisk-core-sounds-{language}-g722-1.6.1.tar.gz"
        archive = download(f"{mirror or RELEASES}/{name}", TARBALLS[language], folder / name)
        unpack(archive, folder / VOICES[language][0])
        archive.unlink()


def recordings(settings: Mapping, folder: Path) -> list[Recording]:
    """Return every prompt but the recorded silences; those without words have an empty text."""
    found = []
    for language in settings["languages"]:
        voice = VOICES[language][0]
        root = next(path for path in sorted(folder.rglob(voice)) if path.is_dir())
        texts = _transcripts(next(iter(sorted(folder.rglob(f"core-sounds-{language}.txt*")))))
        for path in sorted(root.rglob("*.g722")):
            name = path.relative_to(root).with_suffix("").as_posix()
            if path.stat().st_size and not name.startswith("silence/"):  # ru/is is an empty file
                words = texts.get(name, "")
                found.append(Recording(f"{language}/{name}", path, words, language, voice))
    return found


def _transcripts(path: Path) -> dict[str, str]:
    """Return name -> words from a list of `name: words` lines."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line and line[0] != ";")
    return {name.strip(): clean(words) for name, words in pairs}
