"""Part d: a small study through Snakemake and `profiles/workstation`, one GPU, all statuses ok."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "snakemake": "Snakemake",
    "jiwer": "jiwer",
    "pandas": "pandas",
    "jsonschema": "jsonschema",
}
STUDY = """
study: gpu
corpora:
  mine: {source: manifest, path: recordings.tsv, language: en-us}
teachers:
  tiny: {path: %s, finetuned: {characters: %s}}
recipes:
  identity: [identity]
  distillation: [{distillation: {steps: 4, batch_seconds: 8.0}}]
tasks:
  characters:
    corpora: [mine]
    unit: characters
    metric: cer
    start: finetuned
    teacher: {steps: 4, batch_seconds: 8, learning_rate: 1.0e-4}
    student: {steps: 4, batch_seconds: 8, learning_rate: 1.0e-4}
grid:
  - {ratios: [0.2], seeds: [1]}
profile: {audio_seconds: 1, repeats: 1}
figures: {costs: [parameters]}
"""


def missing() -> str | None:
    """Return why the workflow cannot run here, None if it can."""
    absent = [name for key, name in PACKAGES.items() if importlib.util.find_spec(key) is None]
    verb = "is" if len(absent) == 1 else "are"
    return f"{', '.join(absent)} {verb} not installed" if absent else None


def write_study(folder: Path) -> None:
    """Write a config and WAV files of made-up speech."""
    import numpy as np
    from scipy.io import wavfile

    from gpu_parts.synthetic import LETTERS, babble

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "recordings").mkdir(parents=True)
    (folder / "config").mkdir()
    generator, lines = np.random.default_rng(0), ["path\ttext\tlabel\tspeaker\tsplit"]
    for number in range(24):
        file = f"recordings/{number}.wav"
        wavfile.write(folder / file, 16_000, babble(generator, 2.0))
        text = " ".join("".join(generator.choice(LETTERS, 4)) for _ in range(3))
        split = ("train", "train", "test", "valid")[number % 4]
        lines.append(f"{file}\t{text}\t\tanna\t{split}")
    (folder / "recordings.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    teachers = ROOT / "resources/teachers"
    text = STUDY % (teachers / "tiny", teachers / "tiny-characters")
    (folder / "config/config.yaml").write_text(text, encoding="utf-8")


def run(tiny: bool, scratch: Path, cuda: bool) -> dict:
    """Run the study, or with `tiny` plan it; return its statuses."""
    if reason := missing():
        return {"status": "not run", "reason": reason}
    folder = scratch / "study"
    write_study(folder)
    command = [sys.executable, "-m", "snakemake", "results/tables/results.csv"]
    command += ["--snakefile", ROOT / "workflow" / "Snakefile"]
    command += ["--directory", folder, "--profile", ROOT / "profiles/workstation"]
    command += ["--resources", f"gpu={int(cuda)}", "--cores", "all"]
    if not cuda:
        command += ["--set-resources", *(f"{rule}:gpu=0" for rule in gpu_rules())]
    if tiny:
        command += ["--dry-run"]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise RuntimeError(f"Snakemake ended with {done.returncode}: {' / '.join(said[-3:])}")
    if tiny:
        return {"note": "planned only"}
    files = sorted((folder / "results/metrics").rglob("*.json"))
    statuses = [json.loads(file.read_text(encoding="utf-8"))["status"] for file in files]
    good = bool(statuses) and set(statuses) == {"ok"}
    return {"status": "ok" if good else "differs", "statuses": statuses}


def gpu_rules() -> list[str]:
    """Return the rules for which the profile asks for a GPU."""
    lines = (ROOT / "profiles/workstation/profile.yaml").read_text(encoding="utf-8").splitlines()
    return [line.split(":")[0].strip() for line in lines if "{gpu: 1}" in line]
