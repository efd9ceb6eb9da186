"""Part c: does time follow MACs on a GPU?

Each row races a student with HuBERT Base, in turn and waiting for the GPU after each pass, at all
batch sizes and lengths; both have random weights, which cost the same as trained ones. The speed-up
over the ratio of MACs is the efficiency: 1 where time follows MACs.
"""

import copy

import torch
from torch import nn

from gpu_parts.synthetic import base, random_model
from speech_pareto.compression import method, recipes
from speech_pareto.models import architecture, operations
from speech_pareto.models.backbone import describe
from speech_pareto.models.quantisation import set_precision
from speech_pareto.models.surgery import linears
from speech_pareto.profiling.cost import noise, planned_macs, race
from speech_pareto.runtime.hardware import device
from speedup import RECIPES

STUDENTS = {name: RECIPES[name] for name in ("heads-and-rows", "thin")}
STUDENTS["low-rank"] = lambda ratio: ["low_rank"]
RATIOS = (0.5, 0.75)
CONDITIONS = [(batch, seconds) for batch in (1, 16) for seconds in (2, 10, 30)]
HALVES = {"fp16": "float16", "bf16": "bfloat16"}
NOTES = {"int8": "a GPU multiplies these in fp32 here: torch has its int8 product for some shapes"}


def rows(tiny: bool) -> list[str]:
    """Return the rows, most telling first: `student, precision, rival's precision`."""
    if tiny:
        return ["thin 0.5, fp32, fp32", "teacher, bf16, fp32", "teacher, int8, fp32"]
    students = [f"{name} {ratio}" for name in STUDENTS for ratio in RATIOS]
    same = [f"{name}, {p}, {p}" for p in ("bf16", "fp32") for name in ["teacher", *students]]
    own = [f"teacher, {name}, fp32" for name in (*HALVES, "int8")]
    return same[:7] + [f"2:4 kernels, {p}, {p}" for p in HALVES] + own + same[7:]


def run(row: str, tiny: bool) -> dict:
    """Return speed-ups and efficiencies of a row under all conditions."""
    name, ours, theirs = row.split(", ")
    config = base(tiny)
    teacher = random_model(config, device())
    student, macs = student_of(name, teacher, config)
    teacher, student = in_precision(teacher, theirs), in_precision(student, ours)
    if name == "2:4 kernels":
        use_sparse_kernels(student)
    conditions = [(1, 0.5), (2, 1)] if tiny else CONDITIONS
    found = []
    for batch, seconds in conditions:
        entry = {"batch": batch, "audio_seconds": seconds}
        entry["macs_ratio"] = macs(teacher, seconds) / macs(student, seconds)
        audio = noise(seconds, batch).to(device())
        try:
            raced = race(teacher, student, audio, 2 if tiny else 5)
        except torch.OutOfMemoryError:
            found.append(entry | {"reason": "out of memory"})
            continue
        entry["efficiency"] = raced["speedup"] / entry["macs_ratio"]
        found.append(entry | raced)
    note = {"note": NOTES[ours]} if ours in NOTES and device().type == "cuda" else {}
    return {"conditions": found, **note}


def student_of(name: str, teacher: nn.Module, config: dict):
    """Return a student and the function `macs(model, seconds)` that counts for it."""
    described = describe(teacher)
    if name == "teacher":
        return copy.deepcopy(teacher), dense
    if name == "2:4 kernels":
        step = recipes.make("semi_structured")
        student = copy.deepcopy(teacher)
        student = step.compress(student, step.solve(described, 0.0), method.Context(seed=0))
        return student, without_zeros
    kind, ratio = name.split()
    solution = recipes.solve(STUDENTS[kind](float(ratio)), described, float(ratio))
    if solution.reason:
        raise ValueError(solution.reason)
    return random_model(solution.config, device()), dense


def dense(model: nn.Module, seconds: float) -> float:
    """Return a model's MACs over a recording, zeros included."""
    return operations.macs(model.plain_config, seconds)["total"]


def without_zeros(model: nn.Module, seconds: float) -> float:
    """Return a model's MACs over a recording without those with zero weights of its layers."""
    config = model.plain_config
    zeros = architecture.section(config).get("zeros", 0)
    return planned_macs(config, [zeros], seconds)["theoretical_total"]


def in_precision(model: nn.Module, name: str) -> nn.Module:
    """Return `model` in a precision: fp32, fp16, bf16 or int8; it remembers its config."""
    model.plain_config = describe(model)  # int8 and sparse weights tell no shapes
    if name != "fp32":
        set_precision(model, HALVES.get(name, name))
    return model.eval().requires_grad_(False)


def use_sparse_kernels(model: nn.Module) -> None:
    """Store the matrices of all layers in torch's 2:4 format, which GPUs since Ampere multiply."""
    from torch.sparse import to_sparse_semi_structured

    for layer in model.encoder.layers:
        for linear in linears(layer).values():
            packed = to_sparse_semi_structured(linear.weight.detach().contiguous())
            linear.weight = nn.Parameter(packed, requires_grad=False)
