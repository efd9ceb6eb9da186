"""Part e: does `snakemake rehearse` foretell the memory and the time of trainings of real size?

A row rehearses a training of HuBERT Base or Large, random weights, on recordings of 2 to 16 s, and
then runs all of it: one epoch, so that both meet the largest batch. `memory` and `time` are what
was foretold over what it took; memory is a GPU's, or without one that of the process.
`python benchmarks/gpu.py --device cpu --parts rehearsal --limit 3600` does so on a processor.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

import compress
import finetune
import rehearse_job
import rehearsed
from gpu_parts import synthetic
from speech_pareto.training import stand_ins

LENGTH, SPREAD = 9.0, 7.0  # seconds of a recording
FINE_TUNING = "fine-tuning with CTC"
WHOLE = {
    "ARMHuBERT-S": {"masking_distillation": {"width": 432, "ffn": 816, "scale_gradients": True}},
    "DPHuBERT": {"dphubert": {"final_steps": 4}},
    "iterative pruning": {
        "iterative_pruning": {"schedule": [0.25], "units": 50, "unit_seconds": 25.0}
    },
    "self-pinching": {"self_pinching": {}},
    "distillation": {"distillation": {}},
}
RATIOS = {"ARMHuBERT-S": 0.8}
RUN = {"study": "kit", "recipe": "kit", "ratio": 0.5, "seed": 1, "teacher": "kit"}


def rows(tiny: bool) -> list[str]:
    """Return the rows, most telling first."""
    if tiny:
        return ["tiny, distillation, 3 s", f"tiny, {FINE_TUNING}, 3 s"]
    seconds = 200 if torch.cuda.is_available() else 32
    base = ("ARMHuBERT-S", FINE_TUNING, "DPHuBERT", "self-pinching", "iterative pruning")
    found = [f"hubert-base, {name}, {seconds} s" for name in base]
    return [*found, f"hubert-large, distillation, {seconds // 2} s"]


def run(row: str, tiny: bool, scratch: Path) -> dict:
    """Return what was foretold of a row over what it took."""
    home = scratch / "rehearsal" / row.replace(", ", "-").replace(" ", "-")
    job = described(row, tiny, scratch, home)
    rehearse_job.main(job, home / "foretold.json")
    foretold = json.loads((home / "foretold.json").read_text(encoding="utf-8"))
    if foretold["status"] != "ok":
        said = {"out_of_memory": "out of memory"}.get(foretold["status"], "failed")
        fits = foretold["fits"] and f"; it fits in {foretold['fits']['pieces']} pieces"
        return {"status": said, "reason": f"{foretold['reason']}{fits or ''}"}
    (home / "job.json").write_text(json.dumps(job), encoding="utf-8")
    program = Path(__file__).parents[1] / "gpu.py"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, program, "--whole", home], capture_output=True, text=True, check=False
    )
    took = time.monotonic() - began
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"the whole job ended with {done.returncode}: {lines[-1]}")
    whole = json.loads((home / "whole.json").read_text(encoding="utf-8"))
    key = "gpu_memory" if foretold["on_gpu"] else "memory"
    steps = sum(part["number"] * part["seconds"] for part in foretold["parts"])
    return {
        "memory": foretold[key] / whole[key],
        "bytes": whole[key],
        "time": (foretold["start"] + steps) / took,
        "took": took,
    }


def described(row: str, tiny: bool, scratch: Path, home: Path) -> dict:
    """Return a row's job as the rehearsal reads it; write its model and its corpus."""
    name, what, seconds = row.split(", ")
    batch = float(seconds.removesuffix(" s"))
    length, spread = (1.0, 0.8) if tiny else (LENGTH, SPREAD)
    batches = 3 if tiny else 24 if torch.cuda.is_available() else 8
    corpus, model = scratch / f"noise-{seconds.replace(' ', '')}", scratch / f"model-{name}"
    if not corpus.is_dir():
        part = corpus.with_suffix(".part")
        number = round(2 * batches * batch / length)  # half of them are for training
        synthetic.corpus(part, number, length, spread, speech=False)
        part.rename(corpus)
    if not model.is_dir():
        stand_ins.random_model(synthetic.base(tiny, name), model)
    home.mkdir(parents=True, exist_ok=True)
    common = {"steps": batches, "batch_seconds": batch, "learning_rate": 1e-5}
    job = {"seed": 1, "corpora": [str(corpus)], "teacher": str(model), "threads": 1, "run": RUN}
    job |= {"given": {"mem_mb": None, "runtime": None}, "configs": {}, "ratio": 0.0}
    precision = "bf16" if torch.cuda.is_available() else "fp32"
    if what == FINE_TUNING:
        training = {**common, **synthetic.AUGMENTED, "precision": precision}
        own = {"task": synthetic.TASK, "training": training}
        return {**job, "rule": "finetune_one_teacher", "job": own}
    ((method, settings),) = WHOLE[what].items()
    own = {"recipe": [{method: common | settings}], "precision": precision, "accumulate": 1}
    own |= {"task": synthetic.TASK}
    return {**job, "rule": "compress", "job": own, "ratio": RATIOS.get(what, 0.5)}


def whole(home: Path) -> None:
    """Do all of the job in the folder `home` in this process, and note what memory it took."""
    job = json.loads((home / "job.json").read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    output, state = home / "out", home / "state"
    inputs = {"corpora": job["corpora"], "seed": job["seed"], "output": output, "state": state}
    if job["rule"] == "compress":
        own = {**job["job"], "run": job["run"], "ratio": job["ratio"], "threads": job["threads"]}
        compress.main(model=job["teacher"], **own, **inputs)
    else:
        finetune.main(model=job["teacher"], **job["job"], **inputs)
    found = rehearsed.peaks()
    (home / "whole.json").write_text(json.dumps(found), encoding="utf-8")
