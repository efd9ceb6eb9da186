"""Where the time of a training goes, and what the one loop adds to it, at HuBERT Base's size.

    python benchmarks/training.py [--threads 1] [--seconds 8] [--steps 4] [--tables loop] [--tiny]

Random weights, batches of `--seconds` of noise, read from a corpus on disk; medians over steps.

* `loop`: seconds of audio per second of the one loop (checkpoints, curve, clipping, repeatable
  draws), of a bare loop with nothing but batch, loss, backward, clip and AdamW, and of the Trainer
  of transformers, in turn, as shares of ours.
* `stem`: masking distillation with the teacher's stem run once for the masked and the unmasked
  pass, and twice, in turn; their losses are the same.
* `arithmetic`: masking distillation and DPHuBERT as the released code computes on a CPU (fp32, the
  teacher whole for each pass) and as jobs do by default (`precision: auto`, bf16 where the
  processor multiplies it), in turn; and how far apart their losses are.
* `compiled`: forward and backward pass with all layers as they are, and compiled by torch, in turn;
  and the time that compiling takes, once for each process.
* `units`: a step of methods that learn units, with an utterance's units named anew in each step,
  and remembered, in turn.
* `steps`: what a step of each method spends in its teacher, the rest of its loss (mostly the
  student), backward, optimiser, and all else (batches, clipping, curve).
"""

import argparse
import contextlib
import copy
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import torch
import transformers
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gpu_parts import synthetic
from speech_pareto.compression import method, recipes, runner
from speech_pareto.compression.methods import masking_distillation
from speech_pareto.models.backbone import describe
from speech_pareto.models.hidden_states import inputs, states, without_and_with
from speech_pareto.runtime.hardware import mixed_precision
from speech_pareto.runtime.provenance import hardware
from speech_pareto.training import loop
from speech_pareto.training.hubert_units import Labeller
from speech_pareto.training.settings import Unlabelled

METHODS: dict[str, dict] = {
    "distillation": {},
    "distilhubert": {},
    "masking_distillation": {},
    "starhubert": {},
    "fithubert": {},
    "lighthubert": {},
    "supernet": {},
    "dphubert": {"final_steps": 1},
    "unit_distillation": {"learn": "units", "units": 50, "unit_seconds": 16.0},
    "iterative_pruning": {"schedule": [0.5], "units": 50, "unit_seconds": 16.0},
}
TABLES = ("loop", "stem", "arithmetic", "compiled", "units", "steps")
PARTS = ("teacher", "student", "backward", "optimiser")


class Watch:
    """Stands in the place of a loss: notes when each step begins, and what its parts take."""

    def __init__(self, loss, teacher: nn.Module) -> None:
        self.loss, self.teacher, self.forward = loss, teacher, teacher.forward
        self.began: list[float] = []
        self.spent: list[dict[str, float]] = []
        self.losses: list[torch.Tensor] = []

    def __call__(self, batch):
        """Return the loss of a batch."""
        self.began.append(time.perf_counter())
        self.spent.append(dict.fromkeys(PARTS, 0.0))
        with self.noted("student"):
            value = self.loss(batch)
        self.spent[-1]["student"] -= self.spent[-1]["teacher"]  # which runs inside of it
        self.losses.append(value.detach().float())
        return value

    @contextlib.contextmanager
    def noted(self, part: str):
        """Add the time of the block to a part of this step."""
        began = time.perf_counter()
        yield
        if self.spent:
            self.spent[-1][part] += time.perf_counter() - began

    @contextlib.contextmanager
    def everywhere(self):
        """Watch the teacher, every backward pass and every optimiser."""
        backward, begun = torch.Tensor.backward, []

        def timed(function, part: str):
            def run(*arguments, **named):
                with self.noted(part):
                    return function(*arguments, **named)

            return run

        def ended(*_) -> None:
            self.spent[-1]["optimiser"] += time.perf_counter() - begun.pop()

        hooks = [
            register_optimizer_step_pre_hook(lambda *_: begun.append(time.perf_counter())),
            register_optimizer_step_post_hook(ended),
        ]
        self.teacher.forward = timed(self.forward, "teacher")
        torch.Tensor.backward = timed(backward, "backward")
        try:
            yield
        finally:
            self.teacher.forward, torch.Tensor.backward = self.forward, backward
            for hook in hooks:
                hook.remove()

    def table(self) -> dict[str, float]:
        """Return seconds of a step and of its parts: medians, without the first step."""
        whole = [b - a for a, b in zip(self.began[1:], self.began[2:], strict=False)]
        found = {part: statistics.median(s[part] for s in self.spent[1:-1]) for part in PARTS}
        return {"step": statistics.median(whole)} | found


