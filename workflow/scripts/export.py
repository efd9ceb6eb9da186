"""Write a fine-tuned student as one ONNX file, checked against torch on real recordings."""

import json
import logging
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx_ir
import torch
from onnxscript import opset20
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.data.selection import needed
from speech_pareto.models.backbone import load
from speech_pareto.models.layers.exit_branches import exits_of
from speech_pareto.models.quantisation import HALVES, number_format
from speech_pareto.runtime import result
from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.private_api import INTEGER_PRODUCT
from speech_pareto.runtime.provenance import meta
from speech_pareto.tasks.recogniser import EndToEnd, open_session, settings_of
from speech_pareto.tasks.task import Task, embeds, load_task_model

log = logging.getLogger(__name__)

OPSET = 20  # the first with a Fourier transform as log-mel stems need it
UTTERANCES = 8  # real recordings in the check, of all lengths
LONGEST = 20.0  # seconds, of these recordings
# Largest difference in log-probability, or in a number of an embedding. An int8 student rounds each
# frame: where sums differ in the last bit, one library may round up what the other rounds down, and
# later layers feel it.
TOLERANCE, TOLERANCE_INT8 = 1e-3, 0.5
LARGEST = 2**31 - 2**20  # bytes; one protobuf message, weights and all, holds no more than 2 GiB
NOISY = ("torch.onnx", "onnxscript", "onnx_ir")  # they log what they themselves do


class NotExported(ValueError):
    """A student that ONNX cannot hold (`unsupported`), or not as it is (`different`), and why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def main(
    task: dict,
    model: str | Path,
    corpora: list,
    run: dict,
    output: str | Path,
    report: str | Path,
    digests: dict | None = None,
) -> None:
    """Write the fine-tuned model of the folder `model` to `output`, what it is to `report` (JSON).

    A cell without a model, one that ONNX cannot hold (`unsupported`) and one whose file computes
    something else than torch (`different`) leave an empty file, and a report with the status.
    """
    output, facts = Path(output), {}
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    status = result.read_status(model)
    if not status:
        task_model, definition = load_task_model(task, load(model), model)
        if embeds(definition):
            task = {**task, "threshold": settings_of(Path(model)).get("threshold")}
        try:
            facts = export(task_model, definition, task, corpora, part)
        except NotExported as error:
            status = {"status": error.status, "reason": str(error)}
    if status:
        log.warning("%s: %s: %s", output, status["status"], status["reason"])
        part.write_bytes(b"")
    else:
        facts |= {"bytes": part.stat().st_size, "sha256": sha256(part)}
    about = meta(run["seed"], torch.get_num_threads(), digests)
    about["versions"] |= {name: metadata.version(name) for name in ("onnx", "onnxruntime")}
    result.write_json(report, {**result.compose(run, about, status=status), **facts})
    part.replace(output)


def export(model: nn.Module, definition: Task, task: dict, corpora: list, file: Path) -> dict:
    """Write the task model to `file`; return what it is and how far from torch. Spoils `model`."""
    precision = fitting(model)
    name = "embeddings" if embeds(definition) else "log_probabilities"
    model = EndToEnd(model, embeds(definition)).eval()
    batches = recordings(task, definition, corpora)
    expected = [reference(model, *batch) for batch in batches]
    unparametrize(model)
    meaning = definition.card()["outputs"]
    facts = {
        "task": task,
        "symbols": definition.symbols,
        "sample_rate": SAMPLE_RATE,
        "opset": OPSET,
        "inputs": {
            "waves": "float32 (batch, samples), 16 kHz mono in [-1, 1], padded at the end",
            "lengths": "int64 (batch,), samples that are no padding",
        },
        "outputs": {
            name: f"float32 (batch, frames, outputs), {meaning}",
            "frames": "int64 (batch,), frames that are no padding",
        },
    }
    texts = {key: json.dumps(facts[key]) for key in ("task", "symbols", "sample_rate")}
    lengths = torch.tensor([SAMPLE_RATE + 123, SAMPLE_RATE])
    example = {"waves": torch.zeros(2, SAMPLE_RATE + 123), "lengths": lengths}
    write_onnx(model, file, example, texts, name, "frames")
    check = compare(file, batches, expected, precision)
    if embeds(definition):
        del check["other_symbols"]  # an embedding tells none
    return facts | {"check": check}


def fitting(model: nn.Module) -> str | None:
    """Return the number format of a task model that ONNX can hold; `NotExported` if it cannot."""
    refuse_exits(model)
    precision = number_format(model.backbone)
    if precision in HALVES:
        reason = f"onnxruntime does not compute all of a {precision} model on a CPU"
        raise NotExported("unsupported", reason)
    size = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    if size > LARGEST:
        reason = f"{size / 1e9:.1f} GB do not fit in one ONNX file, which holds at most 2 GB"
        raise NotExported("unsupported", reason)
    return precision


def refuse_exits(model: nn.Module) -> None:
    """Raise `NotExported` for a task model whose utterances may leave early."""
    if exits_of(model.backbone):
        reason = "an exported file runs all layers, and no utterance could leave early"
        raise NotExported("unsupported", reason)


def recordings(task: dict, definition: Task, corpora: list) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return waves (batch, samples) and lengths (batch,): each test recording alone, then all."""
    data = needed(task, definition, corpora, "test")[0]
    data = sorted(data, key=lambda u: (u.samples, u.id))
    data = [u for u in data if u.seconds <= LONGEST] or data[:1]
    spread = np.linspace(0, len(data) - 1, min(UTTERANCES, len(data))).astype(int)
    waves = [data[index].wave() for index in spread]
    lengths = np.array([len(wave) for wave in waves])
    together = np.zeros((len(waves), lengths.max()), np.float32)
    for row, wave in zip(together, waves, strict=True):
        row[: len(wave)] = wave
    alone = [(wave[None], lengths[i : i + 1]) for i, wave in enumerate(waves)]
    return [*alone, (together, lengths)]


