"""The workflow as Snakemake sees it: style, entry points, targets, mistakes in the config."""

import re
import subprocess
import sys

import pytest
import yaml

from helpers.checkout import ROOT, run_snakemake
from helpers.planning import (
    CELLS,
    COLLECTED,
    STUDY,
    TABLES,
    append,
    planned,
    recipes_of,
    rules_of,
    write_study,
)

STARTS = {"fetch_corpus", "prepare_corpus"}
# The control that is never pretrained has a backbone to be drawn.
BACKBONES = STARTS | {"pretrain_one_teacher"}


@pytest.mark.slow
def test_both_entry_points_plan_the_same_jobs(tree):
    jobs = planned(tree)
    assert rules_of(jobs) >= {*STARTS, *CELLS, *COLLECTED}
    assert planned(tree, "--snakefile", "workflow/Snakefile") == jobs


@pytest.mark.slow
def test_nothing_is_analysed_that_no_figure_shows(tree):
    write_study(tree, STUDY)
    jobs = planned(tree)
    write_study(tree, STUDY | {"figures": STUDY["figures"] | {"views": ["ratios"]}})
    fewer = planned(tree)
    gone = {(rule, wildcards) for rule, wildcards in jobs - fewer if rule != "plot"}
    assert {rule for rule, _ in gone} == {"analyse"} and fewer < jobs


def test_slurm_profile_is_found_by_its_name():
    assert (ROOT / "slurm" / "profile.yaml").is_file()


def profile(name):
    return yaml.safe_load((ROOT / "profiles" / name / "profile.yaml").read_text())


@pytest.mark.parametrize("name", ["slurm", "workstation"])
def test_profiles_say_what_default_leaves_open_and_rules_leave_to_them(name):
    assert not set(profile("default")) & set(profile(name))  # what stands in default always wins
    assert "code" not in profile("default")["rerun-triggers"]
    assert profile(name)["retries"]
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert not re.search(r"^    retries:|(gpu|mem_mb|runtime)=\d", rules, re.M)
    for section in ("set-resources", "set-threads", "groups"):
        for rule in profile(name).get(section, {}):
            assert f"rule {rule}:" in rules, (section, rule)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "rules"),
    [
        ("plan", set()),
        ("interim", set()),
        ("corpora", {"fetch_corpus", "prepare_corpus"}),
        ("rehearse", {"fetch_corpus", "prepare_corpus", "rehearse_job"}),
        ("pretrain_teacher", BACKBONES),
        ("finetune_teacher", BACKBONES | {"finetune_one_teacher"}),
        ("exports", BACKBONES | {"compress", "finetune", "export"}),
        ("sensitivity", {*BACKBONES, "measure_sensitivity", "draw_sensitivity"}),
        ("deploy", {*BACKBONES, *CELLS, *TABLES}),
        ("leaderboard", {*BACKBONES, *CELLS, *TABLES, "report"}),
        ("tables", {*BACKBONES, *CELLS, *TABLES, "report"}),
        ("figures", {*BACKBONES, *CELLS, *TABLES, "plot"}),
    ],
)
def test_named_targets(tree, target, rules):
    assert rules_of(planned(tree, target)) == rules | {target}


@pytest.mark.slow
def test_config_mistakes_end_planning_without_a_traceback(tree):
    file = tree / "config" / "config.yaml"
    file.write_text(file.read_text().replace("[low_rank]", "[lowrank]") + "profil: {}\n")
    done = run_snakemake(tree, "--cores", "1", check=False)
    assert done.returncode == 1
    assert "The config has 2 problems:" in done.stderr
    assert "did you mean 'low_rank'?" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.slow
def test_yaml_mistake_is_named_with_its_line(tree):
    append(tree / "config" / "config.yaml", "grid: [\n")
    done = run_snakemake(tree, "--dry-run", check=False)
    assert done.returncode == 1
    assert "this is not YAML" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_study_stands_for_itself(tree):
    (tree / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    jobs = planned(tree, "--configfile", "mine.yaml")
    assert recipes_of(jobs) == set(STUDY["recipes"])


@pytest.mark.slow
def test_the_three_sources_of_a_teacher(tree):
    teachers = {
        "shipped": {"path": "resources/teachers/tiny"},
        "fetched": {"hub": "someone/model", "revision": "0" * 40},
        "made": {
            "pretrain": {
                "corpora": ["prompts"],
                "iterations": [{"units": 4, "steps": 2, "learning_rate": 0.1}],
            }
        },
    }
    write_study(tree, STUDY | {"teachers": teachers})
    jobs = planned(tree)
    assert {w for rule, w in jobs if rule == "fetch_teacher"} == {"teacher=fetched"}
    assert {w for rule, w in jobs if rule == "pretrain_one_teacher"} == {"teacher=made"}
    assert len([w for rule, w in jobs if rule == "finetune_one_teacher"]) == 3


def test_rules_name_log_environment_and_code():
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for rule in re.split(r"\n(?=rule )", file.read_text()):
            if "script:" in rule:
                for directive in ("log:", "conda:", "benchmark:", "code=code("):
                    # a benchmark is a file: with one, a rule that always runs would be up to date
                    always_runs = directive == "benchmark:" and "output:" not in rule
                    assert directive in rule or always_runs, (file.name, directive)


def test_every_wildcard_is_constrained():
    folder = ROOT / "workflow" / "rules"
    functions = ("common", "inputs", "params", "searched", "slices")
    files = [path for path in folder.glob("*.smk") if path.stem not in functions]
    rules = "".join(path.read_text() for path in files)
    constrained = (folder / "common.smk").read_text()
    for name in re.findall(r"\{(\w+)\}", rules):
        assert f"    {name}=" in constrained


@pytest.mark.slow
def test_planning_imports_nothing_heavy(tree):
    command = [sys.executable, "-X", "importtime", "-m", "snakemake", "--dry-run"]
    done = subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True)
    imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.M))
    assert "speech_pareto.study.config" in imported
    # Snakemake itself imports numpy and pandas.
    assert not imported & {"torch", "transformers", "safetensors", "soundfile", "matplotlib"}
