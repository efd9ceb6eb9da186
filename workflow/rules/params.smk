"""How a job says what it depends on beside its input files.

Snakemake asks for the params of each job, keeps them, and plans a job anew when one differs from
what it was. Most rules have two:

    job    all that bears on the output, as one mapping: settings, digests of code and of pins
    run    what the output says of itself and does not depend on, made by `untracked`
"""

import functools
import hashlib
import inspect
import json

import yaml


def job_params(checkpoints=None, **values):
    """Params of a rule: `job`, a mapping of all `values`; some are functions of wildcards.

    With `checkpoints`, the name of a stage, there is also `state`: a folder for checkpoints, another
    one when any value changes. It is no output, so it outlives a job that is killed, and the next
    try continues from there.
    """

    @once_per_recipe
    def job(wildcards):
        return {
            name: value(wildcards) if callable(value) else value
            for name, value in values.items()
        }

    @once_per_recipe
    def key(wildcards):
        text = json.dumps(job(wildcards), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @with_signature
    def state(wildcards):
        return str(Path("checkpoints", checkpoints, *wildcards, key(wildcards)))

    return {"job": job} | ({"state": state} if checkpoints else {})


def untracked(function):
    """A param that Snakemake leaves out when it looks for changes.

    It does so for functions that ask for `input`, whose value is not known before the inputs are.
    """

    @with_signature
    def value(wildcards, input):
        return function(wildcards)

    return value


def code(*sources):
    """Digests of the source files that a job runs: `sources` and all that these import from here.

    A source is a file below the scripts, or a function of wildcards that returns a list of files.
    """

    def digests(wildcards):
        files = []
        for source in sources:
            files += source(wildcards) if callable(source) else [source]
        return closure(files)

    return digests


@functools.cache
def pins(name):
    """Digest of what is pinned in an environment; comments in its file do not count."""
    file = SCRIPTS.parents[1] / "envs" / f"{name}.yaml"
    pinned = json.dumps(
        yaml.safe_load(file.read_text(encoding="utf-8"))["dependencies"]
    )
    return {f"envs/{name}.yaml": hashlib.sha256(pinned.encode()).hexdigest()[:8]}


# So that planning 20,000 jobs takes little longer than bare Snakemake (benchmarks/planning.py):


def with_signature(function):
    """A function with its signature noted: Snakemake asks for it once for each job."""
    function.__signature__ = inspect.signature(function)
    return function


def once_per_recipe(function):
    """A function of wildcards that is called once for all jobs that differ in ratio and seed alone."""
    known = {}

    @with_signature
    def value(wildcards):
        key = tuple(
            item for item in wildcards.items() if item[0] not in ("ratio", "seed")
        )
        if key not in known:
            known[key] = function(wildcards)
        return known[key]

    return value