@torch.inference_mode()
def reference(model: nn.Module, waves: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Return torch's outputs (frames, outputs) of each recording."""
    scores, frames = model(torch.from_numpy(waves), torch.from_numpy(lengths))
    return [row[:count].numpy() for row, count in zip(scores, frames, strict=True)]


def unparametrize(model: nn.Module) -> None:
    """Put plain weights in the place of those that are computed at each pass (weight norm)."""
    for module in model.modules():
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)


def write_onnx(
    model: nn.Module,
    file: Path,
    example: dict[str, Tensor],
    texts: dict[str, str],
    *outputs: str,
    axes: Sequence[dict[int, str]] = ({0: "batch", 1: "samples"}, {0: "batch"}),
) -> None:
    """Write `model` to `file`; `texts` are its metadata, `axes` those of its inputs that vary.

    `example` are inputs of two recordings by name: samples (2, samples), or a number of each (2,).
    The first of the `outputs` has frames.
    """
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own code
        program = torch.onnx.export(
            model,
            tuple(example.values()),
            input_names=list(example),
            output_names=list(outputs),
            dynamic_shapes=tuple(axes[: len(example)]),
            # torch's product of int8 matrices, for which the exporter knows no word
            custom_translation_table={INTEGER_PRODUCT.default: opset20.MatMulInteger},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    whole = program.model
    whole.metadata_props.clear()
    for node in whole.graph.all_nodes():  # lines of this machine's Python files
        node.metadata_props.clear()
        node.doc_string = None
    scores = whole.graph.outputs[0]  # its frames are a formula of `samples`, long and unreadable
    scores.shape = onnx_ir.Shape(["batch", "frames", scores.shape[2]])
    whole.metadata_props.update(texts)
    program.save(file, external_data=False)


def compare(file: Path, batches: list, expected: list, precision: str | None) -> dict:
    """Return how far onnxruntime is from torch over each recording alone and all in one batch.

    Raises `NotExported` if that is too far.
    """
    session, found = open_session(file), []
    for waves, lengths in batches:
        scores, frames = session.run(None, {"waves": waves, "lengths": lengths})
        found.append([row[:count] for row, count in zip(scores, frames, strict=True)])
    far = max(map(distance, found, expected))
    most = TOLERANCE_INT8 if precision == "int8" else TOLERANCE
    if not far <= most:  # NaN too
        reason = f"onnxruntime's outputs are {far:.3g} from torch's, more than {most:g}"
        raise NotExported("different", reason)
    *alone, together = found
    apart = distance([rows[0] for rows in alone], together)
    if not apart <= most:
        reason = f"a recording's outputs in a batch are {apart:.3g} from those alone"
        raise NotExported("different", reason)
    return {
        "recordings": len(alone),
        "seconds": round(sum(len(waves[0]) for waves, _ in batches[:-1]) / SAMPLE_RATE, 2),
        "largest_difference": far,
        "tolerance": most,
        "other_symbols": other_symbols(sum(found, []), sum(expected, [])),
        "alone_or_in_batch": apart,
    }


def distance(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Return the largest difference of outputs; infinite if frames are missing."""
    pairs = list(zip(found, wanted, strict=True))
    if any(ours.shape != theirs.shape for ours, theirs in pairs):
        return float("inf")
    return float(np.max([np.abs(ours - theirs).max() for ours, theirs in pairs]))


def other_symbols(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Return the share of the frames in which another symbol is the best."""
    ours, theirs = np.concatenate(found).argmax(1), np.concatenate(wanted).argmax(1)
    return float((ours != theirs).mean())


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        main(
            task=snakemake.params.job["task"],
            model=snakemake.input.model,
            corpora=list(snakemake.input.corpora),
            run=snakemake.params.run,
            output=snakemake.output.model,
            report=snakemake.output.report,
            digests=snakemake.params.job["code"],
        )
