"""A small study for tests of planning, and how to read what a dry run prints."""

import re

import yaml

from helpers.checkout import run_snakemake
from speech_pareto.study import reruns

CELLS = ("compress", "finetune", "evaluate", "profile", "analyse")  # rules with a wildcard `recipe`
TABLES = ("compare", "aggregate")
COLLECTED = {*TABLES, "plot", "report", "all"}

# Put at the top of each script: its outputs appear at once, while its imports, which make its
# digest, stay as they are.
STUB = """
if "snakemake" in globals():
    from pathlib import Path

    for path in snakemake.output:
        is_file = Path(path).suffix in (".json", ".tsv", ".csv", ".txt", ".md", ".parquet", ".onnx")
        is_file = is_file or Path(path).suffix in (".svg", ".pdf", ".png", ".html")
        file = Path(path) if is_file else Path(path, "content")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(path))
    raise SystemExit(0)

"""

STUDY = {
    "corpora": {
        "prompts": {"source": "prompts", "languages": ["en"]},
        "fillets": {"source": "fillets", "languages": ["nl"]},
    },
    "teachers": {
        "tiny": {
            "path": "resources/teachers/tiny",
            "finetuned": {"phones": "resources/teachers/tiny-phones"},
        }
    },
    "recipes": {
        "identity": ["identity"],
        "heads": ["head_pruning"],
        "low-rank": ["low_rank"],
        "both": [{"head_pruning": {"ratio": 0.1}}, "low_rank"],
        "distilled": [{"distillation": {"steps": 3}}],
        "pinched": [{"self_pinching": {"steps": 3}}],
        "nested": [{"supernet": {"steps": 3}}],
    },
    "tasks": {
        name: {
            "corpora": corpora,
            "unit": unit,
            "metric": metric,
            "start": start,
            "teacher": {"steps": 2, "learning_rate": 0.001},
            "student": {"steps": 2, "learning_rate": 0.001},
        }
        for name, corpora, unit, metric, start in [
            ("phones", ["prompts"], "phones", "per", "finetuned"),
            ("characters", ["prompts", "fillets"], "characters", "cer", "backbone"),
        ]
    },
    "grid": [{"ratios": [0.5], "seeds": [1]}],
    "compress": {"corpora": ["fillets"]},
    "figures": {"costs": ["parameters"]},
}


def write_study(folder, study):
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def dry_run(folder, *arguments):
    return run_snakemake(folder, "--dry-run", *arguments).stdout


def planned(folder, *arguments):
    """Return the planned jobs as a set of (rule, wildcards as text)."""
    return jobs_in(dry_run(folder, *arguments))


def jobs_in(text):
    """Return the jobs that a dry run prints, as a set of (rule, wildcards as text)."""
    return {(j.rule, ", ".join(map("=".join, j.wildcards))) for j in reruns.jobs(text)}


def rules_of(jobs):
    return {rule for rule, _ in jobs}


def recipes_of(jobs):
    """Return the recipes of the cells in a plan; all kinds of jobs must be there for each.

    What trains one supernet for many cells is no job of a cell.
    """
    found = {}
    for rule, wildcards in jobs:
        recipe = re.search(r"recipe=([\w-]+)", wildcards)
        if recipe and rule != "train_supernet":
            found.setdefault(recipe[1], set()).add(rule)
    assert all(rules == set(CELLS) for rules in found.values()), found
    return set(found)


def append(file, text):
    file.write_text(file.read_text() + text)


def method_file(folder, name):
    return (
        folder / "workflow" / "scripts" / "speech_pareto" / "compression" / "methods" / f"{name}.py"
    )
