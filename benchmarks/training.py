"""Training throughput of the tiny teacher, as a ratio to fp32 with SDPA in the same run.

    python benchmarks/training.py [--threads 2] [--steps 10]

A step is forward, backward and AdamW on 12 windows of 4 s, the shape of pretraining.  Variants take
turns, so that a busy machine slows all of them; the median over the rounds counts.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import torch

from speech_pareto.models.backbone import new, tiny_config

VARIANTS = [("fp32", "sdpa"), ("fp32", "eager"), ("bf16", "sdpa"), ("bf16", "eager")]
WINDOWS, SECONDS = 12, 4


def step_of(precision: str, attention: str):
    """Return a function that trains one step and returns its seconds."""
    torch.manual_seed(0)
    model = new(tiny_config()).train()
    model.set_attn_implementation(attention)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    waves = 0.1 * torch.randn(WINDOWS, SECONDS * 16_000)

    def step() -> float:
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(waves).last_hidden_state.float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - begin

    return step


def main() -> None:
    """Print a table: seconds per step, times real time, ratio to the baseline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="rounds over all variants")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps = {variant: step_of(*variant) for variant in VARIANTS}
    for step in steps.values():
        step()  # warm-up
    times = {variant: [] for variant in VARIANTS}
    for _ in range(arguments.steps):
        for variant, step in steps.items():
            times[variant].append(step())
    base = statistics.median(times[VARIANTS[0]])
    print("| precision | attention | s per step | x real time | ratio |\n|---|---|---|---|---|")
    for (precision, attention), measured in times.items():
        median = statistics.median(measured)
        speed = WINDOWS * SECONDS / median
        print(f"| {precision} | {attention} | {median:.3f} | {speed:.0f} | {base / median:.2f} |")


if __name__ == "__main__":
    main()
