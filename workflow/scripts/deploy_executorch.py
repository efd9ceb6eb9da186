"""Students as ExecuTorch runs them: a program for phones, which Python runs as well."""

import logging
import warnings
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph

from deploy_streams import by_chunks, one_pass, stream_of
from export import NotExported, distance, refuse_exits, unparametrize
from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.models import lookahead
from speech_pareto.models.backbone import describe
from speech_pareto.models.quantisation import number_format
from speech_pareto.reporting import programs
from speech_pareto.tasks.recogniser import SHORTEST

TOLERANCE = 1e-4  # largest difference of log-probabilities from those here
LONGEST = 30  # seconds of a recording: ExecuTorch plans its memory for the longest one


def for_executorch(student, folder: Path) -> dict:
    """Write a folder for ExecuTorch, which takes one recording as a whole. Spoils the student."""
    check(student.model)
    if lookahead.latency(describe(student.model.backbone)):
        raise NotExported("unsupported", "it hears chunks: executorch-stream takes them one by one")
    unparametrize(student.model)
    samples = torch.export.Dim("samples", min=SHORTEST, max=LONGEST * SAMPLE_RATE)
    example = (torch.zeros(1, SAMPLE_RATE + 123),)
    file = folder / "model.pte"
    with student.model.backbone.register_forward_pre_hook(unmask, prepend=True, with_kwargs=True):
        write_program(student.alone, example, file, ({1: samples},))
    write_card(student, folder, programs.EXECUTORCH, seconds=LONGEST)
    run = method(file)
    scores = [run(waves)[0][0] for waves in student.waves]
    far, others = distance(scores, student.scores), student.others(map(student.read, scores))
    if others or not far <= TOLERANCE:
        reason = f"ExecuTorch's log-probabilities are {far:.3g} from those here"
        raise NotExported("different", f"{reason}, {others} recordings read otherwise")
    return {"largest_difference": far}


def for_executorch_stream(student, folder: Path) -> dict:
    """Write a folder for ExecuTorch, which is fed chunk by chunk. Spoils the student."""
    check(student.model)
    stream = stream_of(student)
    expected = [one_pass(student, stream, waves) for waves in student.waves]
    unparametrize(student.model)
    file = folder / "model.pte"
    write_program(stream.eval(), (torch.zeros(1, stream.samples), stream.begin()), file)
    write_card(student, folder, programs.EXECUTORCH_STREAM)
    return by_chunks(student, stream, expected, method(file))


def check(model: nn.Module) -> None:
    """Raise `NotExported` for a task model that no program here holds, or without ExecuTorch."""
    if find_spec("executorch") is None:
        reason = "ExecuTorch is not installed here; `make executorch` makes an environment with it"
        raise NotExported("unsupported", reason)
    refuse_exits(model)
    if own := number_format(model.backbone):
        reason = f"files for ExecuTorch are written in fp32, and this student is in {own}"
        raise NotExported("unsupported", reason)


def unmask(backbone: nn.Module, inputs: tuple, named: dict) -> tuple[tuple, dict]:
    """Leave the mask out: all samples of a recording alone are real."""
    return inputs, named | {"attention_mask": None}


def write_program(
    model: nn.Module, example: tuple[Tensor, ...], file: Path, shapes: tuple | None = None
) -> None:
    """Write `model` to `file`; `shapes` are the axes of its inputs that vary, with their limits."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    # With oneDNN, torch takes another convolution for inputs of over 20,480 numbers. It would take
    # the example for all recordings then: none could be longer.
    without = torch.backends.mkldnn.flags(enabled=False)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"), without:
        exported = torch.export.export(
            model,
            example,
            dynamic_shapes=shapes,
            # What torch cannot prove of a length ("1 is no multiple of the frames") stays a check,
            # which ExecuTorch would take for an unknown operator, and then drops.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        drop_dropout(exported.graph)
        lowered = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        lowered.to_executorch().save(str(file))


def drop_dropout(graph: Graph) -> None:
    """Take dropout out of a graph: here it copies, and XNNPACK refuses a part that does no more."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.dropout.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def method(file: Path) -> Callable[..., list[np.ndarray]]:
    """Return what runs a program: arrays in, arrays out."""
    from executorch.runtime import Runtime

    loaded = Runtime.get().load_program(file).load_method("forward")

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in loaded.execute([*map(torch.from_numpy, arrays)])]

    return run


def write_card(student, folder: Path, text: str, **facts) -> None:
    """Write tokens and card of a folder; `facts` are what the text says beside versions."""
    student.write_tokens(folder)
    versions = {name: metadata.version(name) for name in ("executorch", "torch")}
    versions["torch"] = versions["torch"].partition("+")[0]
    (folder / "README.md").write_text(student.card(text.format(**versions, **facts)), "utf-8")
