"""Does time follow MACs? Measured speed-up of students of HuBERT Base over their MACs ratio.

    python benchmarks/speedup.py [--ratios 0.5 0.7] [--threads 1 2] [--repeats 9]
        [--seconds 10] [--recipes heads-and-rows ...] [--output speedup.json]

Weights are random, which costs the same as trained ones. `wall` is the median of the paired ratios
teacher / student of seconds, `CPU` the same of processor seconds, which waiting for a core leaves
alone; over the ratio of MACs either is the efficiency. Then torch.profiler says where time goes.
The aim is an efficiency of 0.85 from ratio 0.7 on; results go to docs/performance.md.
"""

import argparse
import copy
import functools
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import torch
from torch import Tensor, nn

from speech_pareto.compression import method, recipes
from speech_pareto.models import architecture, operations
from speech_pareto.models.backbone import describe, new
from speech_pareto.profiling.cost import noise, quartiles, using
from speech_pareto.runtime import provenance, result

HUBERT = {"model_type": "hubert"}  # Base: transformers' defaults
RECIPES = {  # the share of heads is that of rows
    "heads-and-rows": lambda ratio: [{"head_pruning": {"ratio": ratio / 3}}, "ffn_pruning"],
    "layer-drop": lambda ratio: ["layer_drop"],
    "stem-and-layer-drop": lambda ratio: [{"channel_pruning": {"ratio": 0.045}}, "layer_drop"],
    "small-stem-and-layer-drop": lambda ratio: [
        {"stem_distillation": {"ratio": 0.0335, "steps": 0}},
        "layer_drop",
    ],
    "thin": lambda ratio: [{"masking_distillation": {"reuse": "none", "steps": 0}}],
    "thin-reuse": lambda ratio: [{"masking_distillation": {"steps": 0}}],
}
OPERATIONS = {  # of torch, by the end of their names
    "products": ("::addmm", "::mm", "::bmm", "::baddbmm"),
    "convolutions": ("convolution", "::_slow_conv2d_forward"),
    "norms": ("::native_layer_norm", "::native_group_norm"),
    "GELU": ("::gelu",),
    "softmax": ("::_softmax",),
    "sums, factors": ("::add", "::add_", "::mul", "::mul_", "::div"),
    "copies": ("::copy_", "::cat", "::fill_"),
}


def student_of(teacher: nn.Module, steps: list, ratio: float) -> nn.Module:
    """Return the student that a recipe makes of a copy of the teacher."""
    student = copy.deepcopy(teacher)

    def apply(step: method.Method, sizing: method.Sizing) -> dict:
        nonlocal student
        student = step.compress(student, sizing, method.Context(seed=0))
        return describe(student)

    solution = recipes.walk(recipes.make_all(steps), describe(teacher), ratio, apply)
    if solution.reason:
        sys.exit(solution.reason)
    return student.eval()


@torch.inference_mode()
def timed(model: nn.Module, audio: Tensor) -> tuple[float, float]:
    """Return the seconds of one pass, by the clock and of the processor."""
    begun = time.perf_counter(), time.process_time()
    model(audio)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def race(teacher: nn.Module, student: nn.Module, audio: Tensor, repeats: int) -> dict:
    """Return quartiles of paired speed-ups, `wall` and `cpu`, and the student's median seconds."""
    pairs = []
    for number in range(repeats + 1):  # one to warm up
        order = (teacher, student) if number % 2 else (student, teacher)
        times = {id(model): timed(model, audio) for model in order}
        pairs.append((times[id(teacher)], times[id(student)]))
    found = {"seconds": statistics.median(ours[0] for _, ours in pairs[1:])}
    for index, clock in enumerate(("wall", "cpu")):
        found[clock] = quartiles([theirs[index] / ours[index] for theirs, ours in pairs[1:]])
    return found


