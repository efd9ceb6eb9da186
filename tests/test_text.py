"""Transcripts become units."""

import pytest

from speech_pareto.text import characters, clean, fingerprint, phones


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Où est l'été ?", "ou est l'ete"),
        ("Vidíš to oko? Němý svědek…", "vidis to oko nemy svedek"),
        ("press 1", ""),  # digits are read in ways the letters do not show
        ("Активировано", ""),  # not Latin
        ("", ""),
    ],
)
def test_characters_are_folded_or_refused(text, expected):
    assert "".join(characters(text)) == expected


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


def test_an_unknown_voice_is_named():
    with pytest.raises(ValueError, match="no voice 'xx-nope'"):
        phones("a", "xx-nope")
