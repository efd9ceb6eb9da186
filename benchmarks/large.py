"""Do HuBERT Large and WavLM Large go through every method? Peak memory of each.

    python benchmarks/large.py [--teachers hubert-large wavlm-large] [--methods low_rank ...]
        [--ratio 0.3] [--limit 24] [--threads 2] [--scratch FOLDER] [--output large.json]

Weights are random, which takes as much room as trained ones. Each method has a process of its own
with at most `--limit` GiB: it compresses (what trains does so for one or two steps on a second of
noise), saves, profiles student beside teacher, loads and runs what it saved. A model that a method
does not serve is named with the method's reason. Finished rows in `--output` are not run again.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from speech_pareto.compression import catalogue, recipes
from speech_pareto.models.teachers import TEACHERS
from speech_pareto.runtime import provenance, result

GIB = 2**30
TASK = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}
PROFILE = {"audio_seconds": 1, "batch": 1, "repeats": 1}
# What examples of the contract tests leave to their defaults, which are made for hours of audio.
SMALL = {"batch_seconds": 2.0, "unit_seconds": 4.0, "units": 4, "batches": 1}


def step_of(name: str) -> dict:
    """Return a step with the smallest settings of a method."""
    kind = catalogue.load(name)
    known = {key: value for key, value in SMALL.items() if hasattr(kind, key)}
    return {name: known | dict(kind.example) | {k: known[k] for k in known if k != "units"}}


def one(name: str, config: dict, ratio: float, folder: Path, threads: int) -> dict:
    """Return what one method made of the teacher in `folder`, and what it took."""
    import torch

    import compress
    import profile_student
    from speech_pareto.models.backbone import load

    steps, student = [step_of(name)], folder / "student"
    planned = recipes.solve(steps, config, ratio)
    if len(planned.sizings) < len(steps):
        return {"status": "not served", "reason": planned.reason}
    # What leaves little choice is asked for what it can do.
    ratio, run = round(planned.ratio, 6), {"teacher": folder.name, "recipe": name, "seed": 1}
    run |= {"study": "large", "ratio": ratio, "scope": "any", "config": {}}
    run |= {"role": "student", "pretrained": True}
    noise = [folder.parent / "noise"]
    compress.main(steps, ratio, 1, folder, noise, run, student, None, "fp32", threads, TASK)
    peak = resident()
    if status := result.read_status(student):
        return {key: status[key] for key in ("status", "reason")}
    settings, costs = PROFILE | {"threads": threads}, folder / "costs.json"
    profile_student.main(settings, folder, student, run, costs, recipe=steps)
    cost = result.read(costs)["cost"]
    with torch.no_grad():
        hidden = load(student)(0.05 * torch.randn(1, 16_000)).last_hidden_state
    if not hidden.isfinite().all():
        return {"status": "diverged", "reason": "the student's hidden states are not finite"}
    return {
        "status": "ok",
        "ratio": ratio,
        "parameters": cost["parameters"]["total"],
        "compress_bytes": peak,
        "all_bytes": resident(),
    }


def resident() -> int:
    """Return the most bytes that this process has had in memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def make_noise(folder: Path) -> None:
    """Write a corpus of eight recordings of about a second."""
    import numpy as np

    from speech_pareto.data.corpus import Utterance, samples_file, write

    folder.mkdir()
    generator = np.random.default_rng(0)
    ends = np.cumsum(generator.integers(14_000, 18_000, 8))
    begins = [0, *ends[:-1]]
    write(
        folder,
        [
            Utterance(str(i), "a", "noise", "", "x", "en", "train", int(begin), int(end - begin))
            for i, (begin, end) in enumerate(zip(begins, ends, strict=True))
        ],
    )
    with samples_file(folder / "audio.npy") as append:
        append(generator.integers(-9000, 9000, int(ends[-1])).astype(np.int16))


def make_teacher(config: dict, folder: Path) -> None:
    """Write a backbone with random weights."""
    import torch

    from speech_pareto.models.backbone import new, save

    torch.manual_seed(0)
    save(new(config), folder)


def apart(limit: float, *words: str) -> dict:
    """Return what this script says with these arguments, in a process of at most `limit` GiB."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, 2 * (math.floor(limit * GIB),))

    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        return {"status": "failed", "reason": lines[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: dict, teachers: list[str]) -> str:
    """Return the results in Markdown."""
    shown = " | ".join(f"{name}: compress GiB | with profile GiB" for name in teachers)
    lines = [f"| method | {shown} |", "|---" * (1 + 2 * len(teachers)) + "|"]
    for name in sorted({row["method"] for row in rows.values()}):
        cells = [name]
        for teacher in teachers:
            row = rows.get(f"{teacher} {name}", {"status": "not run", "reason": ""})
            if row["status"] == "ok":
                cells += [f"{row[f'{part}_bytes'] / GIB:.1f}" for part in ("compress", "all")]
            else:
                cells += [f"{row['status']}: {row['reason']}".removesuffix(": "), ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run all methods on all teachers, one after the other, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", nargs="+", default=["hubert-large", "wavlm-large"])
    parser.add_argument("--methods", nargs="+", default=catalogue.names())
    parser.add_argument("--ratio", type=float, default=0.3)
    parser.add_argument("--limit", type=float, default=24, help="GiB for each process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="folder for 4 GB of models, for a while")
    parser.add_argument("--output", type=Path, help="JSON, written after each row")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--make", metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        folder = Path(given.make)
        make_noise(folder / "noise")
        for name in given.teachers:
            make_teacher(TEACHERS[name].config, folder / name)
        print("{}")
    elif given.one:
        name, folder = given.one
        config = TEACHERS[Path(folder).name].config
        print(json.dumps(one(name, config, given.ratio, Path(folder), given.threads)))
    else:
        survey(given)


def survey(given: argparse.Namespace) -> None:
    """Run what is not in the output yet, each row in a process of its own."""
    rows = {}
    if given.output and given.output.is_file():
        rows = result.read_json(given.output)
    numbers = ["--ratio", str(given.ratio), "--threads", str(given.threads)]
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        made = apart(given.limit, "--make", scratch, "--teachers", *given.teachers)
        if made:
            sys.exit(made["reason"])
        for name in given.methods:
            for teacher in given.teachers:
                if rows.get(f"{teacher} {name}", {}).get("status") == "ok":
                    continue
                row = apart(given.limit, "--one", name, f"{scratch}/{teacher}", *numbers)
                rows[f"{teacher} {name}"] = {"method": name, "teacher": teacher, **row}
                print(f"{teacher} {name}: {row}", file=sys.stderr, flush=True)
                if given.output:
                    result.write_json(given.output, rows)
    meta = provenance.meta(threads=given.threads)
    print(f"{meta}\n\n{table(rows, given.teachers)}")


if __name__ == "__main__":
    main()
