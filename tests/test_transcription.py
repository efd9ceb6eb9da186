"""Long recordings, words with their times, caption files, many files at once, a stream."""

import io
import json
import os
import shutil
import subprocess
import sys

import av
import jiwer
import numpy as np
import pytest
import soundfile

from helpers.checkout import ROOT
from helpers.commands import command
from speech_pareto import load_recogniser
from speech_pareto.data import pauses
from speech_pareto.data.audio import SAMPLE_RATE, WINDOW
from speech_pareto.data.corpus import read
from speech_pareto.data.text import characters
from speech_pareto.models import architecture, backbone
from speech_pareto.models.layers.chunked import stream_chunks
from speech_pareto.models.stream import Stream
from speech_pareto.tasks import captions, live, transcription
from speech_pareto.tasks.captions import Word
from speech_pareto.tasks.recogniser import read_blocks

STUDENT = ROOT / "resources" / "teachers" / "tiny-characters"
GAP = np.zeros(19_200, np.float32)  # 1.2 s


@pytest.fixture(scope="module")
def recogniser():
    return load_recogniser(STUDENT)


@pytest.fixture(scope="module")
def spoken(prompts_en):
    """Return real utterances of 5 to 9 s without a pause."""
    known = (u.wave() for u in read(prompts_en) if characters(u.text) and 5 < u.seconds < 9)
    whole = (wave for wave in known if pauses.pause(wave) is None)
    return [wave for wave, _ in zip(whole, range(8), strict=False)]


@pytest.fixture(scope="module")
def long(spoken, tmp_path_factory):
    """Return a file of these utterances with pauses between them."""
    file = tmp_path_factory.mktemp("long") / "long.flac"
    whole = np.concatenate([part for wave in spoken for part in (wave, GAP)])
    assert len(whole) > WINDOW
    soundfile.write(file, whole, SAMPLE_RATE)
    return file


def test_a_long_recording_reads_as_its_utterances(recogniser, spoken, long):
    found = [" ".join(word.text for word in piece) for piece in recogniser.words(long)]
    assert len(found) == len(spoken)
    whole = recogniser_input(long)
    alone = [recogniser(piece) for _, piece in pauses.cut([whole])]  # each as a recording
    assert found == [" ".join(text.split()) for text in alone]
    assert " ".join(found).split() == recogniser(long).split()
    # Little pauses at their ends change what this small student reads, if not much.
    assert jiwer.cer([recogniser(wave) for wave in spoken], found) < 0.25


def recogniser_input(file):
    """Return a file's samples as they are recognised."""
    return np.concatenate(list(read_blocks(file)))


def test_words_stand_where_they_are_said(recogniser, spoken, long):
    words = [word for piece in recogniser.words(long) for word in piece]
    ends = np.cumsum([len(wave) + len(GAP) for wave in spoken]) / SAMPLE_RATE
    starts = [0.0, *ends[:-1]]
    for word in words:
        assert 0 <= word.start < word.end
        inside = [
            a - 0.1 <= word.start and word.end <= b - 1.1 for a, b in zip(starts, ends, strict=True)
        ]
        assert any(inside), word
    assert all(a.end <= b.start for a, b in zip(words, words[1:], strict=False))


WORDS = [Word("a", 0.5, 1.25), Word("<b>", 1.3, 2.0), Word("c", 3700.25, 3701.0)]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_ffmpeg_reads_the_captions(form, tmp_path):
    file = tmp_path / f"speech.{form}"
    file.write_text(captions.FORMATS[form](WORDS), encoding="utf-8")
    with av.open(file) as container:
        stream = container.streams.subtitles[0]
        found = [p for p in container.demux(stream) if p.size]
        times = [(float(p.pts * p.time_base), float(p.duration * p.time_base)) for p in found]
        texts = [bytes(p).decode() for p in found]
    assert times == [(0.5, 1.5), (3700.25, 0.75)]
    assert texts[0] == ("a &lt;b&gt;" if form == "vtt" else "a <b>") and texts[1] == "c"


def test_a_caption_is_short_enough_to_read():
    words = [Word("long" * 5, 0.4 * i, 0.4 * i + 0.3) for i in range(40)]
    shown = captions.captions(words)
    assert [word for own in shown for word in own] == words
    for own in shown:
        assert own[-1].end - own[0].start <= 7 and len(captions.text(own).strip()) <= 84
    assert len(captions.captions(WORDS)) == 2