def parts_of(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the modules of each part whose MACs `architecture.macs` tells."""
    layers = list(model.encoder.layers)
    return {
        "stem": [model.feature_extractor],
        "projection": [model.feature_projection],
        "position": [model.encoder.pos_conv_embed],
        "attention": [layer.attention for layer in layers],
        "feed-forward": [layer.feed_forward for layer in layers],
    }


def macs_of(model: nn.Module, seconds: float) -> dict[str, int]:
    """Return the MACs of the same parts, and the `total`."""
    config = describe(model)
    planned, hidden = operations.macs(config, seconds), config["hidden_size"]
    shapes = architecture.layers_of(config)
    rows = sum(2 * hidden * shape.ffn for shape in shapes) * planned["frames"]
    layers = sum(sum(layer.values()) for layer in planned["layers"])
    found = {name: planned[name] for name in ("stem", "projection", "position")}
    return found | {"attention": layers - rows, "feed-forward": rows, "total": planned["total"]}


@torch.inference_mode()
def where(model: nn.Module, audio: Tensor, rounds: int = 4) -> dict[str, dict[str, float]]:
    """Return seconds by part and by kind of operation, of the pass that was least disturbed."""
    handles, open_parts = [], []

    def enter(name: str, *_) -> None:
        open_parts.append(torch.profiler.record_function(f"part:{name}"))
        open_parts[-1].__enter__()

    def leave(*_) -> None:
        open_parts.pop().__exit__(None, None, None)

    for name, modules in {"total": [model], **parts_of(model)}.items():
        for module in modules:
            handles.append(module.register_forward_pre_hook(functools.partial(enter, name)))
            handles.append(module.register_forward_hook(leave))
    passes = []
    for _ in range(rounds + 1):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            model(audio)
        passes.append(profile.key_averages())
    for handle in handles:
        handle.remove()
    return min(map(sums, passes[1:]), key=lambda found: found["parts"]["total"])


def sums(events: list) -> dict[str, dict[str, float]]:
    """Return the seconds of one pass by part and by kind of operation."""
    parts, kinds = {}, dict.fromkeys((*OPERATIONS, "others"), 0.0)
    for event in events:
        kind = next((k for k, ends in OPERATIONS.items() if event.key.endswith(ends)), "others")
        kinds[kind] += event.self_cpu_time_total / 1e6
        if event.key.startswith("part:"):
            parts[event.key.removeprefix("part:")] = event.cpu_time_total / 1e6
    return {"parts": parts, "operations": kinds}


def expected(teacher: dict, student: dict) -> float:
    """Return the speed-up if each part ran at the teacher's MACs per second, the rest unchanged."""
    rates = {name: teacher["macs"][name] / teacher["parts"][name] for name in teacher["parts"]}
    known = [name for name in rates if name != "total"]
    rest = teacher["parts"]["total"] - sum(teacher["parts"][name] for name in known)
    rest *= student["layers"] * student["hidden"] / teacher["layers"] / teacher["hidden"]
    return teacher["parts"]["total"] / (
        rest + sum(student["macs"][name] / rates[name] for name in known)
    )


def facts_of(name: str, model: nn.Module, audio: Tensor, seconds: float) -> dict:
    """Return a model's sizes and where its time goes on one thread."""
    config = describe(model)
    with using(1):
        spent = where(model, audio)
    return {
        "name": name,
        "parameters": architecture.remaining(config),
        "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"],
        "macs": macs_of(model, seconds),
        **spent,
    }


def show(teacher: dict, students: list[dict]) -> None:
    """Print the tables."""
    print("\n| student | ratio | MACs | threads | ms | wall | eff. | CPU | eff. |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in students:
        for threads, race in one["threads"].items():
            wall, cpu = race["wall"], race["cpu"]
            spread = f"{wall[1]:.2f} ({wall[0]:.2f}–{wall[2]:.2f})"
            print(
                f"| {one['name']} | {one['ratio']:.3f} | {one['macs_ratio']:.2f} | {threads} "
                f"| {1000 * race['seconds']:.0f} | {spread} | {race['efficiency']:.2f} "
                f"| {cpu[1]:.2f} | {race['cpu_efficiency']:.2f} |"
            )
    models = [teacher, *students]
    print("\nWhere time goes on one thread (torch.profiler): ms, and G MACs per second\n")
    names = [*teacher["parts"]]
    print("| model |", " | ".join(names), "| expected |\n|---|" + "---|" * (len(names) + 1))
    for one in models:
        cells = [f"{1e3 * s:.0f}, {one['macs'][n] / s / 1e9:.0f}" for n, s in one["parts"].items()]
        print(f"| {one['name']} |", " | ".join(cells), f"| {one.get('expected', 1):.2f} |")
    names = [*OPERATIONS, "others"]
    print("\n| model |", " | ".join(names), "|\n|---|" + "---|" * len(names))
    for one in models:
        cells = [f"{1e3 * one['operations'][n]:.0f}" for n in names]
        print(f"| {one['name']}, ms |", " | ".join(cells), "|")


def main() -> None:
    """Print tables and write what they show as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.5, 0.7])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9, help="pairs of passes that count")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the audio")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--output", type=Path, default=Path("speedup.json"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model, audio = new(HUBERT), noise(arguments.seconds)
    teacher, students = facts_of("teacher", model, audio, arguments.seconds), []
    load = [os.getloadavg()[0]]
    for recipe in arguments.recipes:
        for ratio in arguments.ratios:
            student = student_of(model, RECIPES[recipe](ratio), ratio)
            facts = facts_of(f"{recipe} {ratio:g}", student, audio, arguments.seconds)
            facts["ratio"] = architecture.ratio(describe(model), describe(student))
            facts["macs_ratio"] = teacher["macs"]["total"] / facts["macs"]["total"]
            facts["expected"] = expected(teacher, facts)
            facts["threads"] = {}
            for threads in arguments.threads:
                with using(threads):
                    measured = race(model, student, audio, arguments.repeats)
                measured["efficiency"] = measured["wall"][1] / facts["macs_ratio"]
                measured["cpu_efficiency"] = measured["cpu"][1] / facts["macs_ratio"]
                facts["threads"][str(threads)] = measured
            students.append(facts)
            result.write_json(arguments.output, {"teacher": teacher, "students": students})
    load.append(os.getloadavg()[0])
    about = {"hardware": provenance.hardware(), "versions": provenance.versions(), "load": load}
    print(
        f"{about['hardware']['cpu']}, {about['hardware']['cores']} cores, torch {torch.__version__}"
    )
    print(f"Load of the machine before and after: {load[0]:.1f}, {load[1]:.1f}")
    show(teacher, students)
    result.write_json(arguments.output, {**about, "teacher": teacher, "students": students})


if __name__ == "__main__":
    main()
