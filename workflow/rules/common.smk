"""What the rules share: the checked config, its cells, constraints of wildcards."""

import functools
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from speech_pareto.runtime.result import read_json
from speech_pareto.study.config import ConfigError, dump, resolve
from speech_pareto.runtime.source_digest import closure, fingerprint
from speech_pareto.runtime.locate import locate
from speech_pareto.runtime.garbage import collect_seldom
from speech_pareto.study.rehearsal_text import warning
from speech_pareto.study.syntax import syntax_problems
from speech_pareto.compression import catalogue
from speech_pareto.compression.targets import words
from speech_pareto.data import condition, sources
from speech_pareto.runtime import plugins, snakemake_patches
from speech_pareto.tasks import kind
from speech_pareto.study import paths, rehearsal
from speech_pareto.study.figures import figures_of, looks_inside
from speech_pareto.study.views import VIEWS
from speech_pareto.study import cells as grid
from speech_pareto.study import deployed, exported, in_conditions, pool, shares


def give_up(error):
    """End planning with plain sentences and no traceback."""
    print(error, file=sys.stderr)
    sys.exit(1)


collect_seldom()
if workflow.is_main_process:
    snakemake_patches.settle_earlier_jobs()
    snakemake_patches.look_for_jobs_once()
else:  # in a job
    snakemake_patches.pass_on_sigterm()

# A study stands for itself: a file given by --configfile replaces the default one, it adds nothing.
if not workflow.overwrite_configfiles:
    if Path("config/config.yaml").is_file():
        if problems := syntax_problems("config/config.yaml"):
            give_up(ConfigError(problems))

    configfile: "config/config.yaml"


try:
    study = shares.met(resolve(config, workflow.configfiles), Path("results"))
    study = pool.with_candidates(study, Path("results"))
    deployed.check(study)
    if problems := exported.problems(study):
        raise ConfigError(problems)
except ConfigError as error:
    give_up(error)

CELLS = grid.cells(study)
FIGURES = figures_of(study)
FORMATS = ("svg", "pdf", "png")


def one_of(names):
    """Regular expression that matches these names, or nothing at all if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


def teachers_with(*keys):
    """Names of the teachers that have all these keys."""
    teachers = study["teachers"].items()
    return [name for name, teacher in teachers if set(keys) <= set(teacher)]


def table_of_report(path, caption, what):
    """A table that Snakemake's report holds, with a caption and in a few words what it is."""
    about = {"category": "Tables", "labels": {"table": what}}
    return report(path, caption=f"../report/{caption}.rst", **about)


wildcard_constraints:
    corpus=one_of(study["corpora"]),
    teacher=one_of(study["teachers"]),
    recipe=one_of(study["recipes"]),
    ratio=r"0(\.\d*[1-9])?",
    seed=r"\d+",
    round=r"\d+",
    study=re.escape(study["study"]),
    task=one_of(study["tasks"]),
    scope=one_of(["any", *study["tasks"]]),
    condition=one_of(
        dict.fromkeys(
            x for task in study["tasks"].values() for x in condition.of_task(task)
        )
    ),
    figure=one_of(FIGURES),
    rehearsed=rf"({one_of(rehearsal.STEMS.values())})/.+",


# The image for `--sdm apptainer` stands outside the study: where jobs run changes no result.
if image := os.environ.get("SPEECH_PARETO_CONTAINER"):

    container: image


localrules:
    all,


onstart:
    dump(study, paths.RESOLVED)
    if not set(workflow.dag_settings.targets) & {"rehearse", "plan", "interim"}:
        if said := warning(rehearsal.Rehearsal.read(study, "results", given)):
            print(said, file=sys.stderr)
