"""Part a: does a GPU give what a CPU gives, and the same bytes again?

Each method makes a student of the tiny teacher in a few steps, and one row fine-tunes it:

    cpu      on the CPU
    gpu      on the GPU with the CPU's random draws, then with its own
    again    on the GPU in another process: with its own draws, the same once more but killed at the
             second step and resumed, and in bf16 with the CPU's draws

Three processes make these at the same time, a fourth compares: cpu with gpu (heads, rows and ranks,
which weights are zero, losses, hypotheses), bytes of gpu with those of again, losses in bf16 with
those in fp32. Two generators never draw the same numbers on CPU and GPU: so masks, dropout and
gates are drawn on the CPU wherever both are compared.
"""

import contextlib
import os
import shutil
import signal
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

import compress
import finetune
from gpu_parts.synthetic import AUGMENTED, FINE_TUNING, TASK, TEACHER, loop
from large import step_of
from speech_pareto.compression import catalogue, recipes
from speech_pareto.data import batches
from speech_pareto.data.corpus import read
from speech_pareto.models import architecture
from speech_pareto.models.backbone import load
from speech_pareto.models.model_folder import read_config
from speech_pareto.models.surgery import matrix, weight
from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.result import read_json, read_status, write_json
from speech_pareto.tasks.task import load_task_model
from speech_pareto.training import finetuning, inference
from speech_pareto.training import loop as training

RATIO = 0.3
KILLED_AT = 2  # step, counted from 1
LOSSES = 0.01  # relative difference up to which losses agree: cuDNN convolves in TF32
SAME = 0.999  # share of equal rows and zeros from which they agree


class CpuDraws(TorchFunctionMode):
    """Random numbers come from the CPU's generator, whatever device they are asked for."""

    def __torch_function__(self, function, types, arguments=(), named=None):
        """Call `function`, one that draws numbers on the CPU."""
        named = dict(named or {})
        if function is torch.rand:
            device = named.pop("device", None)
            return torch.rand(*arguments, **named).to(device or "cpu")
        if function is torch.rand_like:
            like = arguments[0]
            return torch.rand(like.shape, dtype=like.dtype).to(like.device)
        if function is torch.nn.functional.dropout:
            return _dropout(*arguments, **named)
        return function(*arguments, **named)


def _dropout(values, p=0.5, training=True, inplace=False):
    """Return `values` with dropout drawn on the CPU."""
    if not training or not p:
        return values
    kept = (torch.rand(values.shape) >= p).to(values.device, values.dtype)
    return values * kept / (1 - p)


@contextlib.contextmanager
def losses():
    """Yield a list that gets the loss of each step that the one training loop makes."""
    found, original = [], training.train

    def train(*arguments, **named):
        curve = original(*arguments, **named)
        found.extend(point["loss"] for point in curve)
        return curve

    training.train = finetuning.train = train
    try:
        yield found
    finally:
        training.train = finetuning.train = original


@contextlib.contextmanager
def killed(number: int):
    """Let this process get SIGTERM while it makes the batch `number` (from 1) that it trains on."""
    original, made = batches.Epochs.__call__, []

    def call(epochs, step):
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # the loop listens
            made.append(step)
            if len(made) == number:
                os.kill(os.getpid(), signal.SIGTERM)
        return original(epochs, step)

    batches.Epochs.__call__ = call
    try:
        yield
    finally:
        batches.Epochs.__call__ = original


def make(
    row: str,
    tiny: bool,
    corpus: Path,
    output: Path,
    precision: str = "fp32",
    state: Path | None = None,
) -> list[float]:
    """Make the student of a row in the folder `output`; return its steps' losses."""
    shutil.rmtree(output, ignore_errors=True)
    with losses() as found:
        if row == FINE_TUNING:
            settings = {"learning_rate": 1e-4, "precision": precision} | AUGMENTED | loop(tiny)
            finetune.main(TASK, settings, TEACHER, [corpus], 1, output, state)
            return found
        steps = [step_of(row)]
        settings = loop(tiny) | {"final_steps": 2, "schedule": [0.1]}
        settings = {
            key: value for key, value in settings.items() if hasattr(catalogue.load(row), key)
        }
        steps[0][row] |= settings
        planned = recipes.solve(steps, read_config(TEACHER), RATIO)
        if len(planned.sizings) < len(steps):
            raise ValueError(planned.reason)
        ratio = round(planned.ratio, 6)
        run = {"recipe": row, "ratio": ratio, "seed": 1}
        compress.main(steps, ratio, 1, TEACHER, [corpus], run, output, state, precision, None, TASK)
    if status := read_status(output):
        raise RuntimeError(f"{status['status']}: {status['reason']}")
    return found


