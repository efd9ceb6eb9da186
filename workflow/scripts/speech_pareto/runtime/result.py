"""What every cell leaves behind: one JSON of a known shape, or a status that says why not."""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from speech_pareto.runtime.extras import extra

STATUSES = ("ok", "infeasible", "diverged", "out_of_memory")
DAMAGED = "damaged"  # of a result whose file cannot be used; no job writes it
STATUS_FILE = "status.json"
# What the files of each folder hold.
SECTIONS = {"metrics": "metrics", "profile": "cost", "analysis": "analysis"}
COUNTS = ("utterances", "reference_length")  # beside the metrics, and no scores
WORST = 10_000  # percent; an error rate beyond is no rate
SCHEMA = Path(__file__).with_name("result.schema.yaml")


def to_text(value) -> str:
    """Return `value` as JSON whose bytes depend on the value alone; NaN and infinity are errors."""
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"not a JSON value: {error}; write null, or a status other than ok")
    return text + "\n"


def write_text(path, text: str) -> None:
    """Write `text` to `path`, whole or not at all; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~umask())  # mkstemp makes private files
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path, value) -> None:
    """Write `value` to `path` as stable JSON, whole or not at all."""
    write_text(path, to_text(value))


def read_json(path):
    """Return the value in a JSON file; a broken file is a ValueError that names it.

    So is one that holds NaN, infinity or a number too large, which JSON does not know.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}); delete it and run again")


def _finite(text: str) -> float:
    """Return the number that `text` stands for; ValueError if it is not finite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def compose(
    run, meta, metrics=None, cost=None, metric=None, status=None, valid_metrics=None
) -> dict:
    """Return a result: `ok` with its numbers, or the `status` that `read_status` found.

    `metrics` are those of the test split, `valid_metrics` of the validation split, if scored.
    `metric` names the score among both and its direction: {"name": "per", "better": "lower"}.
    """
    status = status or {}
    result = {
        "run": run,
        "status": status.get("status", "ok"),
        "reason": status.get("reason"),
        "reachable": status.get("reachable"),
        "meta": meta,
    }
    sections = {"metrics": metrics, "valid_metrics": valid_metrics, "cost": cost, "metric": metric}
    for key, value in sections.items():
        if value is not None:
            result[key] = value
    return result


def check(result, name: str = "result") -> None:
    """Raise a ValueError that lists, in plain words, all that is wrong with `result`."""
    problems = sorted(_validator().iter_errors(result), key=lambda e: [str(p) for p in e.path])
    lines = [f"{'.'.join(map(str, e.path)) or 'top level'}: {e.message}" for e in problems]
    if not lines and result["status"] == "ok":
        lines = [*_score_problems(result), *_analysis_problems(result.get("analysis"))]
    if lines:
        raise ValueError("\n  ".join([f"{name} is not a valid result:", *lines]))


def _score_problems(result: dict) -> Iterator[str]:
    """Yield what is wrong with the score of a result."""
    metric = result.get("metric") or {}
    score = metric.get("name")
    if score is None:
        return
    for section in ("metrics", "valid_metrics"):
        scores = result.get(section, {})
        other = "valid_metrics" if section == "metrics" else "metrics"
        if not scores and result.get(other):  # one split alone was scored
            continue
        if score not in scores or score in COUNTS:
            yield f"{section}: has no {score!r}, which `metric` says is the score"
        elif scores[score] > (100 if metric["better"] == "higher" else WORST):
            yield f"{section}.{score}: {scores[score]} is too high for a score in percent"


def _analysis_problems(analysis: dict | None) -> Iterator[str]:
    """Yield where the parts of an analysis do not have the same layers and heads."""
    if not analysis:
        return
    for model, layers in analysis.get("layers", {}).items():
        heads = [len(layer["heads"]) for layer in layers]
        for name, values in analysis["diagonality"].get(model, {}).items():
            if [len(layer) for layer in values] != heads:
                yield f"analysis.diagonality.{model}.{name}: other layers or heads than in `layers`"


def write(path, result) -> None:
    """Check `result` against the schema and write it to `path`."""
    check(result, str(path))
    write_json(path, result)


def read(path) -> dict:
    """Return the checked result in `path`."""
    result = read_json(path)
    check(result, str(path))
    return result


def read_cell(path) -> dict:
    """Return the checked result of the cell that `path` names, as `results/metrics/...` does.

    A file that is no result, or that of another cell, is a result with the status `damaged` and the
    reason, so that it stops no table and enters no mean. ValueError if the path names no cell and
    the file is damaged.
    """
    run = _cell_of(Path(path))
    if run is None:
        return read(path)
    try:
        found, kind = read(path), Path(path).parts[-6]
        if found["status"] == "ok" and SECTIONS.get(kind, "run") not in found:
            raise ValueError(f"{path} has no `{SECTIONS[kind]}`; delete it and run again")
        wrong = {key: found["run"].get(key) for key in run if found["run"].get(key) != run[key]}
        if wrong:
            said = ", ".join(f"{key} {value}" for key, value in wrong.items())
            said = f"the result of another cell ({said}); delete it and run again"
            raise ValueError(f"{path} is {said}")
        return found
    except (OSError, ValueError) as error:
        return {"run": {"study": None, **run}, "status": DAMAGED, "reason": str(error), "meta": {}}


def _cell_of(path: Path) -> dict | None:
    """Return what the path of a result says of its cell, None if it is no such path."""
    if len(path.parts) < 6:
        return None
    folder, teacher, recipe, ratio, seed, name = path.with_suffix("").parts[-6:]
    try:
        run = {"teacher": teacher, "recipe": recipe, "ratio": float(ratio), "seed": int(seed)}
    except ValueError:
        return None
    return run | {"task" if folder == "metrics" else "scope": name}


def write_status(folder, status: str, reason: str, reachable: float | None = None) -> None:
    """Leave in `folder` why its cell could not be made, and the ratio it could have reached."""
    if status not in STATUSES[1:]:
        raise ValueError(f"status {status!r} is not one of {', '.join(STATUSES[1:])}")
    value = {"status": status, "reason": str(reason), "reachable": reachable}
    write_json(Path(folder) / STATUS_FILE, value)


def read_status(folder) -> dict | None:
    """Return {"status", "reason", "reachable"} of a cell that could not be made, else None."""
    path = Path(folder) / STATUS_FILE
    return read_json(path) if path.is_file() else None


@cache
def _validator():
    """Return the validator of the result schema."""
    with extra("report"):
        import jsonschema
        import yaml

    return jsonschema.Draft202012Validator(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))


def share(path) -> None:
    """Give a file the permissions of the umask; safetensors makes files private."""
    Path(path).chmod(0o666 & ~umask())


def umask() -> int:
    """Return the process's umask; there is no way to ask but to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
