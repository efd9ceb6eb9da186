"""Transcripts become units."""

import pytest

from helpers.commands import command
from speech_pareto.data.text import characters, clean, fingerprint, phones, unspelt, voice, voices


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Où est l'été ?", "ou est l'ete"),
        ("Vidíš to oko? Němý svědek…", "vidis to oko nemy svedek"),
        ("press 1", ""),  # digits are read in ways the letters do not show
        ("mały pies, łódka", "maly pies lodka"),  # letters that Unicode does not decompose
        ("en ø i søen", "en o i soen"),
        ("kapıyı aç", "kapiyi ac"),
        ("đak ħobż", "dak hobz"),
        ("Straße, œuvre, æble", "strasse oeuvre aeble"),
        ("cʼhoar c’hoar", "c'hoar c'hoar"),
        ("það er þetta", "það er þetta"),  # letters of their own
        ("Активировано: й", "активировано й"),
        ("ΛΌΓΟΣ", "λόγοσ"),
        ("नमस्ते", "नमस्ते"),  # vowel signs belong to their letters
        ("ĳs co\u00adöperatie", "ijs cooperatie"),  # a soft hyphen is none
        ("x²", ""),
        ("… !", ""),
        ("Открой Window", ""),  # who knows how that was read
        ("", ""),
    ],
)
def test_characters_are_folded_or_refused(text, expected):
    assert "".join(characters(text)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("press 1", "digits"),
        ("½ dozen", "digits"),
        ("…", "no letters"),
        ("", "no letters"),
        ("Открой Window", "Latin letters among others"),
        ("był", ""),
    ],
)
def test_why_a_text_has_no_characters(text, reason):
    assert unspelt(text) == reason and bool(characters(text)) == (not reason)


def test_stage_directions_go_and_words_stay():
    assert clean("at [@]  the   tone") == "at the tone"
    assert clean("[a loud beep]") == ""


def test_the_same_words_have_one_fingerprint():
    assert fingerprint("Goodbye!") == fingerprint("  good-bye ")
    assert fingerprint("Goodbye") != fingerprint("Goodday")


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Goodbye!", "en", "ɡʊdbaɪ"),
        ("número", "es", "numeɾo"),
        ("vinte 2", "nl", "vɪntətʋeː"),
        ("loď, loď", "cs", "locloc"),  # a comma ends a clause: both are spoken
    ],
)
def test_phones_are_single_symbols_without_stress_and_length(text, language, expected):
    assert "".join(phones(text, language)) == expected.replace("ː", "")


def test_digits_are_spoken():
    assert "".join(phones("42", "en")) == "".join(phones("forty two", "en"))


def test_every_code_that_espeak_lists_is_accepted():
    known = voices()
    assert len(known) > 140 and {"en-gb", "fr-fr", "zh", "pt-br", "en-gb-x-rp"} <= set(known)
    silent = [code for code in known if not phones("a e i o u", code)]
    assert set(silent) <= {"fo", "kaa", "xex"}  # these come without a dictionary
    assert (voice("en-gb"), voice("en"), voice("fr"), voice("es")) == (
        "gmw/en",
        "gmw/en-US",
        "roa/fr",
        "roa/es-419",
    )
    assert voice("EN-GB") == voice("gmw/en") == "gmw/en"


def test_accents_of_english_differ():
    assert phones("car", "en-us")[-1] == "ɹ" and phones("car", "en-gb")[-1] == "ɑ"


@pytest.mark.parametrize(("code", "said"), [("xx-nope", "voices"), ("en-uk", "did you mean en-us")])
def test_an_unknown_voice_is_named(code, said):
    with pytest.raises(ValueError, match=f"no voice {code!r}.*{said}"):
        phones("a", code)


def test_the_command_lists_all_codes(capsys):
    command("voices")
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(voices())
    assert "en                   English (America) (gmw/en-US)" in lines
