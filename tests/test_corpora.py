"""LibriSpeech and Speech Commands: from archives on a server, or a copy on disk, to a corpus.

The archives are made here, in the layout of the published ones, of real recordings.
"""

import shutil
import tarfile

import numpy as np
import pytest
import torch

import evaluate
import fetch_corpus
import finetune
import prepare_corpus
from helpers.archives import add, encoded
from helpers.loopback import serve
from helpers.results import SCORED
from speech_pareto.data.corpora import librispeech, speech_commands
from speech_pareto.data.corpus import read
from speech_pareto.models.backbone import new, save, tiny_config
from speech_pareto.runtime.hashing import digest_of, sha256
from speech_pareto.study import config

CLEAN = ("train-clean-100", "dev-clean", "test-clean")


@pytest.fixture(scope="module")
def speech(prompts_en):
    """Real recordings: (int16 samples, words)."""
    spoken = [u for u in read(prompts_en) if u.text and u.seconds < 2][:8]
    return [(u.audio[u.offset : u.offset + u.samples], u.text) for u in spoken]


@pytest.fixture(scope="module")
def mirror(speech, tmp_path_factory):
    """A server with all parts of LibriSpeech, four utterances each, and with Speech Commands."""
    folder = tmp_path_factory.mktemp("mirror")
    for number in ("12", "31"):
        (folder / number).mkdir()
    for part in librispeech.PARTS:
        number = "31" if part in librispeech.MINI else "12"
        with tarfile.open(folder / number / f"{part}.tar.gz", "w:gz") as archive:
            add(archive, "LibriSpeech/SPEAKERS.TXT", b"; id | sex | part\n")
            for speaker in ("19", "26"):
                chapter, lines = f"LibriSpeech/{part}/{speaker}/198", []
                for index, (wave, words) in enumerate(speech[:2]):
                    name = f"{speaker}-198-{index:04d}"
                    lines.append(f"{name} {words.upper()}\n")
                    add(archive, f"{chapter}/{name}.flac", encoded(wave, "FLAC"))
                add(archive, f"{chapter}/{speaker}-198.trans.txt", "".join(lines).encode())
    with tarfile.open(folder / speech_commands.NAME, "w:gz") as archive:
        waves = iter(speech)
        for word in ("yes", "no"):
            for speaker in ("0a7c2a8d", "1b88bf70", "c0445658"):
                name = f"./{word}/{speaker}_nohash_0.wav"
                add(archive, name, encoded(next(waves)[0], "WAV"))
        noise = encoded(np.zeros(32000, np.int16), "WAV")
        add(archive, "./_background_noise_/pink_noise.wav", noise)
        add(archive, "./validation_list.txt", b"yes/1b88bf70_nohash_0.wav\n")
        add(archive, "./testing_list.txt", b"no/c0445658_nohash_0.wav\nyes/c0445658_nohash_0.wav\n")
    with serve(folder) as running:
        yield running


@pytest.fixture
def pinned(mirror, monkeypatch):
    """Pin the digests of the archives made here, MD5 where it is an MD5."""
    for part, digest in librispeech.PARTS.items():
        number = "31" if part in librispeech.MINI else "12"
        algorithm = "md5" if len(digest) == 32 else "sha256"
        found = digest_of(mirror.folder / number / f"{part}.tar.gz", algorithm)
        monkeypatch.setitem(librispeech.PARTS, part, found)
    found = sha256(mirror.folder / speech_commands.NAME)
    monkeypatch.setattr(speech_commands, "DIGEST", found)


def made(source, mirror, folder, **settings):
    """Return the corpus that is fetched from the mirror and prepared."""
    settings = {"source": source, "languages": ["en"], "mirror": mirror.url, **settings}
    fetch_corpus.main(source, settings, folder / "downloads")
    prepare_corpus.main(source, settings, folder / "downloads", folder / "corpus")
    return read(folder / "corpus")


@pytest.mark.parametrize("parts", [CLEAN, (*librispeech.MINI, "test-clean")])
def test_librispeech_is_prepared_as_published(parts, mirror, pinned, speech, tmp_path):
    found = made("librispeech", mirror, tmp_path, parts=list(parts))
    assert [u.split for u in found] == ["train"] * 4 + ["valid"] * 4 + ["test"] * 4
    first = found[0]  # texts of one split may stand in another, as published
    assert first.id == f"{parts[0]}/19-198-0000" and first.speaker == "19"
    assert first.text == speech[0][1].lower() and first.phones
    assert np.array_equal(np.rint(first.wave() * 32768), speech[0][0])
    assert not list((tmp_path / "downloads").glob("*.tar.gz"))


