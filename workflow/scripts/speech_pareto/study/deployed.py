"""Which students `snakemake deploy` writes for other programs."""

from collections.abc import Mapping

from speech_pareto.study import paths
from speech_pareto.study.cells import cells
from speech_pareto.study.config import ConfigError
from speech_pareto.study.messages import unknown_names

HEADS = ("ctc",)  # kinds of tasks whose outputs these programs read


def tasks(study: Mapping) -> list[str]:
    """Return the tasks whose students can go to other programs."""
    return [name for name, task in study["tasks"].items() if task["kind"] in HEADS]


def students(study: Mapping) -> dict[str, str]:
    """Return the fine-tuned folders, by name, of the students that `deploy` lists, else of all.

    A name is that of the folder below results/finetuned.
    """
    able = tasks(study)
    folders = [paths.FINETUNED.format(**vars(c)) for c in cells(study) if c.task in able]
    known = {folder.split("/", 2)[2]: folder for folder in folders}
    asked = study.get("deploy") or known
    return {name: folder for name, folder in known.items() if name in asked}


def check(study: Mapping) -> None:
    """Raise ConfigError if `deploy` lists what is no student of a CTC task in the study."""
    if asked := study.get("deploy"):
        known = students({**study, "deploy": None})
        if problems := list(unknown_names("deploy", "student of a CTC task", asked, known)):
            raise ConfigError(problems)
