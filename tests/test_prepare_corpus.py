"""Corpora: from downloads or the user's TSV to one table and one file of samples."""

import importlib
import shutil

import numpy as np
import pytest
import soundfile

import prepare_corpus
from speech_pareto.data import decoding
from speech_pareto.data.corpus import left_out, read
from speech_pareto.data.recording import SPLITS
from speech_pareto.data.text import fingerprint


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


def prepared(folder, *rows, columns=("path", "text", "speaker"), **settings):
    """Return the corpus that is prepared of a list with these rows, and its folder."""
    path = table(folder, columns, *rows)
    settings = {"source": "manifest", "languages": ["en"], **settings}
    prepare_corpus.main("mine", settings, path, folder / "out")
    return read(folder / "out"), folder / "out"


@pytest.fixture
def sound(tmp_path):
    """Rows of twelve sound recordings."""
    for i in range(12):
        record(tmp_path, f"{i}.wav", rate=16_000)
    return [(f"{i}.wav", f"words {'abcdefghijkl'[i] * 3}", "anna") for i in range(12)]


def test_what_cannot_be_used_is_left_out_with_its_reason(sound, tmp_path):
    sound += [(f"{name}.wav", f"text of {name}", "bert") for name in ("short", "empty", "zero")]
    record(tmp_path, "short.wav", seconds=559 / 16_000, rate=16_000)
    record(tmp_path, "empty.wav", seconds=0)
    soundfile.write(tmp_path / "zero.wav", np.zeros(9_000), 16_000)
    found, out = prepared(tmp_path, *sound, unusable=0.2)
    assert [u.id for u in found] == [f"{i}.wav" for i in range(12)]
    lost = {one.id: one for one in left_out(out)}
    reasons = {name: one.reason for name, one in lost.items()}
    assert reasons == {"short.wav": "too short", "empty.wav": "empty", "zero.wav": "silent"}
    assert all(one.detail and one.language == "en" for one in lost.values())
    assert {one.split for one in lost.values()} <= set(SPLITS)
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "| too short | " in readme and "| empty | " in readme
    assert found[-1].wave().any()  # offsets are right behind what is left out


def test_splits_do_not_feel_what_is_left_out(sound, tmp_path):
    before, _ = prepared(tmp_path, *sound)
    soundfile.write(tmp_path / "11.wav", np.zeros(16_000), 16_000)
    after, _ = prepared(tmp_path, *sound)
    assert {u.id: u.split for u in before if u.id != "11.wav"} == {u.id: u.split for u in after}


class Killed(BaseException):
    """What stands for a signal."""


def stopped_after(number, monkeypatch):
    """Let each process of decoding end when `number` files are decoded; return those decoded."""
    decode, done = decoding.decode, []

    def limited(path):
        if len(done) == number:
            raise Killed
        done.append(path.name)
        return decode(path)

    monkeypatch.setattr(decoding, "decode", limited)
    return done


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_killed_preparation_goes_on_where_it_was(threads, sound, tmp_path, monkeypatch):
    """An hour of 100 h is lost work; samples behind the journal's end, and half a line, go."""
    soundfile.write(tmp_path / "4.wav", np.zeros(9_000), 16_000)  # left out: silent
    _, out = prepared(tmp_path, *sound, longest=5.0)
    whole = contents(out)
    out.rename(tmp_path / "whole")
    settings = {"source": "manifest", "languages": ["en"], "longest": 5.0}
    job = "mine", settings, tmp_path / "mine.tsv", out, threads
    with monkeypatch.context() as patch:
        stopped_after(8, patch)
        with pytest.raises(Killed):
            prepare_corpus.main(*job)
    part = tmp_path / "out.part"
    kept = len((part / decoding.JOURNAL).read_text().splitlines()) - 1
    assert 1 <= kept <= 8
    with (part / decoding.JOURNAL).open("a") as file:
        file.write('[["half", 1, 2, true], {"pieces": [1]')
    with (part / "audio.npy").open("ab") as file:
        file.write(b"\1" * 999)
    with monkeypatch.context() as patch:
        again = stopped_after(12, patch)
        prepare_corpus.main(*job)
    assert len(again) == 12 - kept
    assert contents(out) == whole and not part.exists()


def test_what_changed_since_a_kill_is_decoded_again(sound, tmp_path, monkeypatch):
    table(tmp_path, ("path", "text", "speaker"), *sound)
    settings = {"source": "manifest", "languages": ["en"]}
    job = tmp_path / "mine.tsv", tmp_path / "out"

    def decoded_after_a_kill(change, **changed):
        shutil.rmtree(tmp_path / "out.part", ignore_errors=True)
        with monkeypatch.context() as patch:
            stopped_after(6, patch)
            with pytest.raises(Killed):
                prepare_corpus.main("mine", settings, *job)
        change()
        with monkeypatch.context() as patch:
            again = stopped_after(12, patch)
            prepare_corpus.main("mine", settings | changed, *job)
        return again

    names = [path for path, *_ in sound]
    assert decoded_after_a_kill(lambda: None) == names[6:]
    assert decoded_after_a_kill(lambda: record(tmp_path, "2.wav", 2.0, 16_000)) == names[2:]
    assert read(tmp_path / "out")[2].seconds == 2.0
    assert decoded_after_a_kill(lambda: None, longest=1.5) == names
    cut = tmp_path / "out.part" / "audio.npy"  # a node that lost power
    assert decoded_after_a_kill(lambda: cut.write_bytes(cut.read_bytes()[:70_000])) == names[2:]


