"""The workflow as Snakemake sees it: style, entry points, and which change plans which jobs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import copy_tree, run_snakemake

ROOT = Path(__file__).resolve().parents[1]
CELLS = ("compress", "finetune", "evaluate", "profile", "analyse")  # rules with a wildcard `recipe`
TABLES = ("compare", "aggregate")
COLLECTED = {*TABLES, "plot", "report", "all"}
# made for the cells: the probe of the control that is never pretrained takes its bare backbone
STARTS = {"fetch_corpus", "prepare_corpus", "pretrain_one_teacher"}

# Put at the top of each script: its outputs appear at once, while its imports, which make its
# digest, stay as they are.
STUB = """
if "snakemake" in globals():
    from pathlib import Path

    for path in snakemake.output:
        is_file = Path(path).suffix in (".json", ".tsv", ".csv", ".txt", ".md", ".parquet", ".onnx")
        is_file = is_file or Path(path).suffix in (".svg", ".pdf", ".png", ".html")
        file = Path(path) if is_file else Path(path, "content")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(path))
    raise SystemExit(0)

"""

STUDY = {
    "corpora": {
        "prompts": {"source": "prompts", "languages": ["en"]},
        "fillets": {"source": "fillets", "languages": ["nl"]},
    },
    "teachers": {
        "tiny": {
            "path": "resources/teachers/tiny",
            "finetuned": {"phones": "resources/teachers/tiny-phones"},
        }
    },
    "recipes": {
        "identity": ["identity"],
        "heads": ["head_pruning"],
        "low-rank": ["low_rank"],
        "both": [{"head_pruning": {"ratio": 0.1}}, "low_rank"],
        "distilled": [{"distillation": {"steps": 3}}],
        "pinched": [{"self_pinching": {"steps": 3}}],
    },
    "tasks": {
        name: {
            "corpora": corpora,
            "unit": unit,
            "metric": metric,
            "start": start,
            "teacher": {"steps": 2, "learning_rate": 0.001},
            "student": {"steps": 2, "learning_rate": 0.001},
        }
        for name, corpora, unit, metric, start in [
            ("phones", ["prompts"], "phones", "per", "finetuned"),
            ("characters", ["prompts", "fillets"], "characters", "cer", "backbone"),
        ]
    },
    "grid": [{"ratios": [0.5], "seeds": [1]}],
    "compress": {"corpora": ["fillets"]},
    "figures": {"costs": ["parameters"]},
}


def write_study(folder, study):
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def planned(folder, *arguments):
    """Return the planned jobs as a set of (rule, wildcards as text)."""
    output = run_snakemake(folder, "--dry-run", *arguments).stdout
    parts = re.split(r"^ *(?:local)?(?:rule|checkpoint) (\w+):$", output, flags=re.M)
    jobs = set()
    for rule, rest in zip(parts[1::2], parts[2::2], strict=True):  # those of a group are indented
        wildcards = re.search(r"^ +wildcards: (.*)$", rest, re.M)
        jobs.add((rule, wildcards[1] if wildcards else ""))
    return jobs


def rules_of(jobs):
    return {rule for rule, _ in jobs}


def recipes_of(jobs):
    """Return the recipes of the cells in a plan; all kinds of jobs must be there for each."""
    found = {}
    for rule, wildcards in jobs:
        if recipe := re.search(r"recipe=([\w-]+)", wildcards):
            found.setdefault(recipe[1], set()).add(rule)
    assert all(rules == set(CELLS) for rules in found.values()), found
    return set(found)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory):
    """Return a copy of the checkout with a study that stubs of the scripts have run to the end."""
    folder = copy_tree(tmp_path_factory.mktemp("finished") / "tree")
    for script in (folder / "workflow" / "scripts").glob("*.py"):
        script.write_text(STUB + script.read_text())
    write_study(folder, STUDY)
    run_snakemake(folder, "--cores", "2")
    return folder


@pytest.fixture
def finished(finished_study, tmp_path):
    """Return a copy of the finished study, with the times of its files."""
    folder = tmp_path / "tree"
    shutil.copytree(finished_study, folder, symlinks=True)
    for path in sorted((finished_study / "results").rglob("*")):  # folders too
        shutil.copystat(path, folder / path.relative_to(finished_study))
    return folder


def test_a_finished_study_plans_nothing(finished):
    assert planned(finished) == set()


def append(file, text):
    file.write_text(file.read_text() + text)


def method_file(folder, name):
    return folder / "workflow" / "scripts" / "speech_pareto" / "methods" / f"{name}.py"


def test_snakemake_lint_congratulates(tree):
    done = run_snakemake(tree, "--lint")
    assert "Congratulations" in done.stdout + done.stderr


def test_snakefmt_leaves_all_files_unchanged():
    command = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"]
    subprocess.run(command, cwd=ROOT, check=True)


def test_both_entry_points_plan_the_same_jobs(tree):
    jobs = planned(tree)
    assert rules_of(jobs) >= {*STARTS, *CELLS, *COLLECTED}
    assert planned(tree, "--snakefile", "workflow/Snakefile") == jobs


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
    assert not re.search(r"^    retries:|gpu=|mem_mb=", rules, re.M)
    for section in ("set-resources", "set-threads", "groups"):
        for rule in profile(name).get(section, {}):
            assert f"rule {rule}:" in rules, (section, rule)


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        ("plan", set()),
        ("interim", set()),
        ("corpora", {"fetch_corpus", "prepare_corpus"}),
        ("pretrain_teacher", STARTS),
        (  # the control that is never pretrained has a backbone to be drawn
            "finetune_teacher",
            STARTS | {"finetune_one_teacher"},
        ),
        ("exports", STARTS | {"compress", "finetune", "export"}),
        ("leaderboard", {*STARTS, *CELLS, *TABLES, "report"}),
        ("tables", {*STARTS, *CELLS, *TABLES}),
        ("figures", {*STARTS, *CELLS, *TABLES, "plot"}),
    ],
)
def test_named_targets(tree, target, rules):
    assert rules_of(planned(tree, target)) == rules | {target}


def test_config_mistakes_end_planning_without_a_traceback(tree):
    file = tree / "config" / "config.yaml"
    file.write_text(file.read_text().replace("[low_rank]", "[lowrank]") + "profil: {}\n")
    done = run_snakemake(tree, "--cores", "1", check=False)
    assert done.returncode == 1
    assert "The config has 2 problems:" in done.stderr
    assert "did you mean 'low_rank'?" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_yaml_mistake_is_named_with_its_line(tree):
    append(tree / "config" / "config.yaml", "grid: [\n")
    done = run_snakemake(tree, "--dry-run", check=False)
    assert done.returncode == 1
    assert "this is not YAML" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_study_stands_for_itself(tree):
    (tree / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    jobs = planned(tree, "--configfile", "mine.yaml")
    assert recipes_of(jobs) == set(STUDY["recipes"])


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


def test_resolved_config_lies_beside_the_results(finished_study):
    resolved = yaml.safe_load((finished_study / "results" / "run_config.yaml").read_text())
    assert resolved["profile"]["repeats"] == 7


@pytest.mark.parametrize(
    ("method", "recipes"),
    [
        ("head_pruning", {"heads", "both", "distilled"}),
        ("low_rank", {"low-rank", "both"}),
        ("distillation", {"distilled"}),
        ("identity", {"identity"}),
        ("self_pinching", {"pinched"}),
        ("random_pruning", set()),
    ],
)
def test_an_edited_method_plans_its_own_cells(finished, method, recipes):
    append(method_file(finished, method), "\nEDITED = True\n")
    jobs = planned(finished)
    assert recipes_of(jobs) == recipes
    assert rules_of(jobs) == ({*CELLS, *COLLECTED} if recipes else set())


@pytest.mark.parametrize(
    ("file", "rules"),
    [
        ("compress.py", {*CELLS, *COLLECTED}),
        ("finetune.py", {"finetune", "evaluate", *COLLECTED}),
        ("evaluate.py", {"evaluate", *COLLECTED}),
        ("profile_student.py", {"profile", *COLLECTED}),
        ("analyse.py", {"analyse", *COLLECTED} - {"compare"}),
        ("speech_pareto/diagonality.py", {"analyse", *COLLECTED} - {"compare"}),
        ("compare.py", COLLECTED),
        ("speech_pareto/significance.py", COLLECTED),
        ("aggregate.py", COLLECTED - {"compare"}),
        ("plot.py", {"plot", "all"}),
        ("speech_pareto/figures/fronts.py", {"plot", "report", "all"}),
        ("speech_pareto/figures/layers.py", {"plot", "all"}),
        ("speech_pareto/labels.py", {"plot", "report", "all"}),
        ("speech_pareto/leaderboard.py", COLLECTED - {"compare"}),
        ("report.py", {"report", "all"}),
        ("interim.py", set()),
        ("speech_pareto/recommend.py", {"report", "all"}),
        ("speech_pareto/page/chart.js", {"report", "all"}),
        ("speech_pareto/tasks/ctc.py", {*CELLS, *COLLECTED}),
        ("speech_pareto/digest.py", set()),
        ("speech_pareto/config.py", set()),
        ("speech_pareto/mistakes.py", set()),
        ("speech_pareto/study.py", set()),
    ],
)
def test_edited_code_plans_what_runs_it(finished, file, rules):
    append(finished / "workflow" / "scripts" / file, "\nEDITED = 1;\n")
    assert rules_of(planned(finished)) == rules


@pytest.mark.parametrize("file", ["tuning.py", "task.py", "tasks/ctc.py"])
def test_only_recipes_that_fine_tune_are_compressed_anew_with_the_task(finished, file):
    append(finished / "workflow" / "scripts" / "speech_pareto" / file, "\nEDITED = True\n")
    compressed = {wildcards for rule, wildcards in planned(finished) if rule == "compress"}
    scopes = ("phones", "characters")  # one starts from a fine-tuned teacher, one from the bare one
    pinched = [
        f"teacher=tiny, recipe=pinched, ratio=0.5, seed=1, scope={scope}" for scope in scopes
    ]
    assert compressed == set(pinched)


def test_recipes_that_fine_tune_start_where_their_task_does(finished):
    (finished / "resources" / "teachers" / "tiny" / "model.safetensors").write_bytes(b"new")
    compressed = {wildcards for rule, wildcards in planned(finished) if rule == "compress"}
    pinched = {wildcards for wildcards in compressed if "recipe=pinched" in wildcards}
    assert {wildcards.rpartition("scope=")[2] for wildcards in pinched} == {"characters"}


def test_a_comment_plans_nothing(finished):
    for file in (finished / "workflow" / "scripts").rglob("*.py"):
        if file.stat().st_size:
            append(file, "\n# a comment\n")
    assert planned(finished) == set()


def test_a_fresh_clone_plans_nothing(finished):
    for folder in ("workflow", "config", "resources", "envs"):
        for path in [finished / folder, *(finished / folder).rglob("*")]:
            os.utime(path)
    assert planned(finished) == set()


def test_a_changed_teacher_plans_all_that_starts_from_it(finished):
    (finished / "resources" / "teachers" / "tiny" / "model.safetensors").write_bytes(b"new")
    jobs = planned(finished)
    assert {
        w for rule, w in jobs if "scope=phones" in w or "task=phones" in w and rule != "plot"
    } == set()
    assert any("scope=any" in wildcards for _, wildcards in jobs)


@pytest.mark.parametrize(
    ("path", "value", "recipes", "rules"),
    [
        (["study"], "renamed", set(), set()),
        (["corpora", "prompts", "mirror"], "elsewhere", set(), set()),
        (["recipes", "new"], ["ffn_pruning"], {"new"}, {*CELLS, *COLLECTED}),
        (["grid", 0, "recipes"], ["identity", "heads"], set(), COLLECTED),
        (["profile"], {"repeats": 3}, None, {"profile", *COLLECTED}),
        (["tasks", "phones", "metric"], "per", set(), set()),
        (["tasks", "phones", "student", "steps"], 3, None, {"finetune", "evaluate", *COLLECTED}),
        (["tasks", "phones", "teacher", "steps"], 3, set(), set()),  # the shipped one is used
        (["figures", "costs"], ["seconds", "parameters"], set(), {"plot", "all"}),
    ],
)
def test_a_changed_value_plans_what_uses_it(finished, path, value, recipes, rules):
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    *parents, last = path
    node = study
    for key in parents:
        node = node[key]
    node[last] = value
    write_study(finished, study)
    jobs = planned(finished)
    assert rules_of(jobs) == rules
    if recipes is not None:
        assert recipes_of(jobs) == recipes


@pytest.mark.parametrize(
    ("block", "wildcard"),
    [
        ({"ratios": [0.5, 0.75], "seeds": [1]}, "ratio=0.75"),
        ({"ratios": [0.5], "seeds": [1, 2]}, "seed=2"),
    ],
)
def test_a_new_ratio_or_seed_plans_its_cells_only(finished, block, wildcard):
    write_study(finished, STUDY | {"grid": [block]})
    cells = {(rule, w) for rule, w in planned(finished) if rule in CELLS}
    assert cells
    assert all(wildcard in wildcards for _, wildcards in cells)


def test_order_in_the_config_plans_nothing(finished):
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(STUDY.items())
    }
    write_study(finished, turned)
    assert planned(finished) == set()


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
    rules = "".join(path.read_text() for path in folder.glob("*.smk") if path.stem != "common")
    constrained = (folder / "common.smk").read_text()
    for name in re.findall(r"\{(\w+)\}", rules):
        assert f"    {name}=" in constrained
