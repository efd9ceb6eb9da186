"""The pages on adding a teacher, a corpus and a task: their examples do what the pages say."""

import io
import re
import sys
import tarfile
import types

import pytest
import soundfile
import yaml

import evaluate
import fetch_corpus
import finetune
import prepare_corpus
from helpers.checkout import ROOT
from helpers.loopback import serve
from speech_pareto.data.corpus import Utterance, read, samples_file, write
from speech_pareto.models.teachers import TEACHERS
from speech_pareto.runtime import plugins
from speech_pareto.runtime.hashing import sha256
from speech_pareto.study import config


def page(name):
    """Return the text of a page."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(name, kind):
    """Return the blocks of one language in a page."""
    return re.findall(rf"```{kind}\n(.*?)```", page(name), re.S)


@pytest.fixture
def example(monkeypatch):
    """Return a function that makes a page's first Python block a module of that name."""

    def make(name, module):
        made = types.ModuleType(module)
        exec(compile(blocks(name, "python")[0], f"{name}.md", "exec"), made.__dict__)
        monkeypatch.setitem(sys.modules, module, made)
        package, _, stem = module.removeprefix("speech_pareto.").rpartition(".")
        there = {package: (*plugins.names(package), stem)}
        known = plugins.names
        monkeypatch.setattr(plugins, "names", lambda name: there.get(name) or known(name))
        return made

    return make


def test_the_published_teachers_are_those_of_the_table():
    rows = [line.strip("| ").split(" | ") for line in page("adding-a-teacher").splitlines()]
    rows = {row[0].strip("`"): row[1:] for row in rows if len(row) == 5 and row[0][0] == "`"}
    assert list(rows) == list(TEACHERS)
    for name, teacher in TEACHERS.items():
        commit = (teacher.revision or "–")[:8]
        pinned = "yes" if teacher.sha256 else "–"
        assert rows[name] == [teacher.hub, teacher.licence, commit, pinned]
        assert f"`{name}`" in (ROOT / "config" / "README.md").read_text(encoding="utf-8")


def test_the_example_teachers_are_valid(study):
    teachers = yaml.safe_load(blocks("adding-a-teacher", "yaml")[0])["teachers"]
    resolved = config.resolve(study | {"teachers": teachers})["teachers"]
    assert resolved["mine"]["revision"] and resolved["base"]["sha256"]


def test_the_example_corpus(example, prompts_en, tmp_path):
    source = example("adding-a-corpus", "speech_pareto.data.corpora.yesno")
    wave = read(prompts_en)[3].wave()[::2]  # any speech, at 8 kHz
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served" / source.NAME, "w:gz") as archive:
        for name in ("0_0_1_0", "1_1_0_1", "0_1_0_0"):
            file = io.BytesIO()
            soundfile.write(file, wave, 8000, format="WAV")
            entry = tarfile.TarInfo(f"waves_yesno/{name}.wav")
            entry.size = len(file.getvalue())
            archive.addfile(entry, io.BytesIO(file.getvalue()))
    source.DIGEST = sha256(tmp_path / "served" / source.NAME)
    with serve(tmp_path / "served") as server:
        settings = {"languages": ["he"], "mirror": server.url, "source": "yesno"}
        fetch_corpus.main("yesno", settings, tmp_path / "downloads")
    prepare_corpus.main("yesno", settings, tmp_path / "downloads", tmp_path / "yesno")
    found = {u.id: u for u in read(tmp_path / "yesno")}
    assert found["0_0_1_0"].text == "לא לא כן לא" and found["0_0_1_0"].phones
    assert found["0_0_1_0"].samples == pytest.approx(2 * len(wave), abs=2)
    assert "Licence: CC-BY-SA 3.0" in (tmp_path / "yesno" / "README.md").read_text()


@pytest.mark.slow
def test_the_example_task_learns(example, prompts_en, tmp_path):
    example("adding-a-task", "speech_pareto.tasks.kinds.keyword")
    chosen = [u for u in read(prompts_en) if 0.5 < u.seconds < 1.5][:2]
    rows, offset = [], 0
    folder = tmp_path / "words"
    folder.mkdir()
    with samples_file(folder / "audio.npy") as append:
        for label, utterance in zip(("one", "two"), chosen, strict=True):
            append(utterance.audio[utterance.offset : utterance.offset + utterance.samples])
            place = {"offset": offset, "samples": utterance.samples}
            for split in ("train", "train", "valid", "test"):
                text = {"text": "", "phones": "", "speaker": "x", "language": "en"}
                rows.append(
                    Utterance(id=f"{label}-{len(rows)}", label=label, split=split, **text, **place)
                )
            offset += utterance.samples
    write(folder, rows)
    (folder / "README.md").write_text("Licence: none\n")
    task = {"kind": "keyword", "unit": "phones", "protocol": "probe", "metric": "error"}
    training = {"steps": 30, "learning_rate": 0.01, "batch_seconds": 8.0, "precision": "fp32"}
    teacher = ROOT / "resources" / "teachers" / "tiny"
    finetune.main(task, training, teacher, [folder], 1, tmp_path / "model")
    run = {"study": "x", "teacher": "tiny", "recipe": "identity", "ratio": 0.0, "seed": 1}
    run |= {"role": "teacher", "pretrained": True}
    run |= {"task": "keywords", "config": {}}
    files = tmp_path / "metrics.json", tmp_path / "metrics.tsv"
    evaluate.main(task, tmp_path / "model", [folder], run, *files)
    table = files[1].read_text().splitlines()
    assert '"error": 0.0' in files[0].read_text() and '"better": "lower"' in files[0].read_text()
    assert len(table) == 5 and table[1].split("\t")[3:5] == ["one", "one"]


def test_the_example_study_of_the_task_is_valid(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = blocks("adding-a-task", "yaml")[0]
    study = yaml.safe_load(text.replace("kind: keyword", "kind: ctc").replace("error", "per"))
    assert config.resolve(study)["corpora"]["words"]["languages"] == ["en"]
