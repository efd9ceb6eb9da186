"""What it saves to compute the hidden states of a SUPERB task once, for all learning rates.

    python benchmarks/cached_features.py --corpus results/corpora/prompts [--steps 20] [--rates 3]

Phone recognition by s3prl (`make s3prl`) on one thread: each learning rate trains for `--steps`
batches of 8 recordings, of 24, and is scored. The student is HuBERT Base with random weights,
another with `--model FOLDER`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))
TRIAL = """
import json, sys, torch
import s3prl_trial
torch.set_num_threads(1)
s3prl_trial.main(**json.loads(sys.argv[1]))
"""


def base(folder: Path) -> Path:
    """Write HuBERT Base with random weights; return its folder."""
    import torch
    from transformers import HubertConfig

    from speech_pareto.models.backbone import new, save

    torch.manual_seed(0)
    save(new(HubertConfig()), folder / "base")
    return folder / "base"


def recordings(corpus: Path, folder: Path) -> Path:
    """Write 24 recordings for training, 8 for each other split, as s3prl reads them."""
    from prepare_superb import main
    from speech_pareto.data.corpus import read, write

    few = folder / "few"
    few.mkdir()
    (few / "audio.npy").symlink_to((corpus / "audio.npy").resolve())
    chosen = []
    for split, count in (("train", 24), ("valid", 8), ("test", 8)):
        own = [u for u in read(corpus) if u.split == split and u.phones and 1 < u.seconds < 3]
        chosen += own[:count]
    write(few, chosen)
    main({"problem": "PR"}, [few], folder / "data")
    return folder / "data"


def seconds(job: dict, cached: bool, folder: Path) -> float:
    """Return how long a task takes."""
    import superb

    task = job["task"] | {"cache_features": cached}
    name = "cached" if cached else "plain"
    files = {"output": f"{name}.json", "hypotheses": f"{name}.tsv", "state": f"state-{name}"}
    own = {key: str(folder / file) for key, file in files.items()}
    command = [
        superb.interpreter(),
        "-W",
        "ignore",
        "-c",
        TRIAL,
        json.dumps(job | own | {"task": task}),
    ]
    began = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.monotonic() - began


def main() -> None:
    """Print both times and scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="a prepared corpus")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rates", type=int, default=3, help="learning rates")
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = (arguments.model or base(folder)).resolve()
        steps = {"total_steps": arguments.steps, "eval_step": arguments.steps}
        train = steps | {"save_step": arguments.steps, "log_step": 10, "gradient_accumulate": 1}
        sizes = {split: {"batch_size": 8} for split in ("train", "valid", "test")}
        rates = [10.0**-n for n in range(2, 2 + arguments.rates)]
        task = {"problem": "PR", "metric": "per", "learning_rates": rates}
        task["settings"] = {"train": train, "build_batch_sampler": sizes}
        run = {"study": "x", "teacher": "t", "recipe": "r", "ratio": 0.0, "seed": 1, "task": "pr"}
        run |= {"role": "student", "pretrained": True, "config": {}}
        job = {"task": task, "model": str(model), "run": run}
        job["data"] = str(recordings(arguments.corpus, folder))
        found = {name: seconds(job, name == "cached", folder) for name in ("plain", "cached")}
        for name, spent in found.items():
            score = json.loads((folder / f"{name}.json").read_text())["metrics"]["per"]
            print(f"{name:7} {spent:6.1f} s, ratio {spent / found['plain']:.2f}, PER {score:.2f} %")


if __name__ == "__main__":
    main()
