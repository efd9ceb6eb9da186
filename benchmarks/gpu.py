"""Does all of this hold on a GPU? Six parts, at most nine minutes, one JSON and one table.

    python benchmarks/gpu.py [--parts correctness training inference workflow rehearsal sharing]
        [--output results/gpu.json] [--limit 540] [--device cuda] [--tiny]

It needs Python ≥ 3.11, torch, transformers, accelerate, numpy, scipy, scikit-learn, safetensors and
tqdm, and no internet: models have random weights, but for the tiny teacher's, and audio is made up.
Each part has processes of its own and a limit of time; what fails, hangs or does not fit is a row
with its reason. Rows are written to `--output` as they come, and as a table beside it, and are not
made again: say the same command again after a stop. What the processes said is in the folder
`.scratch` beside it. `gpu_parts/` says what each part measures.
`--device cpu --tiny` goes through the same code in a minute, on any machine.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow/scripts"))

from gpu_parts import tables
from gpu_parts.runner import FINISHED, Worker, collect, serve
from speech_pareto.compression import catalogue
from speech_pareto.runtime import provenance, result
from speech_pareto.runtime.garbage import collect_seldom

# The most seconds of each part, in the order in which they run: the most telling first.
LIMITS = {"correctness": 150, "training": 120, "inference": 70}
LIMITS |= {"workflow": 80, "rehearsal": 80, "sharing": 40}
KINDS = ("cpu", "gpu", "again")  # what the part `correctness` compares
TINY = ("weight_pruning", "distillation")
HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}
STUDY = "two recipes"


def main() -> None:
    """Run what the arguments say: all, or one process of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--output", type=Path, default=Path("results/gpu.json"))
    parser.add_argument("--limit", type=float, default=540, help="seconds for all together")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="few rows and steps, small models")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--in-two", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--whole", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    collect_seldom()  # a process is mostly its imports
    if given.in_two:
        from gpu_parts import sharing

        row, corpus, output = given.in_two
        sharing.in_two(row, given.tiny, Path(corpus), Path(output))
    elif given.whole:
        from gpu_parts import rehearsal

        rehearsal.whole(given.whole)
    elif given.worker:
        work(given)
    else:
        survey(given)


def survey(given: argparse.Namespace) -> None:
    """Make the rows that the output lacks, part by part, and write JSON and table."""
    began = time.monotonic()
    scratch = given.output.absolute().with_suffix(".scratch")
    scratch.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, str(Path(__file__).resolve()), "--output", str(given.output)]
    program += ["--device", given.device, *(["--tiny"] if given.tiny else [])]

    slack = 4 if given.tiny else 1  # then all parts run at once, on few cores

    def run(workers: list[Worker], seconds: float) -> None:
        end = min(began + given.limit, time.monotonic() + slack * seconds)
        for worker in workers:
            worker.seconds *= slack
            if given.device == "cpu":
                worker.environment = HIDDEN
        collect(workers, program, scratch, end)

    first = {}
    run([Worker(["--worker", "about", "all"], ["machine"], first.__setitem__)], 60)
    about = first["machine"]
    if about["status"] != "ok":
        sys.exit(f"nothing can be measured here: {about['reason']}")
    methods = TINY if given.tiny else catalogue.names()
    planned = {"correctness": ["fine-tuning", *methods], "workflow": [STUDY], **about["rows"]}
    about = {key: about[key] for key in about if key not in ("status", "seconds", "rows")}
    rows = earlier(given.output, about)
    for part in given.parts:
        for row in planned[part]:
            start = {"status": "not run", "reason": "the time was up"}
            rows.setdefault(part, {}).setdefault(row, start)

    def make(part: str) -> None:
        left = [row for row in planned[part] if rows[part][row]["status"] not in FINISHED]

        def keep(row: str, found: dict) -> None:
            rows[part][row] = found
            print(f"{part}, {row}: {tables.status_of(found)}", file=sys.stderr, flush=True)
            result.write_json(given.output, {"about": about, "rows": rows})

        if part == "correctness":
            compared(left, run, keep)
        else:
            most = LIMITS[part] if given.device == "cuda" else given.limit
            seconds = 45.0 if part in ("training", "inference", "sharing") else most
            run([Worker(["--worker", part, "all"], left, keep, seconds)], most)

    # What is timed runs alone.
    with ThreadPoolExecutor(len(given.parts) if given.tiny else 1) as pool:
        list(pool.map(make, given.parts))
    for folder in filter(Path.is_dir, scratch.iterdir()):
        shutil.rmtree(folder)  # of what was made only logs are of use now
    result.write_json(given.output, {"about": about, "rows": rows})
    page = tables.page(about, {part: rows[part] for part in LIMITS if part in rows})
    result.write_text(given.output.with_suffix(".md"), page)
    print(page)
    print(f"{time.monotonic() - began:.0f} s in all")