def test_a_copy_on_disk_needs_no_download(mirror, pinned, tmp_path):
    parts = ["train-other-500", "dev-other", "test-other"]
    found = made("librispeech", mirror, tmp_path, parts=parts)
    for copy in (tmp_path / "downloads", tmp_path / "downloads" / "LibriSpeech"):
        settings = {"source": "librispeech", "languages": ["en"], "parts": parts}
        prepare_corpus.main("other", settings, copy, tmp_path / "again")
        assert [u.id for u in read(tmp_path / "again")] == [u.id for u in found]
    with pytest.raises(ValueError, match="no folder dev-clean"):
        librispeech.recordings({"parts": ["dev-clean"]}, copy)
    next(copy.rglob("*.trans.txt")).unlink()
    with pytest.raises(ValueError, match="no transcript"):
        librispeech.recordings({"parts": parts}, copy)


def test_parts_that_are_there_are_not_fetched_again(mirror, pinned, tmp_path):
    folder, settings = tmp_path / "downloads", {"mirror": mirror.url}
    folder.mkdir()
    librispeech.fetch(settings | {"parts": ["dev-clean"]}, folder)
    before = len(mirror.starts)
    librispeech.fetch(settings | {"parts": ["dev-clean", "dev-other"]}, folder)
    assert len(mirror.starts) == before + 1


def test_a_damaged_archive_is_refused(mirror, pinned, monkeypatch, tmp_path):
    monkeypatch.setitem(librispeech.PARTS, "dev-clean-2", "0" * 32)
    settings = {"mirror": mirror.url, "parts": ["dev-clean-2"]}
    with pytest.raises(RuntimeError, match=r"dev-clean-2\.tar\.gz: MD5 is not 000"):
        librispeech.fetch(settings, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_speech_commands_have_words_labels_and_published_splits(mirror, pinned, tmp_path):
    found = {u.id: u for u in made("speech_commands", mirror, tmp_path)}
    assert len(found) == 6 and not any("noise" in name for name in found)
    one = found["yes/1b88bf70_nohash_0"]
    assert (one.split, one.label, one.text, one.speaker) == ("valid", "yes", "yes", "1b88bf70")
    splits = [u.split for u in found.values()]
    assert sorted(splits) == ["test", "test", "train", "train", "train", "valid"]
    shutil.rmtree(tmp_path / "downloads" / "yes")
    (tmp_path / "downloads" / "testing_list.txt").unlink()
    with pytest.raises(ValueError, match=r"no testing_list\.txt here"):
        speech_commands.recordings({}, tmp_path / "downloads")


@pytest.mark.slow
def test_words_of_speech_commands_are_classes(mirror, pinned, tmp_path):
    made("speech_commands", mirror, tmp_path)
    torch.manual_seed(0)
    start, corpora = tmp_path / "start", [tmp_path / "corpus"]
    save(new(tiny_config(hidden=48, layers=1, heads=4, ffn=64, pos_conv=16)), start)
    task = {"kind": "classification", "label": "label", "metric": "accuracy"}
    task |= {"protocol": "finetune"}
    training = {"steps": 2, "learning_rate": 1e-3, "batch_seconds": 4.0, "precision": "fp32"}
    finetune.main(task, training, start, corpora, 1, tmp_path / "model")
    files = tmp_path / "metrics.json", tmp_path / "metrics.tsv"
    evaluate.main(task, tmp_path / "model", corpora, SCORED, *files)
    rows = [line.split("\t") for line in files[1].read_text().splitlines()[1:]]
    assert sorted((row[2], row[3]) for row in rows) == [
        ("test", "no"),
        ("test", "yes"),
        ("valid", "yes"),
    ]
    assert {row[4] for row in rows} <= {"yes", "no"}


def test_the_config_of_a_published_corpus(study, tmp_path):
    (tmp_path / "LibriSpeech").mkdir()
    copy = {"source": "librispeech", "path": "LibriSpeech", "parts": list(CLEAN)}
    words = {"source": "speech_commands"}
    study["corpora"] |= {"libri": copy, "words": words}
    resolved = config.resolve(study)["corpora"]
    assert resolved["libri"]["languages"] == resolved["words"]["languages"] == ["en"]
    copy |= {"parts": ["train-clean-10"], "mirror": "elsewhere"}
    words |= {"parts": ["dev-clean"], "path": "gone"}
    study["corpora"]["mini"] = {"source": "librispeech"}
    with pytest.raises(config.ConfigError) as caught:
        config.resolve(study)
    for said in (
        "unknown part 'train-clean-10'; did you mean 'train-clean-100'?",
        "corpora.libri: 'path' and 'mirror' exclude each other.",
        "corpora.words.parts: the source 'speech_commands' does not use it.",
        "corpora.words.path: there is no folder 'gone'.",
        "corpora.mini: the key 'parts' is missing",
    ):
        assert any(said in line for line in caught.value.problems), said
