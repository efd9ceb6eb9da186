"""A student's card for the hub: what it scores and costs, as its `model-index` and as a table.

The format is that of https://huggingface.co/docs/hub/model-cards. It has no place for intervals and
costs: an interval is an argument of its metric here, costs are metrics beside the score.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from speech_pareto.data.corpus import credits
from speech_pareto.models.teachers import known
from speech_pareto.reporting.tables.significance import interval, resampled_rates
from speech_pareto.reporting.tables.systems import read_errors
from speech_pareto.runtime.formatting import short_bytes, short_count, short_seconds, shortest

TEXT = """---
{front}---
# {title}

{commands}
## What it scores and costs

| | |
| --- | --- |
{rows}

The student as the study measured it, in torch. Made by Speech Pareto at commit `{commit}` with seed
{seed}, by the recipe

```json
{recipe}
```

## Learnt from and scored on

{credits}
{licence}Made to compare compression methods: look at its scores on speech like yours before it
is used for anything else.
"""


def write(
    files: Mapping[str, str | Path], about: Mapping, corpora: Sequence[str | Path], commands: str
) -> str:
    """Return the card of a fine-tuned student whose task counts errors.

    `files` are its `metrics`, `hypotheses` and `profile`, `about` is its task's own `card()`,
    `corpora` are folders and `commands` say how the model is run. ValueError for damaged files.
    """
    said, measured = (
        json.loads(Path(files[name]).read_text(encoding="utf-8")) for name in ("metrics", "profile")
    )
    run, metric, cost = said["run"], said["metric"]["name"], measured["cost"]
    timed = cost["wall_clock"]
    utterances, errors, lengths = read_errors(files["hypotheses"], metric)
    score, bounds = said["metrics"][metric], interval(resampled_rates([errors], lengths)[:, 0])
    counted, count = cost["parameters"]["nonzero"], f"{len(utterances)} utterances"
    threads, processor = timed["threads"], measured["meta"]["hardware"]["cpu"]
    on = f"{threads} thread{'s' * (threads != 1)} of {processor}"
    long = f"{timed['batch']} x {shortest(timed['audio_seconds'])} s"
    licence, base = _teacher(run["config"]["teacher"])
    # name: value in the index, its arguments there, what the table says
    numbers: dict[str, tuple[float, dict, str]] = {
        metric: (
            score,
            {"interval": [round(bound, 4) for bound in bounds], "level": 0.95, "of": count},
            f"{score:.1f} % (95 % interval {bounds[0]:.1f} to {bounds[1]:.1f}, {count})",
        ),
        "parameters": (
            counted,
            {"teacher": cost["teacher_parameters"]},
            f"{short_count(counted)}, of {short_count(cost['teacher_parameters'])} of the teacher",
        ),
        "bytes": (cost["bytes"], {}, short_bytes(cost["bytes"])),
        "MACs per second of audio": (
            cost["macs_per_second"],
            {},
            short_count(cost["macs_per_second"]),
        ),
        "seconds": (
            timed["seconds"],
            {"audio": long, "on": on, "speedup": timed["speedup"]},
            f"{short_seconds(timed['seconds'])} for {long}, {timed['speedup']:.2f} times as fast "
            f"as the teacher ({on})",
        ),
    }
    names = "+".join(sorted(Path(corpus).name for corpus in corpora))
    result = {
        "task": {"type": about["pipeline"], "name": about["summary"]},
        "dataset": {"type": names, "name": names, "split": "test"},
        "metrics": [
            {"type": name, "value": value, "name": name, **({"args": more} if more else {})}
            for name, (value, more, _) in numbers.items()
        ],
    }
    title = f"{run['recipe']} at {shortest(run['ratio'])} of {run['teacher']}: {run['task']}"
    languages = run["config"]["task"].get("languages", [])
    front = {
        "license": licence,
        "base_model": base,
        "language": sorted({code.partition("-")[0] for code in languages}),
        "pipeline_tag": about["pipeline"],
        "tags": ["speech", "model-compression", run["recipe"]],
        "model-index": [{"name": title, "results": [result]}],
    }
    return TEXT.format(
        front=yaml.safe_dump({k: v for k, v in front.items() if v}, sort_keys=False),
        title=title,
        commands=commands,
        rows="\n".join(f"| {name} | {text} |" for name, (_, _, text) in numbers.items()),
        commit=said["meta"]["commit"],
        seed=run["seed"],
        recipe=json.dumps(run["config"]["recipe"], sort_keys=True),
        credits=credits(list(corpora)),
        licence=f"The teacher is under {licence}. " if licence else "",
    )


def _teacher(origin: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the licence, as the hub writes it, and the id of a teacher; None if not known."""
    if "hub" not in origin:
        return None, None
    found = known(origin["hub"])
    return (found[1].licence.lower(), found[1].hub) if found else (None, origin["hub"])