def test_all_bad_files_are_named_at_once(sound, tmp_path):
    names = ("a.mp3", "b.wav", "c.flac")
    for name in names:
        (tmp_path / name).write_bytes(b"not audio")
    with pytest.raises(ValueError, match=r"20\.0% of the recordings cannot be used") as caught:
        prepared(tmp_path, *sound, *((name, f"text {name[0]}", "") for name in names))
    assert all(name in str(caught.value) for name in names)
    assert not (tmp_path / "out").exists()
    assert len(left_out(tmp_path / "out.part")) == 3


def test_messages_about_many_files_stay_short(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="and 30 more: empty") as caught:
        prepared(tmp_path, *((f"{i}.wav", f"text {i}", "") for i in range(40)))
    assert str(caught.value).count("\n") < 15


def test_long_recordings_without_words_are_cut_and_others_left_out(sound, tmp_path):
    for name in ("meeting.flac", "speech.flac"):
        record(tmp_path, name, seconds=150)
    rows = [*sound, ("meeting.flac", "", "x"), ("speech.flac", "so many words", "x")]
    found, out = prepared(tmp_path, *rows)
    pieces = [u for u in found if u.id.startswith("meeting")]
    assert [u.id for u in pieces] == [f"meeting.flac#{n}" for n in range(1, len(pieces) + 1)]
    assert sum(u.samples for u in pieces) == 150 * 16_000
    assert max(u.seconds for u in pieces) <= 20
    assert [(one.id, one.reason) for one in left_out(out)] == [("speech.flac", "too long")]
    assert [u.id for u in prepared(tmp_path, *rows, longest=200)[0]][-1] == "speech.flac"


def test_copies_in_two_splits_are_told(tmp_path, caplog):
    for i in range(6):
        record(tmp_path, f"{i}.wav", seconds=1 + i / 10, rate=16_000)
    (tmp_path / "copy.wav").write_bytes((tmp_path / "3.wav").read_bytes())
    rows = [(f"{i}.wav", f"words {i}", "anna", "train") for i in range(6)]
    _, out = prepared(
        tmp_path,
        *rows,
        ("copy.wav", "words 3", "anna", "test"),
        columns=("path", "text", "speaker", "split"),
    )
    assert "train holds too, sample for sample: 1 (copy.wav)" in caplog.text
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "Texts of `test` that `train` holds too: 1 of 1." in readme
    assert "sample for sample: 1." in readme


def test_a_language_without_a_voice_is_refused_before_anything_is_decoded(tmp_path):
    (tmp_path / "bad.wav").write_text("not audio")
    with pytest.raises(ValueError, match="espeak-ng has no voice 'en-uk'.*did you mean en-us or"):
        prepared(tmp_path, ("bad.wav", "words", ""), languages=["en-uk"])


def test_texts_without_phones_are_told(sound, tmp_path, caplog):
    found, _ = prepared(tmp_path, *sound, languages=["fo"])
    assert len(found) == 12 and not any(u.phones for u in found)
    assert "espeak-ng gives no phones for 12 texts" in caplog.text


def test_prompts_are_the_corpus_that_the_digests_pin(prompts_en):
    found = read(prompts_en)
    spoken = [u for u in found if u.text]
    assert len(found) == 558 and len(spoken) == 553
    test = {fingerprint(u.text) for u in spoken if u.split == "test"}
    assert test and not test & {fingerprint(u.text) for u in spoken if u.split != "test"}
    goodbye = next(u for u in found if u.id == "en/vm-goodbye")
    assert goodbye.text == "Goodbye" and goodbye.phones == "ɡʊdbaɪ" and 0.4 < goodbye.seconds < 2


@pytest.mark.slow
def test_a_changed_download_is_refused(tmp_path, prompts_en, monkeypatch):
    source = importlib.import_module("speech_pareto.data.corpora.prompts")
    downloads = prompts_en.parent / "downloads"
    monkeypatch.setitem(source.DIGESTS, "en", "0" * 64)
    settings = {"source": "prompts", "languages": ["en"]}
    with pytest.raises(ValueError, match="another release or a damaged download"):
        prepare_corpus.main("prompts", settings, downloads, tmp_path / "out")


@pytest.mark.parametrize("end", [b"", b"\xff", b"\tx" * 40])
def test_a_damaged_table_is_named(sound, tmp_path, end):
    _, out = prepared(tmp_path, *sound)
    data = (out / "manifest.tsv").read_bytes()
    (out / "manifest.tsv").write_bytes(data[:-20] + end)
    with pytest.raises(ValueError, match=r"out/manifest\.tsv is damaged"):
        read(out)


def test_a_folder_without_recordings_is_named(tmp_path):
    (tmp_path / "dev-clean").mkdir()
    settings = {"source": "librispeech", "languages": ["en"], "parts": ["dev-clean"]}
    with pytest.raises(ValueError, match="corpus libri: no recordings in "):
        prepare_corpus.main("libri", settings, tmp_path, tmp_path / "out")
