"""Transcribing: any recording, by the library, on the command line and from an installation."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr

import speech_pareto
from helpers.checkout import ROOT
from speech_pareto import load_recogniser
from speech_pareto.data.audio import WINDOW, pieces
from speech_pareto.data.corpus import read
from speech_pareto.data.text import characters
from speech_pareto.models.backbone import load
from speech_pareto.runtime.result import write_status

STUDENT = ROOT / "resources" / "teachers" / "tiny-characters"


@pytest.fixture(scope="module")
def spoken(prompts_en):
    """Return the real recordings of the test split that have letters alone."""
    return [u for u in read(prompts_en) if u.split == "test" and characters(u.text)]


@pytest.fixture(scope="module")
def recogniser():
    return load_recogniser(STUDENT)


@pytest.fixture
def files(spoken, tmp_path):
    """Return a real recording as stereo WAV at 8 kHz, as FLAC at 44.1 kHz and as G.722."""
    import av

    wave = next(u for u in spoken if u.seconds > 2).wave()
    low = soxr.resample(wave, 16_000, 8_000)
    soundfile.write(tmp_path / "a.wav", np.stack([low, low], axis=1), 8_000)
    soundfile.write(tmp_path / "b.flac", soxr.resample(wave, 16_000, 44_100), 44_100)
    with av.open(tmp_path / "c.g722", "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16_000, layout="mono")
        samples = np.rint(wave * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples[:, : samples.size // 2 * 2], "s16", "mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return [tmp_path / name for name in ("a.wav", "b.flac", "c.g722")]


def distance(a, b):
    """Return the share of `a` that differs from `b`, by jiwer's count."""
    import jiwer

    return jiwer.cer(a, b)


def command(*arguments):
    """Run `python -m speech_pareto` as it is in this checkout."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    whole = [sys.executable, "-m", "speech_pareto", *map(str, arguments)]
    return subprocess.run(
        whole, cwd=ROOT / "workflow" / "scripts", capture_output=True, text=True, env=environment
    )


def test_real_speech_is_recognised(recogniser, spoken):
    texts = [recogniser(u.wave()) for u in spoken[:20]]
    assert distance(["".join(characters(u.text)) for u in spoken[:20]], texts) < 0.6


def test_formats_and_rates_hardly_matter(recogniser, files):
    texts = [recogniser(file) for file in files]
    assert all(len(text) > 10 for text in texts)
    assert distance(texts[1], texts[2]) < 0.2  # 44.1 kHz and G.722 hold the same band
    assert distance(texts[1], texts[0]) < 0.6  # 8 kHz lacks its upper half


def test_samples_and_file_give_the_same(recogniser, files):
    from speech_pareto.tasks import recogniser as module

    wave = np.concatenate(list(module.read_blocks(files[0])))
    assert recogniser(wave) == recogniser(str(files[0]))


def test_long_recordings_are_cut_in_pauses(recogniser, spoken):
    pause = np.zeros(8_000, np.float32)
    chosen = [u.wave() for u in spoken if 3 < u.seconds < 8][:8]
    chosen += chosen[:3]
    whole = np.concatenate([part for wave in chosen for part in (wave, pause)])
    assert len(whole) > WINDOW
    parts = list(pieces(whole, WINDOW))
    assert np.array_equal(np.concatenate(parts), whole)
    assert max(map(len, parts)) <= WINDOW and min(map(len, parts[:-1])) >= WINDOW // 2
    for part in parts[:-1]:
        assert np.abs(part[-800:]).max() < 0.01
    assert distance(" ".join(map(recogniser, chosen)), recogniser(whole)) < 0.3


@pytest.mark.parametrize("samples", [1, 399, 560])
def test_very_short_recordings_have_a_text(recogniser, samples):
    assert isinstance(recogniser(np.full(samples, 0.1, np.float32)), str)


def test_what_is_no_model_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder or .onnx file"):
        load_recogniser(tmp_path / "nothing")
    with pytest.raises(ValueError, match="has no head.safetensors: it was not fine-tuned"):
        load_recogniser(ROOT / "resources" / "teachers" / "tiny")
    write_status(tmp_path / "hole", "diverged", "the loss is nan at step 3")
    with pytest.raises(ValueError, match="holds no model, it is diverged: the loss is nan"):
        load_recogniser(tmp_path / "hole")
    shutil.copytree(STUDENT, tmp_path / "bare")
    (tmp_path / "bare" / "provenance.json").unlink()
    with pytest.raises(ValueError, match="no provenance.json that names its task"):
        load_recogniser(tmp_path / "bare")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="onnxruntime cannot read it"):
        load_recogniser(tmp_path / "text.onnx")


def test_the_package_imports_nothing_heavy_before_it_is_asked():
    code = "import sys; from speech_pareto.study import config; print('torch' in sys.modules)"
    folder = ROOT / "workflow" / "scripts"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "False\n"
    assert speech_pareto.load is load
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = speech_pareto.nothing


@pytest.mark.slow
def test_the_command(recogniser, files, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    done = command("transcribe", "--threads", 1, STUDENT, *files)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{file}\t{recogniser(file)}\n" for file in files)
    pattern = r"RTF 0\.\d{4}: \d+\.\d s of audio in \d+\.\d\d s, 1 thread, (cpu|cuda) \(torch\)\n"
    assert re.fullmatch(pattern, done.stderr)
    done = command("transcribe", STUDENT, tmp_path / "no.wav", files[0], tmp_path / "empty.wav")
    assert done.returncode == 1 and done.stdout.startswith(f"{files[0]}\t")
    first, second, rtf = done.stderr.splitlines()
    assert first == f"error: {tmp_path / 'no.wav'}: no such file"
    assert second == f"error: {tmp_path / 'empty.wav'}: the file is empty"
    assert rtf.startswith("RTF ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "real-time factor"),
        ([STUDENT], 2, "Missing argument 'audio'"),
        ([STUDENT.parent / "tiny", "a.wav"], 1, "it was not fine-tuned on a task"),
        (["--threads", "none", STUDENT, "a.wav"], 2, "--threads': Input should be a valid integer"),
    ],
)
def test_the_command_explains_itself(arguments, status, words):
    done = command("transcribe", *arguments)
    assert done.returncode == status and "Traceback" not in done.stderr
    assert words in " ".join((done.stdout + done.stderr).split())
