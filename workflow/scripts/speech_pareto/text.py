"""Turn transcripts into units: characters as they are written, phones as espeak-ng says them."""

import ctypes
import re
import unicodedata
from functools import lru_cache

from speech_pareto.extras import extra

# Languages of the built-in corpora -> espeak-ng voices; any other voice name is used as it is.
VOICES = {"en": "en-us", "es": "es-419"}
NOT_PHONES = re.compile(r"\([a-z-]+\)|[^\w]|[ˈˌːˑ\d_]")  # language switches, stress, length, ties


def clean(text: str) -> str:
    """Return a transcript without [stage directions], quotes and repeated blanks."""
    return re.sub(r"\s+", " ", re.sub(r"\[[^\]]*\]", " ", text)).strip()


def fingerprint(text: str) -> str:
    """Return the letters and digits alone: two texts with one fingerprint are the same words."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if c.isalnum())


def characters(text: str) -> list[str]:
    """Return a-z, apostrophe and blank, accents folded; [] if the text has other letters or digits.

    >>> "".join(characters("Où est l'été ?"))
    "ou est l'ete"
    """
    text = text.casefold().replace("’", "'").replace("ß", "ss").replace("œ", "oe")
    folded = [c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)]
    if any(c.isalnum() and not ("a" <= c <= "z") for c in folded):
        return []  # digits are read in ways the letters do not show
    words = re.findall(r"[a-z][a-z']*", "".join(folded))
    return list(" ".join(word.rstrip("'") if len(word) > 2 else word for word in words))


def phones(text: str, language: str) -> list[str]:
    """Return one IPA symbol per phone for `text` read in `language` (espeak-ng, digits expanded).

    Raises ValueError for a language without an espeak-ng voice.
    """
    library = _espeak()
    voice = VOICES.get(language, language)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice!r}")
    buffer = ctypes.create_string_buffer(text.encode())  # must outlive the loop
    pointer = ctypes.c_void_p(ctypes.addressof(buffer))
    spoken = []
    while pointer.value:  # one clause per call; the library moves the pointer on
        # 1: text is UTF-8; 0x02: answer in IPA
        spoken.append(library.espeak_TextToPhonemes(ctypes.byref(pointer), 1, 0x02).decode())
    symbols = unicodedata.normalize("NFD", " ".join(spoken))
    symbols = "".join(c for c in symbols if not unicodedata.combining(c))
    return list(NOT_PHONES.sub("", symbols))


@lru_cache(maxsize=1)
def _espeak() -> ctypes.CDLL:
    """Return the espeak-ng library that the espeakng-loader package brings, initialised."""
    with extra("corpora"):
        import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    # 2: synchronous, no audio device
    if library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0) < 0:
        raise RuntimeError("espeak-ng could not start from its own data folder")
    return library