def test_one_file_on_stdout_and_many_in_a_folder(recogniser, long, spoken, tmp_path, capsys):
    soundfile.write(tmp_path / "short.wav", spoken[0], SAMPLE_RATE)
    command("transcribe", STUDENT, long, "--format", "json")
    shown = json.loads(capsys.readouterr().out)["captions"]
    words = [word["text"] for caption in shown for word in caption["words"]]
    assert words == recogniser(long).split()
    files = long, tmp_path / "short.wav"
    command("transcribe", STUDENT, *files, "--format", "vtt", "--output", tmp_path / "texts")
    written = sorted(path.name for path in (tmp_path / "texts").iterdir())
    assert written == ["long.vtt", "short.vtt"]
    for arguments, words in (
        (["--format", "vtt"], "needs a folder: --output"),
        (["--format", "txt"], "unknown format 'txt'; did you mean 'text'"),
    ):
        with pytest.raises(SystemExit, match=words):
            command("transcribe", STUDENT, *files, *arguments)


@pytest.mark.slow
def test_several_processes_give_what_one_gives(long, spoken, tmp_path):
    files = [long, tmp_path / "no.wav"]
    for number, wave in enumerate(spoken[:3]):
        soundfile.write(tmp_path / f"{number}.wav", wave, SAMPLE_RATE)
        files.append(tmp_path / f"{number}.wav")
    ask = transcription.transcribed
    one, two = (list(transcription.answers(STUDENT, files, ask, jobs, 1)) for jobs in (1, 2))
    assert [(a.path, a.text, a.error) for a in one] == [(a.path, a.text, a.error) for a in two]
    assert one[1].error.endswith("no such file") and one[0].text
    assert sum(a.heard for a in two) == pytest.approx(sum(a.heard for a in one))


def test_several_processes_say_what_is_wrong_with_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list(transcription.answers(tmp_path / "no", [tmp_path], transcription.transcribed, 2))


def test_a_stream_is_read_at_any_rate():
    wave = np.sin(np.arange(44_100) / 20).astype(np.float32) / 2
    data = io.BytesIO((wave * 32767).astype("<i2").tobytes() + b"\0")
    blocks = list(transcription.heard(data, 44_100))
    assert sum(map(len, blocks)) == pytest.approx(SAMPLE_RATE, abs=2)
    data.seek(0)
    plain = np.concatenate(list(transcription.heard(data, SAMPLE_RATE)))
    assert np.allclose(plain[:100], wave[:100], atol=1e-3) and len(plain) == len(wave)


@pytest.mark.slow
def test_what_a_microphone_hears_is_written_after_each_pause(recogniser, spoken):
    whole = np.concatenate([spoken[0], GAP, spoken[1], GAP])
    program = [sys.executable, "-m", "speech_pareto", "listen", str(STUDENT)]
    variables = os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")}
    data = (whole * 32767).astype("<i2").tobytes()
    done = subprocess.run(program, input=data, env=variables, capture_output=True, check=True)
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert len(lines) == 2
    assert 0 <= float(lines[0][0]) < float(lines[0][1]) <= len(spoken[0]) / SAMPLE_RATE + 0.1
    assert float(lines[1][0]) >= len(spoken[0]) / SAMPLE_RATE + 0.6
    assert len(lines[0][2]) > 10


def test_a_student_in_chunks_writes_as_it_hears(tmp_path, spoken):
    """Block by block, and in one pass over what the stream was."""
    made = stream_chunks_of(backbone.load(STUDENT))
    folder = tmp_path / "chunks"
    texts = {name: (STUDENT / name).read_text() for name in ("provenance.json",)}
    backbone.save(made, folder, texts=texts)
    shutil.copy(STUDENT / "head.safetensors", folder)
    wave = spoken[0]
    blocks = np.split(wave, range(1000, len(wave), 1000))
    parts = list(live.written(folder, blocks))
    stream = Stream(made)
    assert len(parts) == -(-len(wave) // stream.samples)
    assert sum(map(bool, parts)) > 3 and len("".join(parts)) > 10
    whole = np.pad(wave, (stream.lead, -len(wave) % stream.samples))
    assert "".join(parts).split() == load_recogniser(folder)(whole).split()


def stream_chunks_of(made):
    """Return a model that hears chunks of 160 ms."""
    parts = architecture.section(backbone.describe(made)) | {"streaming": {"chunk": 8, "left": 64}}
    made.config.compression = parts
    stream_chunks(made, **parts["streaming"])
    return made.eval()


def test_a_student_that_hears_the_whole_does_not_write_at_once(tmp_path):
    with pytest.raises(ValueError, match="only one of the method `streaming` writes"):
        next(live.written(STUDENT, []))
    with pytest.raises(FileNotFoundError, match="student.onnx: no such folder; --now takes no"):
        next(live.written(tmp_path / "student.onnx", []))
