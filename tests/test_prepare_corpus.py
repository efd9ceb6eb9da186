"""Corpora: from downloads or the user's TSV to one table and one file of samples."""

import importlib

import numpy as np
import pytest
import soundfile

import prepare_corpus
from speech_pareto.corpora import manifest
from speech_pareto.corpus import SPLITS, Recording, assign_splits, read
from speech_pareto.text import fingerprint


def record(folder, name, seconds=1.0, rate=8_000):
    """Write noise as a WAV file."""
    noise = np.random.default_rng(len(name)).normal(0, 0.1, int(seconds * rate))
    soundfile.write(folder / name, noise, rate)


def table(folder, *rows):
    """Write rows as a TSV file."""
    path = folder / "mine.tsv"
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_own_recordings_at_8_khz_are_prepared(tmp_path):
    for i in range(20):
        record(tmp_path, f"{i}.wav", seconds=0.5 + 0.1 * i)
    rows = [(f"{i}.wav", f"words {chr(97 + i) * 3}", "anna") for i in range(20)]
    path = table(tmp_path, ("path", "text", "speaker"), *rows)
    settings = {"source": "manifest", "languages": ["en"]}
    prepare_corpus.main("mine", settings, path, tmp_path / "out")
    found = read(tmp_path / "out")
    assert len(found) == 20 and {u.split for u in found} <= set(SPLITS)
    assert [round(u.seconds, 2) for u in found] == [round(0.5 + 0.1 * i, 2) for i in range(20)]
    assert all(u.phones and u.language == "en" and u.corpus == "out" for u in found)
    assert 0 < np.abs(found[3].wave()).max() <= 1


def test_every_bad_row_is_named_with_its_line(tmp_path):
    record(tmp_path, "a.wav")
    path = table(
        tmp_path,
        ("path", "text", "split", "colour"),
        ("a.wav", "good", "train", "red"),
        ("gone.wav", "no file", "train", "red"),
        ("a.wav", "twice", "tset", "red"),
        ("a.wav", "too short"),
    )
    with pytest.raises(ValueError) as caught:
        manifest.recordings({"languages": ["en"]}, path)
    message = str(caught.value)
    for part in ("unknown column 'colour'", "line 3: no such recording: gone.wav"):
        assert part in message
    for part in ("line 4: split 'tset'", "line 5: 4 columns expected", "a.wav: listed twice"):
        assert part in message


def test_an_unreadable_recording_is_named(tmp_path):
    (tmp_path / "bad.wav").write_text("not audio")
    path = table(tmp_path, ("path", "text"), ("bad.wav", "words"))
    with pytest.raises(ValueError, match="bad.wav"):
        prepare_corpus.main(
            "mine", {"source": "manifest", "languages": ["en"]}, path, tmp_path / "o"
        )
    assert not (tmp_path / "o").exists()


def many(count=600):
    """Return recordings of two languages in which every fifth text stands twice."""
    generator = np.random.default_rng(1)
    recordings = [
        Recording(f"{i}", None, f"text {i - (i % 5 == 0 and i > 0)}", "ab"[i % 2])
        for i in range(count)
    ]
    return recordings, generator.gamma(2, 1.5, count).tolist()


def test_splits_share_no_text_and_keep_shares_of_each_language_and_duration():
    recordings, seconds = many()
    splits = assign_splits(recordings, seconds, valid=0.1, test=0.2)
    by_text = {}
    for recording, split in zip(recordings, splits, strict=True):
        assert by_text.setdefault(fingerprint(recording.text), split) == split
    seconds = np.array(seconds)
    median = np.median(seconds)
    for language in "ab":
        for long in (False, True):
            inside = [
                i
                for i, r in enumerate(recordings)
                if r.language == language and (seconds[i] > median) == long
            ]
            share = sum(seconds[i] for i in inside if splits[i] == "test") / sum(seconds[inside])
            assert 0.14 < share < 0.26


def test_splits_do_not_depend_on_the_order_of_files():
    recordings, seconds = many()
    order = np.random.default_rng(2).permutation(len(recordings))
    shuffled = assign_splits([recordings[i] for i in order], [seconds[i] for i in order])
    assert [shuffled[list(order).index(i)] for i in range(50)] == assign_splits(
        recordings, seconds
    )[:50]


def test_named_splits_are_kept_and_a_text_in_two_is_refused():
    rows = [Recording("1", None, "one", split="test"), Recording("2", None, "two", split="train")]
    assert assign_splits(rows, [1, 1]) == ["test", "train"]
    rows.append(Recording("3", None, "One!", split="train"))
    with pytest.raises(ValueError, match="same text stands in the splits"):
        assign_splits(rows, [1, 1, 1])


def test_prompts_are_the_corpus_that_the_digests_pin(prompts_en):
    found = read(prompts_en)
    spoken = [u for u in found if u.text]
    assert len(found) == 558 and len(spoken) == 553
    test = {fingerprint(u.text) for u in spoken if u.split == "test"}
    assert test and not test & {fingerprint(u.text) for u in spoken if u.split != "test"}
    goodbye = next(u for u in found if u.id == "en/vm-goodbye")
    assert goodbye.text == "Goodbye" and goodbye.phones == "ɡʊdbaɪ" and 0.4 < goodbye.seconds < 2


def test_a_changed_download_is_refused(tmp_path, prompts_en, monkeypatch):
    source = importlib.import_module("speech_pareto.corpora.prompts")
    downloads = prompts_en.parent / "downloads"
    monkeypatch.setitem(source.DIGESTS, "en", "0" * 64)
    settings = {"source": "prompts", "languages": ["en"]}
    with pytest.raises(ValueError, match="another release or a damaged download"):
        prepare_corpus.main("prompts", settings, downloads, tmp_path / "out")
