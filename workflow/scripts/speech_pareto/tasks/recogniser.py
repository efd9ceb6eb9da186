"""Recordings in, text, class or embedding out: a fine-tuned folder, or the ONNX file made of it.

recognise = load_recogniser("results/finetuned/tiny/low-rank/0.5/1/phones")
print(recognise("speech.wav"))
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from speech_pareto.data import pauses
from speech_pareto.data.audio import SAMPLE_RATE, stream
from speech_pareto.models.backbone import load
from speech_pareto.runtime import result
from speech_pareto.runtime.extras import extra
from speech_pareto.runtime.hardware import device
from speech_pareto.tasks.captions import Word
from speech_pareto.tasks.task import Task, TaskModel, embeds, load_task_model, make_task

VERIFIES = "this model compares the speakers of two recordings: speech-pareto verify"
SHORTEST = SAMPLE_RATE // 10  # samples; enough for a frame of any stem


class EndToEnd(nn.Module):
    """A task model from padded samples to log-probabilities: it normalises and masks itself.

    One that `embeds` gives embeddings (batch, 1, embedding) instead.
    """

    def __init__(self, model: TaskModel, embeds: bool = False) -> None:
        super().__init__()
        self.model, self.embeds = model, embeds
        self.normalize = model.backbone.preprocessor["do_normalize"]

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (batch, frames, outputs) and the valid frames (batch,).

        waves (batch, samples): 16 kHz, in [-1, 1]; of each `lengths` (batch,) samples are valid.
        """
        mask = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]  # (B, S)
        waves = waves * mask
        if self.normalize:  # mean 0 and variance 1 over the valid samples
            waves = (waves - waves.sum(1, keepdim=True) / lengths[:, None]) * mask
            variance = waves.square().sum(1, keepdim=True) / lengths[:, None]
            waves = waves / (variance + 1e-7).sqrt()
        logits, frames = self.model(waves, mask.long())
        return logits.float() if self.embeds else logits.float().log_softmax(-1), frames


