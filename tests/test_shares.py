"""Ratios of MACs and of bytes: what a config says of them, and what students then save."""

from pathlib import Path

import pytest
import yaml

import compress as script
from helpers.backbones import backbone
from helpers.checkout import run_snakemake
from helpers.compressing import compress
from helpers.planning import STUDY, write_study
from helpers.results import RUN
from speech_pareto.compression import recipes, targets
from speech_pareto.compression.targets import words
from speech_pareto.models import architecture, latency, storage
from speech_pareto.models.backbone import describe, save
from speech_pareto.models.teachers import TEACHERS
from speech_pareto.profiling import cost
from speech_pareto.reporting import interim
from speech_pareto.runtime.locate import locate
from speech_pareto.runtime.result import read_status
from speech_pareto.study import config as configs
from speech_pareto.study.cells import cells
from speech_pareto.study.shares import located, met, ratio_of

BASE = TEACHERS["hubert-base"].config
GRID = [
    {"recipes": ["identity"], "ratios": [{"macs": 0.4}], "seeds": [1], "tasks": ["phones"]},
    {
        "recipes": ["layers", "weights"],
        "ratios": [0.2, {"macs": 0.4}],
        "seeds": [1],
        "tasks": ["phones"],
    },
]
POOLED = {"recipes": ["pooled"], "ratios": [{"macs": 0.3}], "seeds": [1], "tasks": ["phones"]}
STEPS = {"identity": ["identity"], "layers": ["layer_drop"], "weights": ["weight_pruning"]}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
@pytest.mark.parametrize("name", ["layer_drop", "random_pruning", "low_rank", "distillation"])
def test_at_base_size_a_share_of_macs_is_met(name, share):
    ratio = ratio_of([name], BASE, {"macs": share})
    found = recipes.solve([name], BASE, ratio, {"macs": share})
    assert found.reason is None and ratio == round(ratio, 4) > share  # the stem stays
    assert targets.removed(BASE, found.config, {"macs": share}) == pytest.approx(share, abs=0.01)


def test_a_thin_student_and_a_chain_meet_shares_too():
    for recipe in (["masking_distillation"], [{"channel_pruning": {"ratio": 0.03}}, "layer_drop"]):
        ratio = ratio_of(recipe, BASE, {"macs": 0.6})
        student = recipes.solve(recipe, BASE, ratio, {"macs": 0.6})
        assert student.reason is None
        assert targets.removed(BASE, student.config, {"macs": 0.6}) == pytest.approx(0.6, abs=0.01)


def test_what_cannot_be_met_is_infeasible_in_words(tmp_path):
    save(backbone("hubert"), tmp_path / "teacher")
    recipe, target = ["weight_pruning"], {"macs": 0.5}
    folders = tmp_path / "teacher", [], RUN, tmp_path / "out"
    script.main(recipe, 0.5, 1, *folders, target=target)
    status = read_status(tmp_path / "out")
    assert status["status"] == "infeasible"
    assert status["reason"] == "weight_pruning can remove 0.000 of the MACs, not 0.5"
    assert status["reachable"] is None  # that would be a ratio of parameters
    assert ratio_of(recipe, BASE, target) == 0.5
    most = ratio_of(["head_pruning"], BASE, target)
    heads = recipes.solve(["head_pruning"], BASE, most, target)
    assert heads.reason.startswith("head_pruning can remove 0.2") and most == round(heads.ratio, 4)


@pytest.mark.parametrize(
    "recipe",
    [
        ["identity"],
        ["layer_drop"],
        ["weight_pruning"],
        ["half_precision"],
        ["int8"],
        [{"low_rank": {"ratio": 0.2}}, "int8"],
        [{"head_pruning": {"ratio": 0.05}}, {"ffn_pruning": {"ratio": 0.1}}, "int8"],
    ],
)
def test_planned_bytes_are_those_of_the_stored_weights(recipe, teacher, tmp_path):
    ratio = 0.2 if recipe[0] in ("layer_drop", "weight_pruning") else 0.0
    if "low_rank" in str(recipe) or "head_pruning" in str(recipe):
        ratio = recipes.solve(recipe, describe(teacher), 0.0).ratio
    student, solution = compress(recipe, teacher, ratio)
    save(student, tmp_path)
    file = tmp_path / "model.safetensors"
    with file.open("rb") as stream:
        header = 8 + int.from_bytes(stream.read(8), "little")
    assert storage.stored_bytes(solution.config) == file.stat().st_size - header


