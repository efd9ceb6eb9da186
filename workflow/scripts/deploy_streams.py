"""Students that hear chunks, as other programs feed them while somebody speaks."""

import json
import shutil
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx_asr
import sherpa_onnx
import soxr
import torch
from torch import Tensor, nn
from torch.nn import functional

from export import TOLERANCE_INT8, NotExported, distance, fitting, unparametrize, write_onnx
from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.models import lookahead
from speech_pareto.models.backbone import describe
from speech_pareto.models.quantisation import number_format
from speech_pareto.models.stream import Stream
from speech_pareto.reporting import programs
from speech_pareto.runtime import result
from speech_pareto.tasks.recogniser import open_session

TOLERANCE = 1e-4  # largest difference of log-probabilities from those of one pass
# What sherpa-onnx feeds its one streaming model of waveforms (T-one): chunks of 300 ms at 8 kHz.
CHUNK_MS, RATE = 300, 8000
CHUNK = CHUNK_MS * RATE // 1000  # samples
TAPS = 32  # on each side, of the filter that doubles the rate
BATCHES = [{0: "batch"}, {0: "batch"}]


class SherpaStream(nn.Module):
    """A stream as sherpa-onnx runs it: samples at 8 kHz, and a state in 16 bits.

    The state keeps each number as a sum of two, which are as good as one of 22 bits.
    """

    filter: Tensor

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream
        self.kept = [TAPS, stream.state_size]
        place = torch.arange(-TAPS, TAPS + 1, dtype=torch.float64) / 2  # in samples of 8 kHz
        window = torch.hann_window(2 * TAPS + 3, periodic=False, dtype=torch.float64)[1:-1]
        self.register_buffer("filter", (torch.sinc(place) * window).float()[None, None])

    @property
    def state_size(self) -> int:
        """How many 16-bit numbers the state has."""
        return 2 * sum(self.kept)

    def forward(self, signal: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (batch, frames, outputs) and the next state (batch, size).

        `signal` (batch, samples, 1) are integers of 16 bits, in 32.
        """
        high, low = state.float().chunk(2, 1)
        before, kept = (high + low).split(self.kept, 1)
        heard = torch.cat((before, signal[..., 0].float() / 32767), 1)
        output, kept = self.stream(self.doubled(heard), kept)
        kept = torch.cat((heard[:, -TAPS:], kept), 1)
        rounded = kept.half()
        return output, torch.cat((rounded, (kept - rounded.float()).half()), 1)

    def doubled(self, waves: Tensor) -> Tensor:
        """Return samples at 16 kHz (batch, 2 (samples - TAPS)) of those at 8 kHz."""
        spread = torch.stack((waves, torch.zeros_like(waves)), -1).flatten(1)
        return functional.conv1d(spread[:, None], self.filter)[:, 0]


def for_stream(student, folder: Path) -> dict:
    """Write a folder for onnxruntime, which is fed chunk by chunk. Spoils the student."""
    stream = stream_of(student)
    expected = [one_pass(student, stream, waves) for waves in student.waves]
    unparametrize(student.model)
    texts = {"samples": str(stream.samples), "state_size": str(stream.state_size)}
    texts |= {"symbols": json.dumps(student.task.symbols)}
    texts |= {"between": " " if student.task.unit == "phones" else ""}
    example = {"samples": torch.zeros(2, stream.samples), "state": stream.begin(2)}
    file = folder / "model.onnx"
    write_onnx(stream.eval(), file, example, texts, "log_probabilities", "next_state", axes=BATCHES)
    text = programs.STREAM.format(onnxruntime=metadata.version("onnxruntime"))
    (folder / "README.md").write_text(student.card(text), encoding="utf-8")
    session = open_session(file)
    names = [one.name for one in session.get_inputs()]
    return by_chunks(
        student,
        stream,
        expected,
        lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True))),
    )


def by_chunks(student, stream: Stream, expected: list[np.ndarray], run: Callable) -> dict:
    """Return how a stream's file does on a student's recordings, fed chunk by chunk.

    `run` maps samples (1, samples) and state to log-probabilities (1, frames, outputs) and the next
    state, all of them arrays. `NotExported` if they are far from those `expected` of one pass.
    """
    found = []
    for waves in student.waves:
        state, scores = stream.begin().numpy(), []
        padded = np.pad(waves, ((0, 0), (0, -waves.shape[1] % stream.samples)))
        for chunk in np.split(padded, padded.shape[1] // stream.samples, 1):
            output, state = run(chunk, state)
            scores.append(output[0])
        found.append(np.concatenate(scores))
    far = distance(found, expected)
    most = TOLERANCE_INT8 if number_format(stream.backbone) == "int8" else TOLERANCE
    if not far <= most:
        reason = f"chunk by chunk, log-probabilities are {far:.3g} from those of one pass"
        raise NotExported("different", reason)
    latency = lookahead.latency(describe(stream.backbone))  # in seconds
    state = {"state_bytes": state.nbytes, "chunk_samples": stream.samples}
    return {"largest_difference": far, "latency": latency, **state}


class Telephone:
    """A student as T-one's streaming models are: its ONNX file, and recordings at 8 kHz.

    Raises `NotExported` for one that cannot be. Spoils the student.
    """

    def __init__(self, student, file: Path) -> None:
        backbone = student.model.backbone
        frame = lookahead.frame_ms(describe(backbone))
        if CHUNK_MS % frame:
            given = f"{CHUNK_MS} ms are fed at a time, no multiple of a frame's {frame:g} ms"
            raise NotExported("unsupported", given)
        backbone.flow.chunk = self.frames = int(CHUNK_MS // frame)
        self.student, self.file, self.frame_ms = student, file, frame
        self.whole = SherpaStream(stream_of(student)).eval()
        narrow = [soxr.resample(waves[0], SAMPLE_RATE, RATE)[None] for waves in student.waves]
        self.waves = [np.pad(waves, ((0, 0), (0, -waves.shape[1] % CHUNK))) for waves in narrow]
        unparametrize(student.model)
        size = self.whole.state_size
        facts = {"frame_length_ms": CHUNK_MS, "state_dim": size, "sample_rate": RATE}
        texts = {name: str(value) for name, value in facts.items()}
        signal = torch.zeros(2, CHUNK, 1, dtype=torch.int32)
        example = {"signal": signal, "state": torch.zeros(2, size).half()}
        write_onnx(self.whole, file, example, texts, "logprobs", "state_next", axes=BATCHES)

    def text(self, waves: np.ndarray, silent: int = 0) -> str:
        """Return what one pass reads in samples (1, samples), `silent` chunks of which lead."""
        stream = self.whole.stream
        scores = one_pass(self.student, stream, wide(self.whole, waves))
        return self.student.read(scores[silent * self.frames :])

    def compare(self, name: str, texts: Iterable[str], expected: Iterable[str]) -> dict:
        """Return the latency of a program; `NotExported` if it reads recordings otherwise."""
        pairs = zip(texts, expected, strict=True)
        if others := sum(text.split() != own.split() for text, own in pairs):
            raise NotExported("different", f"{name} reads {others} recordings otherwise")
        return {"latency": CHUNK_MS / 1000 + (TAPS + self.whole.stream.lead) / SAMPLE_RATE}


def for_sherpa_stream(student, folder: Path) -> dict:
    """Write a folder for sherpa-onnx's streaming recogniser of T-one. Spoils the student."""
    telephone = student.telephone
    file = folder / "model.onnx"
    shutil.copy(telephone.file, file)
    student.write_tokens(folder)
    text = programs.SHERPA_STREAM.format(sherpa_onnx=metadata.version("sherpa-onnx"))
    (folder / "README.md").write_text(student.card(text), encoding="utf-8")
    texts = by_sherpa_stream(file, telephone.waves)
    return telephone.compare("sherpa-onnx", texts, map(telephone.text, telephone.waves))


def for_onnx_asr(student, folder: Path) -> dict:
    """Write a folder for onnx-asr, to which the student is a T-one as well. Spoils the student."""
    telephone = student.telephone
    shutil.copy(telephone.file, folder / "model.onnx")
    between = " " if student.task.unit == "phones" else ""
    symbols = ["<blk>", *(between + symbol for symbol in student.task.symbols)]
    config = {"model_type": "t-one-ctc", "pad_token_id": 0}
    config |= {"decoder_params": {"vocabulary": symbols}}
    # A frame in steps of 10 ms, for the time of each symbol.
    config |= {"encoder_params": {"reduction_kernel_size": telephone.frame_ms / 10}}
    result.write_json(folder / "config.json", config)
    versions = {"onnx_asr": metadata.version("onnx-asr")}
    text = programs.ONNX_ASR.format(**versions, onnxruntime=metadata.version("onnxruntime"))
    (folder / "README.md").write_text(student.card(text), encoding="utf-8")
    # It leads with a chunk of silence, whose frames it drops, and ends with another.
    padded = (np.pad(waves, ((0, 0), (CHUNK, CHUNK))) for waves in telephone.waves)
    expected = (telephone.text(waves, silent=1) for waves in padded)
    return telephone.compare("onnx-asr", by_onnx_asr(folder, telephone.waves), expected)


def by_onnx_asr(folder: Path, recordings: Iterable[np.ndarray]) -> list[str]:
    """Return onnx-asr's text of recordings (1, samples) at 8 kHz."""
    recogniser = onnx_asr.load_model("t-one-ctc", folder).with_timestamps()
    found = (recogniser.recognize(waves[0], sample_rate=RATE) for waves in recordings)
    return ["".join(one.tokens) for one in found]  # its text is tidied up, as sherpa's is


def by_sherpa_stream(file: Path, recordings: Iterable[np.ndarray]) -> list[str]:
    """Return sherpa's text of recordings (1, samples) at 8 kHz; tokens.txt is beside the model."""
    tokens = str(file.with_name("tokens.txt"))
    recogniser = sherpa_onnx.OnlineRecognizer.from_t_one_ctc(tokens, str(file), num_threads=1)
    texts = []
    for waves in recordings:
        stream = recogniser.create_stream()
        stream.accept_waveform(RATE, waves[0])
        # A chunk is read once the next one is there.
        stream.accept_waveform(RATE, np.zeros(CHUNK, np.float32))
        while recogniser.is_ready(stream):
            recogniser.decode_stream(stream)
        # Its text is tidied up: an apostrophe at the beginning goes, for example.
        texts.append("".join(recogniser.tokens(stream)))
    return texts


def wide(whole: SherpaStream, waves: np.ndarray) -> np.ndarray:
    """Return what a student hears (1, samples), at 16 kHz, of all that sherpa feeds at 8 kHz."""
    heard = torch.trunc(torch.from_numpy(waves).clamp(-1, 1) * 32767) / 32767
    return whole.doubled(functional.pad(heard, (TAPS, 0))).numpy()


def stream_of(student) -> Stream:
    """Return a student's stream of log-probabilities; `NotExported` if it has none."""
    fitting(student.model)
    if student.model.protocol == "probe":
        raise NotExported("unsupported", "a probe reads all layers, a stream the last one")
    return Stream(student.model.backbone, nn.Sequential(student.model.head, nn.LogSoftmax(-1)))


def one_pass(student, stream: Stream, waves: np.ndarray) -> np.ndarray:
    """Return log-probabilities (frames, outputs) of all that a stream hears, in one pass."""
    more = -waves.shape[1] % stream.samples
    return student.run(np.pad(waves, ((0, 0), (stream.lead, more))).astype(np.float32))