class Recogniser:
    """Transcribes, classifies or compares recordings; `run` is `EndToEnd`, but of arrays."""

    def __init__(self, run: Callable, task: Task, device: str) -> None:
        self.run, self.task, self.device = run, task, device
        self.heard = self.spent = 0.0  # seconds of audio, and of computing
        self.follow: Callable[[float], object] = lambda seconds: None  # told seconds of audio

    def __call__(self, recording: str | Path | np.ndarray) -> str:
        """Return the text or the class of a file, or of float samples (samples,) at 16 kHz.

        Recordings of more than 40 s are cut in pauses, and read bit by bit. Raises
        `UnreadableAudio`, and ValueError for a model whose outputs are not finite, or one that
        compares speakers.
        """
        if embeds(self.task):
            raise ValueError(VERIFIES)
        outputs = self._outputs(recording)
        return self.task.join([text for each in outputs for text in self.task.decode(*each)])

    def words(
        self, recording: str | Path | np.ndarray | Iterable[np.ndarray], live: bool = False
    ) -> Iterator[list[Word]]:
        """Yield the words, or phones, of each piece of a recording with their times.

        `recording` may also be blocks of float samples as they come; `live` cuts them in each
        pause. ValueError also for a model that writes no text.
        """
        if not hasattr(self.task, "words"):
            raise ValueError("this model writes no text, so that no word has a time")
        for start, piece in _pieces(recording, live):
            logits, frames = self._run(piece)
            count = int(frames[0])
            # samples of a frame: a little more than the stem's step
            frame = max(len(piece), SHORTEST) / count
            yield [
                Word(text, *((start + frame * x) / SAMPLE_RATE for x in (first, last + 1)))
                for text, first, last in self.task.words(logits, count)
            ]

    def classify(self, recording: str | Path | np.ndarray) -> tuple[str, float]:
        """Return the class of a recording and its probability, the mean over the pieces of it.

        ValueError also for a model that tells no classes.
        """
        if embeds(self.task):
            raise ValueError(VERIFIES)
        if not hasattr(self.task, "probabilities"):
            raise ValueError(
                "this model transcribes, it tells no classes: speech-pareto transcribe"
            )
        outputs = list(self._outputs(recording))
        name = self.task.join([text for each in outputs for text in self.task.decode(*each)])
        shares = torch.cat([self.task.probabilities(*each) for each in outputs]).mean(0)
        return name, float(shares[self.task.symbols.index(name)])

    def embed(self, recording: str | Path | np.ndarray) -> np.ndarray:
        """Return the embedding (embedding,) of a recording's speaker, of length 1.

        ValueError also for a model that compares no speakers.
        """
        task = self.task
        if not embeds(task):
            raise ValueError("this model compares no speakers: its task is no verification")
        outputs = self._outputs(recording)
        return task.join([vector for each in outputs for vector in task.decode(*each)])

    @property
    def threshold(self) -> float:
        """The score from which two recordings count as one speaker, as chosen on validation."""
        found = self.task.threshold if embeds(self.task) else None
        if found is None:
            raise ValueError("this model has no threshold; only a fine-tuned verification has one")
        return found

    def verify(
        self, recording: str | Path | np.ndarray, other: str | Path | np.ndarray
    ) -> tuple[bool, float]:
        """Return whether two recordings are of one speaker, and the cosine of their embeddings.

        They are if it is at least `threshold`. ValueError as `embed`.
        """
        score = float(self.embed(recording) @ self.embed(other))
        return score >= self.threshold, score

    def _outputs(self, recording: str | Path | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield log-probabilities (1, frames, outputs) and frames (1,) of a recording's pieces."""
        for _, piece in _pieces(recording):
            yield self._run(piece)

    def _run(self, piece: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (1, frames, outputs) and frames (1,) of samples (samples,)."""
        padded = np.pad(piece, (0, max(0, SHORTEST - len(piece)))).astype(np.float32)
        began = time.perf_counter()
        scores, frames = self.run(padded[None], np.array([len(padded)]))
        self.spent += time.perf_counter() - began
        self.heard += len(piece) / SAMPLE_RATE
        self.follow(len(piece) / SAMPLE_RATE)
        if np.isnan(scores).any():  # a log-probability may be -inf
            raise ValueError("the model's outputs are not finite: its training diverged")
        return torch.from_numpy(scores), torch.from_numpy(frames)


def _pieces(
    recording: str | Path | np.ndarray | Iterable[np.ndarray], live: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first sample and the float32 samples (samples,) of a recording's pieces."""
    if isinstance(recording, np.ndarray):
        recording = [recording]
    elif isinstance(recording, str | Path):
        recording = read_blocks(recording)
    return pauses.cut(recording, live=live)


def load_recogniser(source: str | Path) -> Recogniser:
    """Return what runs `source`, a fine-tuned folder or an exported .onnx file.

    It runs on a GPU if torch sees one (an .onnx file always on the CPU), with torch's number of
    threads. FileNotFoundError or ValueError if there is no such model.
    """
    path = Path(source)
    if path.suffix == ".onnx" and path.is_file():
        return _from_onnx(path)
    if path.is_dir():
        return _from_folder(path)
    raise FileNotFoundError(f"{path}: no such folder or .onnx file")


def read_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """Yield a recording of any format and rate as float32 samples (samples,) at 16 kHz."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return (block.astype(np.float32) / 32768 for block in stream(path))


def settings_of(folder: Path) -> dict:
    """Return the settings of the task that a folder was fine-tuned on; ValueError if it was not."""
    if status := result.read_status(folder):
        raise ValueError(f"{folder} holds no model, it is {status['status']}: {status['reason']}")
    if not (folder / "head.safetensors").is_file():
        raise ValueError(f"{folder} has no head.safetensors: it was not fine-tuned on a task")
    file = folder / "provenance.json"
    task = result.read_json(file).get("task") if file.is_file() else None
    if not task:
        raise ValueError(f"{folder} has no provenance.json that names its task; finetune writes it")
    return task


def _from_folder(folder: Path) -> Recogniser:
    """Return the recogniser of a fine-tuned folder, run by torch."""
    settings, where = settings_of(folder), device()
    made = load_task_model(settings, load(folder), folder)
    if made is None:
        raise ValueError(f"{folder} has no head")
    model, task = made
    model = EndToEnd(model, embeds(task)).eval().to(where)

    def run(waves: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(waves).to(where), torch.from_numpy(lengths).to(where))
        return tuple(output.cpu().numpy() for output in outputs)

    return Recogniser(run, task, f"{where} (torch)")


def _from_onnx(file: Path) -> Recogniser:
    """Return the recogniser of an exported file, run by onnxruntime."""
    if not file.stat().st_size:  # what `export` leaves of a model that it could not make
        report = file.with_suffix(".json")
        reason = f": {result.read_json(report)['reason']}" if report.is_file() else ""
        raise ValueError(f"{file} holds no model{reason}")
    session = open_session(file)
    facts = session.get_modelmeta().custom_metadata_map
    if "task" not in facts:
        raise ValueError(f"{file} names no task; only files that `export` wrote can be read")
    task = make_task(json.loads(facts["task"]), json.loads(facts["symbols"]))
    return Recogniser(
        lambda waves, lengths: session.run(None, {"waves": waves, "lengths": lengths}),
        task,
        "cpu (onnxruntime)",
    )


def open_session(file: Path):
    """Return onnxruntime's session of a file, on the CPU with torch's number of threads."""
    with extra("onnx"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no common class
        raise ValueError(f"{file}: onnxruntime cannot read it: {error}")
