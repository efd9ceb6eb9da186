"""How far a model that streams hears ahead, from its config alone; no torch."""

from collections.abc import Mapping

from speech_pareto.models import architecture


def overlap(config: Mapping) -> int:
    """Return how many samples behind its chunk the last frame of a chunk reads."""
    field, stride = architecture.reach(config)
    return (field if architecture.convolutional(config) else architecture.KERNEL) - stride


def frame_ms(config: Mapping) -> float:
    """Return the length of a frame in milliseconds."""
    return 1000 * architecture.reach(config)[1] / architecture.SAMPLE_RATE


def latency(config: Mapping) -> float | None:
    """Return after how many seconds a sample is in the output at the latest; None: at the end.

    That is a chunk, and what its last frame reads of the next one: the latency of the algorithm,
    to which comes what the computer takes.
    """
    chunk = architecture.section(config).get("streaming", {}).get("chunk")
    if chunk is None:
        return None
    return (chunk * architecture.reach(config)[1] + overlap(config)) / architecture.SAMPLE_RATE
