"""What students of a study would take on another device, predicted from its table of latencies."""

import re
from pathlib import Path
from typing import Any

from speech_pareto.compression.targets import SECONDS
from speech_pareto.models import latency
from speech_pareto.models.model_folder import read_config
from speech_pareto.reporting.budget import Limit
from speech_pareto.study.quantities import QUANTITIES

LIMIT = re.compile(r"\s*(?:<=|≤)\s*(.+?)\s+on\s+(\S+)\s*")


def read(text: str, folder: str | Path) -> tuple[Limit, latency.Table]:
    """Return the limit that a text such as "<= 20 ms on pi-1-threads" states, and the table.

    `folder` has the user's own tables. ValueError for other texts, and for a device without one.
    """
    found = LIMIT.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a limit such as '<= 20 ms on pi-1-threads'")
    table = latency.read(latency.find(found[2], folder))
    return Limit("max", "seconds", QUANTITIES["seconds"].read(found[1]), table.name), table


def add(study: dict, limit: Limit, table: latency.Table, results: Path) -> list[str]:
    """Put what `table` predicts into the values of a study's points; return what it cannot tell.

    A pass is over as much audio as was timed in the study, else 10 s. `results` is the folder that
    the paths of `points` start from: each student's config is read there.
    """
    missing: dict[str, list[str]] = {}
    for point in study["points"]:
        seconds: Any = None
        try:
            if config := point["links"][0].get("config"):
                audio = study["tasks"][point["task"]]["audioSeconds"] or SECONDS
                seconds = table.seconds(read_config((results / config).parent), audio)
        except (OSError, ValueError) as error:
            missing.setdefault(str(error), []).append(point["key"])
        point["values"][limit.key] = seconds
        point["text"][limit.key] = QUANTITIES["seconds"].form(seconds)
    return [f"{', '.join(dict.fromkeys(keys))}: {why}" for why, keys in missing.items()]
