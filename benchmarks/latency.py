"""Do tables of latencies foretell what `profile` measures? On ten students of HuBERT Base.

    python benchmarks/latency.py --on epyc [--folder latency] [--seconds 5] [--repeats 7]
        [--processor]

Weights are random, which costs the same as trained ones. Students are timed beside their teacher,
as a study's `profile` does, with the threads of the table; with `--processor` its clock is that of
the processor, which other work on the machine leaves alone (one thread only). The aim is a median
error below 5 % and Kendall's tau above 0.95; results go to docs/performance.md.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import torch
from scipy.stats import kendalltau
from tqdm import tqdm

from speech_pareto.compression import recipes
from speech_pareto.models import architecture, latency
from speech_pareto.models.backbone import new
from speech_pareto.profiling.cost import measure
from speech_pareto.profiling.latency_table import random_model
from speech_pareto.runtime import provenance

HUBERT = {"model_type": "hubert"}  # Base: transformers' defaults
STUDENTS = (  # (recipe, ratio)
    (["layer_drop"], 0.5),
    (["block_drop"], 0.3),
    ([{"head_pruning": {"ratio": 0.17}}, "ffn_pruning"], 0.5),
    (["ffn_pruning"], 0.4),
    (["head_dim_pruning"], 0.15),
    (["low_rank"], 0.4),
    ([{"channel_pruning": {"ratio": 0.03}}, "layer_drop"], 0.6),
    ([{"stem_distillation": {"ratio": 0.0335, "steps": 0}}, "layer_drop"], 0.7),
    ([{"masking_distillation": {"steps": 0}}], 0.7),
    ([{"fithubert": {"steps": 0}}], 0.75),
)


def main() -> None:
    """Print a row per student, then how far predictions are off and whether they rank alike."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", required=True, help="name of the table")
    parser.add_argument("--folder", default=latency.OWN, help="where your own tables lie")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the audio")
    parser.add_argument("--repeats", type=int, default=7, help="pairs of passes that count")
    parser.add_argument("--processor", action="store_true", help="time by the processor's clock")
    arguments = parser.parse_args()
    if arguments.processor:
        time.perf_counter = time.process_time
    table = latency.read(latency.find(arguments.on, arguments.folder))
    torch.manual_seed(0)
    teacher, load = new(HUBERT), [os.getloadavg()[0]]
    condition = {"audio_seconds": arguments.seconds, "repeats": arguments.repeats}
    condition["threads"] = int(table.name.split("-")[-2])
    rows = []
    for steps, ratio in tqdm(STUDENTS, desc="profile", unit="student"):
        found = recipes.solve(steps, HUBERT, ratio)
        if found.reason:
            sys.exit(found.reason)
        name = " → ".join(next(iter(step)) if isinstance(step, dict) else step for step in steps)
        told = table.seconds(found.config, arguments.seconds)
        measured = measure(teacher, random_model(found.config), condition)["seconds"]
        rows.append((name, architecture.ratio(HUBERT, found.config), told, measured))
    load.append(os.getloadavg()[0])
    hardware = provenance.hardware()
    print(f"{hardware['cpu']}, {hardware['cores']} cores, torch {torch.__version__}, {table.name}")
    print("The processor's clock" if arguments.processor else "The clock on the wall")
    print(f"Load of the machine before and after: {load[0]:.1f}, {load[1]:.1f}\n")
    print("| student | ratio | predicted, ms | measured, ms | error |\n|---|---|---|---|---|")
    for name, ratio, told, measured in rows:
        error = f"{100 * (told / measured - 1):+.1f} %"
        print(f"| {name} | {ratio:.2f} | {1e3 * told:.0f} | {1e3 * measured:.0f} | {error} |")
    median = statistics.median(abs(told / measured - 1) for *_, told, measured in rows)
    tau = kendalltau([row[2] for row in rows], [row[3] for row in rows]).statistic
    print(f"\nmedian error {100 * median:.1f} %, Kendall's tau {tau:.3f}")


if __name__ == "__main__":
    main()