def test_bytes_count_what_the_last_step_rounds():
    ratio = ratio_of(["layer_drop", "half_precision"], BASE, {"bytes": 0.75})
    student = recipes.solve(["layer_drop", "half_precision"], BASE, ratio).config
    saved = 1 - 2 * architecture.count(student)["total"] / (4 * architecture.count(BASE)["total"])
    assert saved == pytest.approx(0.75, abs=0.01) and ratio == pytest.approx(0.5, abs=0.02)


def test_planned_macs_are_those_of_the_student():
    teacher = backbone("hubert")
    before = describe(teacher)
    ratio = ratio_of(["layer_drop"], before, {"macs": 0.2})
    student, solution = compress(["layer_drop"], teacher, ratio)
    macs = [cost.macs(model, cost.noise(targets.SECONDS)) for model in (teacher, student)]
    saved = targets.removed(before, solution.config, {"macs": 0.2})
    assert saved == pytest.approx(1 - macs[1] / macs[0], abs=1e-6)


def study(**parts):
    given = {**STUDY, "recipes": STEPS, "grid": GRID, **parts}
    return configs.resolve(yaml.safe_load(yaml.safe_dump(given)))


def test_cells_have_ratios_of_parameters_and_know_their_target():
    found = cells(met(study(), Path("nowhere")))
    known = {(cell.recipe, cell.ratio): cell.target for cell in found}
    assert known["identity", "0"] is None and known["layers", "0.2"] is None
    (layers,) = (cell for cell in found if cell.recipe == "layers" and cell.target)
    assert layers.target == {"macs": 0.4} and 0.3 < float(layers.ratio) < 0.6
    assert known["weights", "0.4"] == {"macs": 0.4} and len(found) == 5
    assert met(study(grid=GRID[:1] + [GRID[1] | {"ratios": [0.2]}]), Path())["grid"][1] == {
        **GRID[1],
        "ratios": [0.2],
    }


def test_what_removes_nothing_may_meet_one_target():
    steps = {**STEPS, "pooled": ["frame_pooling"]}
    found = cells(met(study(recipes=steps, grid=[*GRID, POOLED]), Path("nowhere")))
    (cell,) = (cell for cell in found if cell.recipe == "pooled")
    assert (cell.ratio, cell.target) == ("0", {"macs": 0.3})
    several = POOLED | {"ratios": [{"macs": 0.3}, {"macs": 0.4}]}
    with pytest.raises(
        configs.ConfigError, match="pooled removes nothing, so that it can meet one"
    ):
        met(study(recipes=steps, grid=[*GRID, several]), Path("nowhere"))


def test_a_target_of_what_removes_nothing_is_not_lost():
    steps = {**STEPS, "pooled": ["frame_pooling"]}
    beside = POOLED | {"ratios": [0.5, {"macs": 0.3}]}  # a ratio that does not hold for it
    found = cells(met(study(recipes=steps, grid=[beside]), Path("nowhere")))
    assert [(cell.ratio, cell.target) for cell in found] == [("0", {"macs": 0.3})]
    for other in ({"macs": 0.4}, 0):
        blocks = [POOLED, POOLED | {"ratios": [other]}]
        with pytest.raises(configs.ConfigError, match="pooled removes nothing, .* one target"):
            met(study(recipes=steps, grid=blocks), Path("nowhere"))


def test_what_removes_meets_the_target_and_frames_do_not_change_bytes():
    chain = ["low_rank", "frame_pooling"]
    for target in ({"macs": 0.6}, {"bytes": 0.5}):
        found = recipes.solve(chain, BASE, ratio_of(chain, BASE, target), target)
        assert found.reason is None and found.ratio > 0.1
        assert architecture.section(found.config)["frame_pooling"]["factor"] == 2


def test_a_teacher_that_nobody_knows_yet_is_said():
    teachers = {"far": {"hub": "someone/model", "revision": "0" * 40}}
    grid = [{"ratios": [0.2], "seeds": [1]}, {"ratios": [{"bytes": 0.5}], "seeds": [1]}]
    with pytest.raises(configs.ConfigError, match="far has no known MACs or bytes before") as error:
        met(study(teachers=teachers, grid=grid), Path("nowhere"))
    assert error.value.problems[0].startswith("grid[1].ratios: ")


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ({"mac": 0.5}, "grid[0].ratios[0].mac: unknown key 'mac'; did you mean 'macs'?"),
        ({"macs": 1.5}, "grid[0].ratios[0].macs: 1.5 must be above 0 and below 1."),
        ({"macs": 0.5, "bytes": 0.5}, "must be a share of one cost."),
        ({}, "grid[0].ratios[0]: must not be empty."),
        ({"macs": 0.12345}, "0.12345 must have at most 4 decimals."),
        ({"seconds": 0.5}, "grid[0].ratios[0]: the key 'device' is missing"),
        ({"macs": 0.5, "device": "epyc"}, "ratios[0].device: only a share of 'seconds' has it."),
        (
            {"seconds": 0.5, "device": "epyk-1-threads"},
            "unknown device 'epyk'; did you mean 'epyc'?",
        ),
        ("half", "grid[0].ratios[0]: 'half' must be a number or a mapping."),
    ],
)
def test_mistakes_are_said(ratio, said):
    with pytest.raises(configs.ConfigError) as error:
        study(grid=[{"ratios": [ratio], "seeds": [1]}])
    assert said in str(error.value)


