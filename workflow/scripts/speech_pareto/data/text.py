"""Turn transcripts into units: characters as they are written, phones as espeak-ng says them."""

import ctypes
import difflib
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from speech_pareto.runtime.extras import extra

# Languages whose code stands for another accent here than in espeak-ng; British English is `en-gb`.
VOICES = {"en": "en-us", "es": "es-419"}
# Latin letters that Unicode does not take for others with an accent, and forms of the apostrophe.
FOLDED = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i"}
    | dict.fromkeys("’‘ʼʻ´`", "'")
)
PLAIN = re.compile(r"[a-z]+(?: [a-z]+)*")  # lower-case words
NOT_PHONES = re.compile(r"\([a-z-]+\)|[^\w]|[ˈˌːˑ\d_]")  # language switches, stress, length, ties


def clean(text: str) -> str:
    """Return a transcript without [stage directions], quotes and repeated blanks."""
    return re.sub(r"\s+", " ", re.sub(r"\[[^\]]*\]", " ", text)).strip()


def fingerprint(text: str) -> str:
    """Return the letters and digits alone: two texts with one fingerprint are the same words."""
    letters = unicodedata.normalize("NFKC", text.casefold().translate(FOLDED))
    kinds = ((c, unicodedata.category(c)[0]) for c in letters)  # M: vowel signs of other scripts
    kept = "".join(c for c, kind in kinds if kind in "LNM")
    return "".join(c for c in unicodedata.normalize("NFKD", kept) if not "\u0300" <= c <= "\u036f")


def characters(text: str) -> list[str]:
    """Return lower-case letters, apostrophes and blanks; [] where `unspelt` says why.

    Latin letters lose their accents and become a-z, those in `FOLDED` too; others, such as ð and
    þ, and the letters of other scripts stay as they are, with the vowel signs that belong to them.

    >>> "".join(characters("Où est l'été, mały?"))
    "ou est l'ete maly"
    """
    return _spell(text)[0]


def unspelt(text: str) -> str:
    """Return why a text has no `characters`: "" if it has some."""
    return _spell(text)[1]


def _spell(text: str) -> tuple[list[str], str]:
    """Return the characters of a text, or [] and the reason why there are none."""
    if PLAIN.fullmatch(text):  # most of English, and many times as fast
        return list(text), ""
    text = unicodedata.normalize("NFKC", text.casefold().translate(FOLDED)).casefold()
    symbols, scripts = [], set()
    for c in text:
        kind = unicodedata.category(c)
        folded = [x for x in unicodedata.normalize("NFKD", c) if "a" <= x <= "z"]
        if kind[0] == "N":
            return [], "digits"  # they are read in ways the letters do not show
        if folded or kind[0] == "L":
            symbols += folded or [c]
            scripts.add(unicodedata.name(c, "").startswith("LATIN"))
        elif kind[0] == "M":
            if symbols and not symbols[-1].isascii():  # on Latin letters: an accent
                symbols.append(c)
        elif kind != "Cf":  # invisible, such as a soft hyphen
            symbols.append(c if c == "'" else " ")
    if len(scripts) != 1:
        return [], "Latin letters among others" if scripts else "no letters"
    words = [word for each in "".join(symbols).split() if (word := each.lstrip("'"))]
    return list(" ".join(word.rstrip("'") if len(word) > 2 else word for word in words)), ""


def phones(text: str, language: str) -> list[str]:
    """Return one IPA symbol per phone for `text` read in `language` (espeak-ng, digits expanded).

    [] if espeak-ng has nothing to say. Raises ValueError for a language without a voice.
    """
    library = _espeak()
    library.espeak_SetVoiceByName(voice(language).encode())
    buffer = ctypes.create_string_buffer(text.encode())  # must outlive the loop
    pointer = ctypes.c_void_p(ctypes.addressof(buffer))
    spoken = []
    while pointer.value:  # one clause per call; the library moves the pointer on
        # 1: text is UTF-8; 0x02: answer in IPA
        spoken.append(library.espeak_TextToPhonemes(ctypes.byref(pointer), 1, 0x02).decode())
    symbols = unicodedata.normalize("NFD", " ".join(spoken))
    symbols = "".join(c for c in symbols if not unicodedata.combining(c))
    return list(NOT_PHONES.sub("", symbols))


@lru_cache
def voice(language: str) -> str:
    """Return espeak-ng's file of the voice for a language's code, such as `roa/fr` for `fr-fr`.

    ValueError if espeak-ng lists no such code.
    """
    code, known = VOICES.get(language.lower(), language), voices()
    found = {file: file for _, file in known.values()} | {c: file for c, (_, file) in known.items()}
    if code.lower() in found:
        return found[code.lower()]
    if code in found:
        return found[code]
    close = difflib.get_close_matches(code.lower(), known, n=3)
    close += [c for c in known if c.partition("-")[0] == code.lower().partition("-")[0]]
    hint = f" (did you mean {' or '.join(dict.fromkeys(close))}?)" if close else ""
    raise ValueError(
        f"espeak-ng has no voice {language!r}{hint}; `speech-pareto voices` lists the codes of all"
    )


@lru_cache(maxsize=1)
def voices() -> dict[str, tuple[str, str]]:
    """Return code -> (name, file) of every language that espeak-ng has a voice for.

    Where several voices name a code, it is the one that espeak-ng itself ranks first.
    """
    found, listed, index = {}, _espeak().espeak_ListVoices(None), 0
    while listed[index]:
        one = listed[index].contents
        for rank, code in _codes(one.languages):
            entry = rank, index, one.name.decode().strip(), one.identifier.decode()
            found[code] = min(found.get(code, entry), entry)
        index += 1
    return {code: entry[2:] for code, entry in sorted(found.items())}


class _Voice(ctypes.Structure):
    """`espeak_VOICE` of espeak-ng's speak_lib.h, as far as it is read here."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),  # (a byte: the rank, then a C string) times n, then 0
        ("identifier", ctypes.c_char_p),
    )


def _codes(address: int) -> Iterator[tuple[int, str]]:
    """Yield the ranks and codes of a voice, which begin at an address; 1 is the best."""
    while rank := ctypes.c_ubyte.from_address(address).value:
        code = ctypes.string_at(address + 1)
        yield rank, code.decode().lower()
        address += 2 + len(code)


@lru_cache(maxsize=1)
def _espeak() -> ctypes.CDLL:
    """Return the espeak-ng library that the espeakng-loader package brings, initialised."""
    with extra("workflow"):
        import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    library.espeak_ListVoices.argtypes = [ctypes.c_void_p]
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    # 2: synchronous, no audio device
    if library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0) < 0:
        raise RuntimeError("espeak-ng could not start from its own data folder")
    return library
