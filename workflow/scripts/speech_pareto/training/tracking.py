"""Training curves in a tracker, for who asks for one: TensorBoard, trackio, Weights & Biases.

    SPEECH_PARETO_TRACKERS=tensorboard,trackio snakemake --cores 8
    tensorboard --logdir results/tracking

The environment variable is no setting of a study: a tracker changes no result and reruns nothing.
What it records is the curve of each training: loss, metrics and learning rate after each percent of
its steps. Planning reads this file: no accelerate.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from speech_pareto.runtime.suggest import unknown

VARIABLE = "SPEECH_PARETO_TRACKERS"
TRACKERS = ("tensorboard", "trackio", "wandb")  # as accelerate and PyPI name them
FOLDER = Path("results/tracking")


def asked() -> list[str]:
    """Return the names of the trackers that the user wants."""
    return [name for part in os.environ.get(VARIABLE, "").split(",") if (name := part.strip())]


def tracker_problems() -> list[str]:
    """Return a sentence for each tracker that there is not."""
    wrong = [name for name in asked() if name not in TRACKERS]
    return [f"{VARIABLE}: {unknown('tracker', name, TRACKERS)}" for name in wrong]


@contextmanager
def tracked(
    name: str, state: Path | None, settings: Mapping
) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """Give a function that records numbers after a step in each tracker asked for.

    The run is named as the folder of its checkpoints, `state`; without one, `name`. Raises
    ModuleNotFoundError for a tracker that is not installed, ValueError for one that is not known.
    """
    if not asked():
        yield lambda numbers, step: None
        return
    if problems := tracker_problems():
        raise ValueError(" ".join(problems))
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    run = "/".join(state.parts[1:]) if state and not state.is_absolute() else name
    os.environ.setdefault("TRACKIO_DIR", str(FOLDER / "trackio"))
    installed, trackers = [str(one.value) for one in get_available_trackers()], []
    for one in asked():
        if one not in installed:
            raise ModuleNotFoundError(f"{VARIABLE}: {one} is not installed: pip install {one}")
        kind = LOGGER_TYPE_TO_CLASS[one]
        folder = {"logging_dir": str(FOLDER)} if kind.requires_logging_directory else {}
        own = {} if one == "tensorboard" else {"name": run}
        trackers.append(kind(run if one == "tensorboard" else "speech-pareto", **folder, **own))
    simple = {key: value for key, value in settings.items() if isinstance(value, float | int | str)}
    for tracker in trackers:
        tracker.start()
        tracker.store_init_configuration(simple)

    def record(numbers: Mapping[str, float], step: int) -> None:
        for tracker in trackers:
            tracker.log(dict(numbers), step=step)

    try:
        yield record
    finally:
        for tracker in trackers:
            tracker.finish()
