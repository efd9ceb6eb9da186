"""On how many frames the layers of a backbone run, from its config alone; no torch."""

from collections.abc import Mapping
from typing import Any

from speech_pareto.models import architecture

HUNDREDTHS = 100  # of a frame: the grain of frame pooling


def pooled(frames: Any, span: int) -> Any:
    """Return how many groups of `span` hundredths of a frame hold the middle of one of `frames`."""
    return (HUNDREDTHS * frames - HUNDREDTHS // 2) // span + 1


def frames_of_layers(config: Mapping, frames: int) -> list[int]:
    """Return on how many frames each layer runs, of so many that the stem makes."""
    number = architecture.complete(config)["num_hidden_layers"]
    if factor := architecture.section(config).get("time_reduction"):
        return [max(1, frames // factor)] * number
    if pooling := architecture.section(config).get("frame_pooling"):
        fewer = pooled(frames, round(pooling["factor"] * HUNDREDTHS))
        return [frames if index < pooling["after"] else fewer for index in range(number)]
    return [frames] * number


def fewer_frames(config: Mapping) -> bool:
    """Return whether layers run on fewer frames than the stem makes."""
    return bool({"time_reduction", "frame_pooling"} & set(architecture.section(config)))