def one_method(
    name: str, teacher: nn.Module, corpus: Path, given: argparse.Namespace, precision: str = "fp32"
) -> Watch:
    """Return what watched the training of a method."""
    common = {"steps": given.steps + 2, "learning_rate": 1e-5, "batch_seconds": given.seconds}
    made = recipes.make({name: common | METHODS[name]})
    train, watches = runner.trainer([corpus], 1, None, precision), []

    def watched(student, loss, **settings) -> None:
        watch = Watch(loss, teacher)
        watches.append(watch)
        with watch.everywhere():
            train(student, watch, **settings)

    listener = runner.listener([corpus], teacher, 1)
    context = method.Context(1, teacher, watched, listener)
    made.compress(
        copy.deepcopy(teacher).requires_grad_(True), made.solve(describe(teacher), 0.5), context
    )
    return watches[0]


class Loss(nn.Module):
    """A model whose output is a loss, as transformers' Trainer wants it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_values, attention_mask) -> dict:
        """Return the loss of a batch."""
        batch = {"input_values": input_values, "attention_mask": attention_mask}
        return {"loss": states(self.backbone, batch)[-1].float().square().mean()}


def loops(teacher: nn.Module, corpus: Path, given: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of a step of each loop; they take turns."""
    size = {"steps": given.steps, "batch_seconds": given.seconds}
    settings = Unlabelled(**size, learning_rate=1e-5, precision="fp32")
    model = Loss(copy.deepcopy(teacher).requires_grad_(True))
    batch = runner.batcher([corpus], teacher, settings, 1)

    def ours() -> None:
        loop.train(model, batch, lambda x: (model(**inputs(x))["loss"], {}), settings, 1)

    def bare() -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        model.train()
        for step in range(given.steps):
            model(**inputs(batch(step)))["loss"].backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    def trainers() -> None:
        own = transformers.TrainingArguments(
            output_dir=str(corpus / "trainer"),
            max_steps=given.steps,
            per_device_train_batch_size=1,
            optim="adamw_torch_fused",
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        ready = [inputs(batch(step)) for step in range(given.steps)]
        trainer = transformers.Trainer(model, own, lambda x: x[0], train_dataset=ready)
        trainer.train()

    found: dict[str, list[float]] = {f.__name__: [] for f in (ours, bare, trainers)}
    for _ in range(1 + given.rounds):
        for run in (ours, bare, trainers):
            with loop.every_layer_runs(model):
                began = time.perf_counter()
                run()
                found[run.__name__].append((time.perf_counter() - began) / given.steps)
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def twice(model, batch, mask):
    """Return hidden states without and with a mask, as two whole passes."""
    return states(model, batch), states(model, batch, mask)


def arithmetic(teacher: nn.Module, corpus: Path, given: argparse.Namespace) -> list[tuple]:
    """Return, of both methods, seconds of a step of theirs and ours, and the gap of their losses.

    The gap is the largest of all steps, relative to the loss.
    """
    rows = []
    for name in ("masking_distillation", "dphubert"):
        theirs, ours, gaps = [], [], []
        for _ in range(given.rounds):
            masking_distillation.without_and_with = twice
            plain = one_method(name, teacher, corpus, given)
            masking_distillation.without_and_with = without_and_with
            fast = one_method(name, teacher, corpus, given, "auto")
            theirs.append(plain.table()["step"])
            ours.append(fast.table()["step"])
            pairs = zip(torch.stack(plain.losses), torch.stack(fast.losses), strict=True)
            gaps += [abs(float(b / a) - 1) for a, b in pairs]
        rows.append((name, statistics.median(theirs), statistics.median(ours), max(gaps)))
    return rows


def stems(teacher: nn.Module, corpus: Path, given: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of a step of masking distillation, with the stem once and twice."""
    found: dict[str, list[float]] = {"once": [], "twice": []}
    for _ in range(given.rounds):
        for name, both in (("once", without_and_with), ("twice", twice)):
            masking_distillation.without_and_with = both
            watch = one_method("masking_distillation", teacher, corpus, given)
            found[name].append(watch.table()["step"])
    masking_distillation.without_and_with = without_and_with
    return {name: statistics.median(times) for name, times in found.items()}


def compiled(
    teacher: nn.Module, corpus: Path, given: argparse.Namespace
) -> tuple[float, float, float]:
    """Return seconds of a step as it is, of a compiled one, and of compiling."""
    settings = Unlabelled(steps=given.steps, learning_rate=0.0, batch_seconds=given.seconds)
    batch = runner.batcher([corpus], teacher, settings, 1)
    plain = Loss(copy.deepcopy(teacher).requires_grad_(True)).train()
    fast = copy.deepcopy(plain)
    for layer in fast.backbone.encoder.layers:
        layer.compile(dynamic=True)  # batches have many lengths

    def step(model: nn.Module, number: int) -> float:
        began = time.perf_counter()
        model(**inputs(batch(number)))["loss"].backward()
        return time.perf_counter() - began

    with loop.every_layer_runs(plain), loop.every_layer_runs(fast):
        first = [step(fast, number) for number in range(2)]  # the second with other lengths
        times = [(step(plain, n), step(fast, n)) for n in range(2, 2 + given.steps)]
    slow, quick = map(statistics.median, zip(*times, strict=True))
    return slow, quick, sum(first) - 2 * quick


def units(teacher: nn.Module, given: argparse.Namespace) -> list[tuple]:
    """Return, of methods that learn units, seconds of a step with names made anew and remembered.

    The corpus is so small that nearly all steps hear what was heard before.
    """
    remembering, rows = Labeller.__call__, []
    with tempfile.TemporaryDirectory() as scratch:
        few = Path(scratch) / "noise"
        synthetic.corpus(few, 8, given.seconds / 2, spread=0.1, speech=False)
        for name in ("unit_distillation", "iterative_pruning"):
            found: dict = {Labeller._nearest: [], remembering: []}
            for _ in range(given.rounds):
                for how, times in found.items():
                    Labeller.__call__ = how
                    times.append(one_method(name, teacher, few, given).table()["step"])
            rows.append((name, *map(statistics.median, found.values())))
    Labeller.__call__ = remembering
    return rows


def main() -> None:
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="audio in a batch")
    parser.add_argument("--steps", type=int, default=4, help="steps of each training")
    parser.add_argument("--rounds", type=int, default=3, help="of what takes turns")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--tiny", action="store_true", help="a tiny model in place of Base")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "noise"
        synthetic.corpus(corpus, 64, 1.0 if given.tiny else 4.0, spread=0.5, speech=False)
        teacher = synthetic.random_model(synthetic.base(given.tiny, "hubert-base"), "cpu")
        teacher.requires_grad_(False)
        print(f"{hardware()['cpu']}, {given.threads} thread(s), batches of {given.seconds:g} s\n")
        if "loop" in given.tables:
            times = loops(teacher, corpus, given)
            print("| loop | s per step | audio per second, beside ours |\n|---|---|---|")
            for name, seconds in times.items():
                print(f"| {name} | {seconds:.2f} | {times['ours'] / seconds:.3f} |")
        if "stem" in given.tables:
            times = stems(teacher, corpus, given)
            print("\n| stem of the teacher | s per step | ratio |\n|---|---|---|")
            for name, seconds in times.items():
                print(f"| {name} | {seconds:.2f} | {seconds / times['twice']:.3f} |")
        if "arithmetic" in given.tables:
            print(f"\n| in fp32, and in {mixed_precision('auto')} | s | s | ratio | losses apart |")
            print("|---|---|---|---|---|")
            for name, theirs, ours, gap in arithmetic(teacher, corpus, given):
                print(f"| {name} | {theirs:.2f} | {ours:.2f} | {ours / theirs:.3f} | {gap:.4f} |")
        if "compiled" in given.tables:
            slow, quick, once = compiled(teacher, corpus, given)
            print("\n| layers as they are, s | compiled, s | ratio | compiling, s |")
            print("|---|---|---|---|")
            print(f"| {slow:.2f} | {quick:.2f} | {quick / slow:.3f} | {once:.0f} |")
        if "units" in given.tables:
            print("\n| units | named in each step, s | remembered, s | ratio |\n|---|---|---|---|")
            for name, anew, known in units(teacher, given):
                print(f"| {name} | {anew:.2f} | {known:.2f} | {known / anew:.3f} |")
        if "steps" not in given.tables:
            return
        heads = ["method", "s per step", *(f"{part} %" for part in PARTS), "rest %"]
        print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        for name in given.methods:
            spent = one_method(name, teacher, corpus, given).table()
            shares = [100 * spent[part] / spent["step"] for part in PARTS]
            cells = [f"{share:.0f}" for share in (*shares, 100 - sum(shares))]
            print(f"| {name} | {spent['step']:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
