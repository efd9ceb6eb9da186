"""The workflow as a module of another one: `use rule * from speech_pareto as sp_*`."""

import pytest
import yaml

from helpers.checkout import ROOT
from helpers.planning import STUDY, planned, rules_of

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


def test_it_brings_its_default_target(module):
    rules = module(USE.format(rules="*"))
    assert "sp_all" in rules and {"sp_compress", "sp_plot", "sp_report"} <= rules
    assert all(name.startswith("sp_") for name in rules)


def test_the_other_workflows_own_first_rule_stays_its_default(module):
    rules = module(MINE.format(name="mine"), USE.format(rules="*"))
    assert {"mine", "sp_compress", "sp_report"} <= rules and not {"sp_all", "sp_plot"} & rules


def test_both_may_have_a_rule_all(module):
    parts = USE.format(rules="*"), MINE.format(name="all")
    assert {"all", "sp_report"} <= module(*parts, targets=["all"])
    assert "sp_all" in module(*parts)


def test_a_few_of_its_rules_are_enough(module):
    few = USE.format(rules="fetch_corpus, prepare_corpus")
    rules = module(few, targets=["results/corpora/prompts"])
    assert rules == {"sp_fetch_corpus", "sp_prepare_corpus"}
