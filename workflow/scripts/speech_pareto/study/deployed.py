"""Which students `snakemake deploy` writes for other programs."""

from collections.abc import Mapping

from speech_pareto.study import paths
from speech_pareto.study.cells import cells
from speech_pareto.study.config import ConfigError
from speech_pareto.study.messages import unknown_names

HEADS = ("ctc",)  # kinds of tasks whose outputs these programs read
FILES = {  # what is needed of a student
    "model": paths.FINETUNED,
    "metrics": paths.METRICS,
    "hypotheses": paths.HYPOTHESES,
    "profile": paths.PROFILE,
}


def tasks(study: Mapping) -> list[str]:
    """Return the tasks whose students can go to other programs."""
    kinds = {name: task["kind"] for name, task in study["tasks"].items() if "rung_of" not in task}
    return [name for name, kind in kinds.items() if kind in HEADS]


def students(study: Mapping) -> dict[str, dict[str, str]]:
    """Return `FILES`, by name, of the students that `deploy` lists, else of all.

    A name is that of the folder below results/finetuned.
    """
    able = tasks(study)
    known = {
        f"{paths.CELL}/{{task}}".format(**vars(c)): {
            what: pattern.format(**vars(c)) for what, pattern in FILES.items()
        }
        for c in cells(study)
        if c.task in able
    }
    asked = study.get("deploy") or known
    return {name: files for name, files in known.items() if name in asked}


def check(study: Mapping) -> None:
    """Raise ConfigError if `deploy` lists what is no student of a CTC task in the study."""
    if asked := study.get("deploy"):
        known = students({**study, "deploy": None})
        if problems := list(unknown_names("deploy", "student of a CTC task", asked, known)):
            raise ConfigError(problems)
