"""The workflow as a module of another one: `use rule * from speech_pareto as sp_*`."""

import subprocess

import pytest
import yaml

from helpers.checkout import ROOT, run_snakemake
from helpers.planning import STUDY, planned, rules_of
from speech_pareto.runtime import provenance

pytestmark = pytest.mark.slow  # each starts Snakemake
MODULE = """
configfile: "config/config.yaml"

module speech_pareto:
    snakefile: "{snakefile}"
    config: config
"""
USE = "\nuse rule {rules} from speech_pareto as sp_*\n"
MINE = """
rule {name}:
    input:
        "results/report.html",
    output:
        "mine.txt",
    shell:
        "wc {{input}} > {{output}}"
"""


def git(*arguments):
    """Return what git prints."""
    command = ["git", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def module(tmp_path):
    """Return a function that writes another workflow and returns its dry run's rules."""
    (tmp_path / "config").mkdir()
    teachers = {"tiny": {"path": str(ROOT / "resources/teachers/tiny")}}
    study = yaml.safe_dump({**STUDY, "teachers": teachers})
    (tmp_path / "config" / "config.yaml").write_text(study)

    def plan(*parts, targets=(), snakefile=ROOT / "workflow" / "Snakefile"):
        text = MODULE.format(snakefile=snakefile) + "".join(parts)
        (tmp_path / "Snakefile").write_text(text)
        return rules_of(planned(tmp_path, *targets))

    return plan


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_it_brings_its_default_target(module, snakefile):
    rules = module(USE.format(rules="*"), snakefile=ROOT / snakefile)
    assert "sp_all" in rules and {"sp_compress", "sp_plot", "sp_report"} <= rules
    assert all(name.startswith("sp_") for name in rules)


def test_the_other_workflows_own_first_rule_stays_its_default(module):
    rules = module(MINE.format(name="mine"), USE.format(rules="*"))
    assert {"mine", "sp_compress", "sp_report"} <= rules and not {"sp_all", "sp_plot"} & rules


def test_both_may_have_a_rule_all(module):
    parts = USE.format(rules="*"), MINE.format(name="all")
    assert {"all", "sp_report"} <= module(*parts, targets=["all"])
    assert "sp_all" in module(*parts)


def test_a_tag_of_a_repository_is_used_as_it_is_there(module, tmp_path):
    """Snakemake fetches single files of it; paths have spaces, and the outer folder is a clone."""
    repository = tmp_path / "a repository"
    git("clone", "-q", "--depth", "1", f"file://{ROOT}", repository)
    git("-C", repository, "tag", "v9.9")
    commit = git("-C", repository, "rev-parse", "HEAD").strip()
    (repository / "workflow/rules/compress.smk").write_text("what came after the tag")
    git("init", "-q", tmp_path)
    snakefile = f"git+file://{repository}/workflow/Snakefile@v9.9"
    rules = module(USE.format(rules="*"), snakefile=snakefile)
    assert {"sp_all", "sp_compress", "sp_report"} <= rules
    unpacked = tmp_path / ".snakemake/speech-pareto" / commit
    assert (unpacked / "config/config.yaml").is_file()
    assert provenance.commit_of(unpacked) == (commit, False)
    run_snakemake(tmp_path, "sp_plan", "--cores", "1")  # its script imports the library
    assert "cells" in (tmp_path / "results/plan.txt").read_text()


def test_a_few_of_its_rules_are_enough(module):
    few = USE.format(rules="fetch_corpus, prepare_corpus")
    rules = module(few, targets=["results/corpora/prompts"])
    assert rules == {"sp_fetch_corpus", "sp_prepare_corpus"}