def hypotheses(folder: Path, corpus: Path) -> list[str] | None:
    """Return what a model with a head makes of the test recordings, None without a head."""
    made = load_task_model(TASK, load(folder), folder)
    if made is None:
        return None
    model, task = made
    recordings = [u for u in read(corpus) if u.split == "test"]
    return inference.transcribe(model, task, recordings, "fp32")


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a folder's weights by file."""
    return {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def run(row: str, kind: str, tiny: bool, scratch: Path) -> dict:
    """Make what the worker `kind` makes of a row, below `scratch`; return a few facts."""
    corpus, home = scratch / "babble", scratch / kind / row
    facts = {}
    if kind != "again":
        with CpuDraws():
            facts["losses"] = make(row, tiny, corpus, home / "student")
        facts["hypotheses"] = hypotheses(home / "student", corpus)
    if kind != "cpu":
        found = make(row, tiny, corpus, home / "plain")
        facts["bytes"] = digests(home / "plain")
    if kind == "again" and found:  # it trains
        state = home / "state"
        shutil.rmtree(state, ignore_errors=True)
        with killed(KILLED_AT), contextlib.suppress(SystemExit):
            make(row, tiny, corpus, home / "resumed", state=state)
            raise RuntimeError(f"SIGTERM at step {KILLED_AT} did not stop it")
        make(row, tiny, corpus, home / "resumed", state=state)
        facts["resumed"] = digests(home / "resumed")
        with CpuDraws():
            facts["bf16"] = make(row, tiny, corpus, home / "bf16", "bf16")
    write_json(home / "facts.json", facts)
    return {}


def compare(row: str, scratch: Path) -> dict:
    """Return how far CPU and GPU, runs and precisions agree in a row."""
    cpu, gpu, again = (
        read_json(scratch / kind / row / "facts.json") for kind in ("cpu", "gpu", "again")
    )
    ours, theirs = (load(scratch / kind / row / "student") for kind in ("cpu", "gpu"))
    facts = {
        "choices": _choices(ours) == _choices(theirs),
        "rows": _equal_rows(ours, theirs),
        "zeros": _equal_zeros(ours, theirs),
        "losses": _apart(cpu["losses"], gpu["losses"]),
        "hypotheses": _share(cpu["hypotheses"], gpu["hypotheses"]),
        "repeated": gpu["bytes"] == again["bytes"],
        "resumed": gpu["bytes"] == again["resumed"] if "resumed" in again else None,
        "bf16": _apart(gpu["losses"], again.get("bf16", [])),
    }
    agree = facts["choices"] and facts["repeated"] and facts["resumed"] is not False
    agree &= min(facts["rows"] or 0, 1 if facts["zeros"] is None else facts["zeros"]) >= SAME
    agree &= (facts["losses"] or 0) < LOSSES
    return {"status": "ok" if agree else "differs", **facts}


def _choices(model) -> dict:
    """Return what a student's config says of its heads, rows, ranks and reused maps."""
    from speech_pareto.models.backbone import describe

    return {"layers": [vars(layer) for layer in architecture.layers_of(describe(model))]}


def _equal_rows(ours, theirs) -> float | None:
    """Return the share of feed-forward rows that stand in the same place in both models.

    Rows are the same if their cosine is above 0.9, or if both are zero; None for other shapes.
    """
    shares = []
    for layer, other in zip(ours.encoder.layers, theirs.encoder.layers, strict=False):
        one, two = (weight(matrix(x, "intermediate_dense")).float() for x in (layer, other))
        if one.shape != two.shape:
            return None
        cosine = torch.nn.functional.cosine_similarity(one, two)
        shares.append(((cosine > 0.9) | ((one == 0) & (two == 0)).all(1)).float().mean())
    return float(torch.stack(shares).mean())


def _equal_zeros(ours, theirs) -> float | None:
    """Return the share of weights that are zero in both models or in neither.

    None where they have no zeros, or not the same shapes.
    """
    same = total = zeros = 0
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=False):
        if one.shape != other.shape:
            return None
        if one.dim() == 2:
            same += int(((one == 0) == (other == 0)).sum())
            zeros += int((one == 0).sum())
            total += one.numel()
    return same / total if zeros else None


def _apart(ours: list[float], theirs: list[float]) -> float | None:
    """Return the largest relative difference of losses step by step, None without any."""
    if len(ours) != len(theirs):
        return 1.0
    pairs = zip(ours, theirs, strict=True)
    return max((abs(a - b) / max(abs(a), 1e-6) for a, b in pairs), default=None)


def _share(ours: list[str] | None, theirs: list[str] | None) -> float | None:
    """Return the share of hypotheses that are the same, None without a head."""
    if not ours or not theirs:
        return None
    return sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)