def compared(left: list[str], run, keep) -> None:
    """Make what three processes make of each row at the same time, then compare it."""
    failed = {}

    def note(kind: str, row: str, found: dict) -> None:
        if found["status"] != "ok":
            failed.setdefault(row, {**found, "reason": f"{kind}: {found['reason']}"})

    workers = []
    for kind in KINDS:
        words, environment = ["--worker", "correctness", kind], HIDDEN if kind == "cpu" else {}
        workers.append(Worker(words, left, partial(note, kind), 60.0, environment))
    run(workers, LIMITS["correctness"] - 20)
    for row, found in failed.items():
        keep(row, found)
    good = [row for row in left if row not in failed]
    run([Worker(["--worker", "correctness", "compare"], good, keep)], 30)


def earlier(output: Path, about: dict) -> dict:
    """Return the rows of an earlier run on the same machine."""
    if not output.is_file():
        return {}
    found = json.loads(output.read_text(encoding="utf-8"))
    ours, theirs = ({k: x[k] for k in ("device", "tiny")} for x in (about, found["about"]))
    if ours != theirs:
        sys.exit(f"{output} is of {theirs}, this is {ours}: name another --output")
    return found["rows"]


def work(given: argparse.Namespace) -> None:
    """Make rows in this process: a worker."""
    part, kind = given.worker
    scratch = given.output.absolute().with_suffix(".scratch")
    serve(given.rows, maker(part, kind, given, scratch), given.report)


def maker(part: str, kind: str, given: argparse.Namespace, scratch: Path):
    """Return the function that makes a row of a part."""
    tiny, cuda = given.tiny, given.device == "cuda"
    if part == "about":
        return lambda row: about_machine(tiny, cuda, scratch)
    if part == "workflow":
        from gpu_parts import workflow

        return lambda row: workflow.run(tiny, scratch, cuda)
    if part == "correctness":
        from gpu_parts import correctness

        if kind == "compare":
            return lambda row: correctness.compare(row, scratch)
        return lambda row: correctness.run(row, kind, tiny, scratch)
    if part == "training":
        from gpu_parts import training

        return lambda row: training.run(row, tiny, scratch)
    if part == "inference":
        from gpu_parts import inference

        return lambda row: inference.run(row, tiny)
    if part == "rehearsal":
        from gpu_parts import rehearsal

        return lambda row: rehearsal.run(row, tiny, scratch)
    from gpu_parts import sharing

    return lambda row: sharing.run(row, tiny, scratch)


def about_machine(tiny: bool, cuda: bool, scratch: Path) -> dict:
    """Return what is measured on, and the rows of each part; write the made-up speech."""
    import torch

    from gpu_parts import inference, rehearsal, sharing, synthetic, training

    if cuda and not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU (--device cpu tries the kit on the processor)")
    speech = scratch / "babble"
    if not speech.is_dir():
        part = scratch / "babble.part"
        # From about 4.5 s on, a GPU sums the gradient of CTC in another way.
        synthetic.corpus(part, 16, 3.0 if tiny else 6.0, spread=1.0)
        part.rename(speech)
    meta = provenance.meta()
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "driver": driver() if cuda else None,
        "cuda": torch.version.cuda,
        "cpu": meta["hardware"]["cpu"],
        "cores": meta["hardware"]["cores"],
        "commit": (meta["commit"] or "unknown")[:7],
        "tf32": {"convolutions": torch.backends.cudnn.allow_tf32} if cuda else None,
        "tiny": tiny,
        **meta["versions"],
        "torch": torch.__version__,
        "rows": {
            p.__name__.rpartition(".")[2]: p.rows(tiny)
            for p in (training, inference, rehearsal, sharing)
        },
    }


def driver() -> str | None:
    """Return the version of NVIDIA's driver."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0]


if __name__ == "__main__":
    main()
