"""The workflow as a module of another one: `use rule * from speech_pareto as sp_*`."""

import subprocess
import sys
from pathlib import Path

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


def tagged(repository, tag):
    """Clone the checkout's last commit into a folder, tag it there, and return its hash."""
    git("clone", "-q", "--depth", "1", f"file://{ROOT}", repository)
    git("-C", repository, "tag", tag)
    return git("-C", repository, "rev-parse", "HEAD").strip()


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
    commit = tagged(repository, "v9.9")
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


def test_snakedeploy_deploys_a_tag(tmp_path, monkeypatch):
    """git finds the hosted repository in a folder, of which nobody else knows."""
    commit = tagged(tmp_path / "hosted/someone/speech-pareto", "v9.9")
    settings = tmp_path / "gitconfig"
    settings.write_text(f'[url "file://{tmp_path}/hosted/"]\ninsteadOf = "https://github.com/"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of Snakemake's clones
    study = tmp_path / "a study"
    snakedeploy = Path(sys.executable).with_name("snakedeploy")
    repository = "https://github.com/someone/speech-pareto"
    command = [snakedeploy, "deploy-workflow", repository, study, "--tag", "v9.9"]
    subprocess.run(command, check=True)
    assert "github(" in (study / "workflow/Snakefile").read_text()
    assert {"all", "compress", "report"} <= rules_of(planned(study))
    assert (study / ".snakemake/speech-pareto" / commit / "workflow/Snakefile").is_file()
    # with the shipped teacher, which lies in the repository
    student = "results/models/tiny/low-rank/0.75/1/phones"
    run_snakemake(study, "--cores", "1", student)
    assert (study / student / "model.safetensors").is_file()
