"""How often Snakemake's scheduler looks for jobs, on the real one; the rest is in test_slurm.py."""

import subprocess
import sys

import pytest

from helpers.checkout import ROOT
from speech_pareto.runtime import snakemake_patches

JOBS = 40
SNAKEFILE = f"""
import sys

sys.path.insert(0, {str(ROOT / "workflow" / "scripts")!r})
{{patch}}


rule all:
    input:
        expand("done/{{{{number}}}}", number=range({JOBS})),


rule short:
    output:
        touch("done/{{{{number}}}}"),
    shell:
        "sleep 0.1"
"""
PATCH = (
    "from speech_pareto.runtime.snakemake_patches import look_for_jobs_once\nlook_for_jobs_once()"
)


def looks(folder, patch):
    """Return how often the scheduler looked for jobs while all of them ran, one by one."""
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE.format(patch=patch))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--scheduler", "greedy"]
    done = subprocess.run([*command, "--verbose"], cwd=folder, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]
    assert len(list((folder / "done").iterdir())) == JOBS
    return done.stderr.count("Ready jobs: ")


@pytest.mark.slow
def test_jobs_that_ended_do_not_make_snakemake_look_more_often(tmp_path):
    ours, its_own = looks(tmp_path / "ours", PATCH), looks(tmp_path / "own", "")
    assert JOBS <= ours < its_own / 1.5  # if Snakemake mends this, the patch can go


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "computes"),
    [
        ("--cores 1", True),
        ("-c1 results/tables/front.txt", True),
        ("--cores 2 --profile slurm --rerun-incomplete", True),
        ("-n", False),
        ("-nq", False),
        ("-qn --cores 1", False),
        ("-D", False),
        ("--summary", False),
        ("--dag", False),
        ("--report x.zip", False),
        ("--unlock", False),
        ("--lint", False),
        ("-l", False),
        ("--touch --cores 1", False),
        ("--delete-all-output --cores 1", False),
        ("--no-such-option", False),
    ],
)
def test_only_a_run_that_computes_may_touch_what_is_there(arguments, computes, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert snakemake_patches.computes(arguments.split()) == computes
