"""Tables and page of a study that still runs, from the cells that are done.

It reads finished files only, needs no lock, and changes no file that a rule makes.
"""

import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from speech_pareto.compression.targets import words
from speech_pareto.reporting import documents
from speech_pareto.reporting.tables import comparisons, examples, results_table
from speech_pareto.reporting.tables.results_table import PENDING
from speech_pareto.runtime import result
from speech_pareto.study import paths, pool, shares
from speech_pareto.study.cells import Cell, cells, pretrained, role_of
from speech_pareto.study.config import resolve

FOLDER = "interim"


def read_study(file: Path, results: Path) -> dict:
    """Return the resolved config in a file, with ratios of parameters, as the workflow has it."""
    import yaml

    study = resolve(yaml.safe_load(Path(file).read_text(encoding="utf-8")), [str(file)])
    return pool.with_candidates(shares.met(study, results), results)


def write(study: dict, results) -> str:
    """Write tables and page of the study's finished cells to results/interim; return the fronts."""
    results = Path(results)
    built, compared = gather(study, results)
    if (built["status"] == PENDING).all():
        return f"0 of {len(built)} cells done: there is nothing to show yet\n"
    folder = results / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    built.to_parquet(folder / "results.parquet", index=False)
    result.write_text(folder / "results.csv", built.to_csv(index=False, lineterminator="\n"))
    against, fronts, pairs, found = compared
    texts = documents.written(built, against, fronts, pairs, found, base="../")
    for name, text in texts.items():
        result.write_text(folder / name, text)
    where = f"{folder}/ (report.html, leaderboard.html, results.csv)"
    return f"{texts['front.txt']}\nTables and page: {where}\n"


def gather(study: dict, results: Path) -> tuple[pd.DataFrame, tuple]:
    """Return the table, with a row for each cell that is not done, and the comparisons."""
    metrics, profiles, hypotheses, pending = {}, {}, {}, []
    for cell in dict.fromkeys([*cells(study), *pool.front_cells(study, results)]):
        files = cell_files(cell, results)
        missing = [kind for kind, file in files.items() if not file.is_file()]
        if missing:
            pending.append(_pending(cell, study, f"waits for {' and '.join(missing)}"))
            continue
        metrics |= results_table.read_results([files["evaluate"]])
        profiles |= results_table.read_results([files["profile"]])
        hypotheses[str(files["evaluate"])] = str(files["evaluate"].with_suffix(".tsv"))
    if not metrics:
        return pd.DataFrame(pending), (None,) * 4
    built = results_table.build(metrics, profiles)
    try:
        compared = (*comparisons.build(built, hypotheses), examples.build(built, hypotheses))
    except ValueError as error:  # such as one of the teachers being evaluated anew
        sys.stderr.write(f"The comparisons are left out: {error}\n")
        compared = (None,) * 4
    if pending:
        rows = pd.DataFrame(pending, columns=built.columns).astype(built.dtypes.to_dict())
        built = pd.concat([built, rows]).sort_values(results_table.KEY, ignore_index=True)
    return built, compared


def cell_files(cell: Cell, results: Path) -> dict[str, Path]:
    """Return the rules whose results a cell needs, and their files below `results`."""
    patterns = {"evaluate": paths.METRICS, "profile": paths.PROFILE}
    files = {rule: PurePosixPath(path.format(**vars(cell))) for rule, path in patterns.items()}
    return {rule: results / file.relative_to("results") for rule, file in files.items()}


def _pending(cell: Cell, study: dict, reason: str) -> dict:
    """Return the row of a cell that is not done."""
    key: dict[str, Any] = {"task": cell.task, "teacher": cell.teacher, "recipe": cell.recipe}
    key |= {"ratio": float(cell.ratio), "seed": int(cell.seed)}
    return key | {
        "target": words(cell.target) if cell.target else None,
        "study": study["study"],
        "role": role_of(study["recipes"][cell.recipe]),
        "pretrained": pretrained(study["teachers"][cell.teacher]),
        "status": PENDING,
        "reason": reason,
        "metrics_file": paths.METRICS.format(**vars(cell)),
    }