TIMED = {"seconds": 0.5, "device": "epyc"}


def timed(tmp_path, monkeypatch, factor=1.0):
    """Return the study's cells at half of the time on a device whose table lies in a folder."""
    shipped = locate("resources/latency/epyc-1-threads.csv").read_text().splitlines(keepends=True)
    (tmp_path / "latency").mkdir(exist_ok=True)
    rows = [line.rsplit(",", 1) for line in shipped[1:]]
    longer = [f"{sizes},{factor * float(seconds)}\n" for sizes, seconds in rows]
    (tmp_path / "latency/mine-1-threads.csv").write_text("".join([shipped[0], *longer]))
    monkeypatch.chdir(tmp_path)
    latency.read.cache_clear()
    grid = [{"recipes": ["layers"], "ratios": [TIMED | {"device": "mine"}], "seeds": [1]}]
    grid[0]["tasks"] = ["phones"]
    return cells(met(study(grid=grid), tmp_path))


def test_a_share_of_time_on_a_device_is_met():
    target = located(TIMED, {"latency": "latency"})
    assert words(target) == "0.5 of time on epyc-1-threads"
    ratio = ratio_of(["layer_drop"], BASE, target)
    found = recipes.solve(["layer_drop"], BASE, ratio, target)
    table = latency.read(target["table"])
    times = [table.seconds(config, targets.SECONDS) for config in (BASE, found.config)]
    assert found.reason is None and times[1] / times[0] == pytest.approx(0.5, abs=0.01)


def test_a_student_without_a_known_time_is_infeasible_in_words():
    target = located(TIMED, {"latency": "latency"})
    recipe = ["layer_drop", "int8"]
    found = recipes.solve(recipe, BASE, ratio_of(recipe, BASE, target), target)
    said = "no known time on epyc-1-threads: not in the table: weights in int8"
    assert found.reason.startswith(f"layer_drop → int8 has {said}")


def test_another_table_of_the_same_name_is_another_target(tmp_path, monkeypatch):
    (one,), (other,) = (timed(tmp_path, monkeypatch, factor) for factor in (1.0, 2.0))
    assert one.ratio == other.ratio and words(one.target) == words(other.target)
    assert one.target["digest"] != other.target["digest"]


def test_a_teacher_without_a_known_time_is_said(tmp_path, monkeypatch):
    model = {"pretrain": {"corpora": ["prompts"], "iterations": [], "model": {"pos_conv": 31}}}
    grid = [{"recipes": ["layers"], "ratios": [TIMED], "seeds": [1]}]
    with pytest.raises(configs.ConfigError, match="odd has no known time on epyc-1-th"):
        met(study(teachers={"odd": model}, grid=grid), tmp_path)


@pytest.mark.slow
def test_the_plan_names_the_target(tree):
    write_study(tree, {**STUDY, "recipes": STEPS, "grid": GRID})
    done = run_snakemake(tree, "plan", "--cores", "1")
    text = done.stdout
    text = (
        (tree / "results/plan.txt").read_text()
        if (tree / "results/plan.txt").is_file()
        else done.stdout
    )
    assert "(0.4 of MACs)" in text
    assert "weights of tiny at 0.4 (0.4 of MACs): weight_pruning can remove 0.000 of the MACs" in (
        " ".join(text.split())
    )


def test_a_config_is_read_for_interim_tables_as_the_workflow_reads_it(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({**STUDY, "recipes": STEPS, "grid": GRID}))
    read = interim.read_study(file, tmp_path)
    assert cells(read) == cells(met(study(), tmp_path))
    pending = interim._pending(cells(read)[-1], read, "later")
    assert pending["target"] == "0.4 of MACs" and pending["ratio"] == 0.4
