"""What a row is follows from its columns `role` and `pretrained`, whatever things are called."""

import pytest

import aggregate
import compare
import report
from helpers import synthetic_results
from speech_pareto.reporting import budget, leaderboard
from speech_pareto.reporting.figures import (
    all_tasks,
    fronts,
    head_diagonality,
    layer_similarity,
    probes,
    ratios,
    speedup,
    styles,
)
from speech_pareto.reporting.tables import analysis, comparisons, points, results_table, roles
from speech_pareto.runtime import result
from speech_pareto.study import quantities

# A chain of tables takes seconds; one process makes it.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("roles")]

# teachers and recipes whose names say nothing, or the wrong thing
NAMES = {"tiny": "mein-lehrer", "tiny-random": "zufall", "identity": "nothing-done"}
NAMES |= {"random-pruning": "baseline", "layer-drop": "shorter"}
NAMES |= {"low-rank": "identity", "distillation": "random-crop", "ffn-pruning": "layer-drop"}


@pytest.fixture(scope="module")
def renamed(tmp_path_factory):
    """Return the folder of the synthetic grid's results with other names."""
    folder = tmp_path_factory.mktemp("grid")
    metrics, profiles = synthetic_results.write(folder)
    synthetic_results.write_hypotheses(metrics)
    synthetic_results.write_analyses(profiles)
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        kind, teacher, recipe, *rest = file.relative_to(folder).parts
        own = NAMES.get(teacher, teacher), NAMES.get(recipe, recipe)
        other = folder / "results" / kind / own[0] / own[1] / "/".join(rest)
        other.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".json":
            value = result.read(file)
            value["run"] |= dict(zip(("teacher", "recipe"), own, strict=True))
            result.write(other, value)
        else:
            file.rename(other)
    return folder / "results"


@pytest.fixture(scope="module")
def made(renamed):
    """Return the tables of those results, by the chain of `aggregate`, `compare` and `report`."""
    found = [
        sorted((renamed / kind).rglob("*.json")) for kind in ("metrics", "profile", "analysis")
    ]
    metrics, profiles, analyses = found
    tables = renamed / "tables"
    cells, compared = tables / "results.parquet", tables / "comparisons.parquet"
    beside = [tables / name for name in ("fronts.csv", "pairs.csv", "examples.json")]
    aggregate.main(metrics, profiles, cells, tables / "results.csv")
    aggregate.gather(analyses, metrics, tables / "analysis.parquet", tables / "analysis.csv")
    hypotheses = [file.with_suffix(".tsv") for file in metrics]
    compare.main(cells, hypotheses, compared, tables / "comparisons.csv", *beside)
    report.main(cells, compared, *beside, [tables / "front.txt", renamed / "report.html"])
    return tables


def points_of(tables, names):
    """Return a study's points by task, teacher, recipe and ratio; `names` are undone."""
    plain = {other: name for name, other in names.items()}
    found = {}
    for point in points.read(tables / "results.parquet")["points"]:
        for part in ("values", "text"):
            del point[part]["exported_memory"]  # no file of the renamed students was measured
        point["front"] = [cost for cost in point["front"] if cost != "exported_memory"]
        own = [plain.get(point[name], point[name]) for name in ("teacher", "recipe")]
        found[point["task"], *own, point["ratio"]] = point
    return found


@pytest.mark.slow
def test_names_change_nothing_but_themselves(tables, made):
    usual, other = points_of(tables, {}), points_of(made, NAMES)
    assert usual.keys() == other.keys()
    for key, point in usual.items():
        for what in ("role", "kind", "front", "status", "as_good", "values", "text"):
            assert other[key][what] == point[what], (key, what)


def test_kinds_of_points(made):
    kinds = {(p["teacher"], p["recipe"]): p["kind"] for p in points_of(made, {}).values()}
    assert kinds["mein-lehrer", "nothing-done"] == "teacher"
    assert kinds["zufall", "nothing-done"] == "control"
    assert kinds["mein-lehrer", "baseline"] == kinds["mein-lehrer", "shorter"] == "control"
    for recipe in ("identity", "random-crop", "layer-drop", "weight-pruning"):
        assert kinds["mein-lehrer", recipe] == "student"


@pytest.mark.slow
def test_text_and_page_name_the_teacher(made):
    front = (made / "front.txt").read_text()
    assert "teacher (mein-lehrer)" in front and "nothing-done" not in front
    assert "zufall" not in front and "  identity " in front
    study = points.read(made / "results.parquet")
    best = budget.choose(study, [budget.Limit("max", "parameters", 3.5e6)], "phones")
    assert {point["kind"] for point in best} == {"student"}
    said = budget.text(study, [], "phones")
    assert "The teacher (mein-lehrer), within this budget" in said


def words(figure):
    """Return all that is written on a figure."""
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [text.get_text() for text in texts]


def test_figures_draw_what_things_are(made):
    cells = results_table.read(made / "results.parquet")
    compared = results_table.read(made / "comparisons.parquet")
    summary, recipes = results_table.summarise(cells, compared), roles.roles_of(cells)
    style = styles.styles(recipes)
    assert style["nothing-done"] == (styles.INK, "*")
    assert {style[name][0] for name in ("baseline", "shorter")} == {styles.GREY}
    assert styles.GREY not in {style[name][0] for name in ("identity", "layer-drop")}
    front = words(fronts.pareto(summary, "phones", "seconds", recipes))
    assert any(text.startswith("teacher (mein-lehrer)  ") for text in front)
    assert any(text.startswith("zufall, not pretrained  ") for text in front)
    assert "with identity" in front[0] or "with random-crop" in front[0]
    drawn = words(all_tasks.tasks(summary, "seconds", recipes))
    assert "teacher" in drawn and "nothing-done" not in drawn
    for draw in (ratios.draw, speedup.draw):
        named = words(draw(summary, "phones", recipes))
        assert "identity" in named and "nothing-done" not in named
    rows = results_table.read(made / "analysis.parquet")
    inside = analysis.students_of(rows, cells, "phones")
    titles = [axes.get_title() for axes in layer_similarity.draw(inside, "phones", recipes).axes]
    assert titles[0] == "teacher\nmein-lehrer, 1.00"
    assert (
        "keeps the more diagonal heads"
        in words(head_diagonality.draw(inside, "phones", recipes))[0]
    )


def test_a_probe_of_a_teacher_that_was_never_pretrained(made):
    files = {}
    for teacher, pretrained in (("mein-lehrer", True), ("zufall", False)):
        run = {"teacher": teacher, "recipe": "nothing-done", "ratio": 0.0, "seed": 1, "task": "pr"}
        run |= {"role": "teacher", "pretrained": pretrained}
        files[teacher] = {"run": run, "layer_weights": [0.4, 0.6]}
    rows = analysis.probes_of(analysis.build({}, files), "pr")
    said = words(probes.probes(rows, "pr", {"nothing-done": "teacher"}))
    assert {"teacher (mein-lehrer)", "zufall, not pretrained"} <= set(said)


def test_what_is_missing_is_named(made):
    cells = results_table.read(made / "results.parquet")
    files = {file: file.replace(".json", ".tsv") for file in cells["metrics_file"]}
    students = cells[cells["role"] != "teacher"]
    reasons = comparisons.build(students, files)[0].query("status == 'no_teacher'")["reason"]
    assert set(reasons) == {"the study has no recipe that leaves mein-lehrer as it is"}
    orphans = cells[(cells["role"] != "teacher") | (cells["teacher"] == "zufall")]
    reasons = comparisons.build(orphans, files)[0].query("status == 'no_teacher'")["reason"]
    assert set(reasons) == {"the study has no nothing-done of mein-lehrer"}


def test_a_damaged_file_leaves_its_row_what_it_is(renamed):
    folder = renamed
    metrics = sorted((folder / "metrics").rglob("*.json"))
    profiles = sorted((folder / "profile").rglob("*.json"))
    values = results_table.read_results(metrics)
    lost = next(f for f in values if "mein-lehrer/shorter/0.25/1/phones" in f)
    values[lost]["run"] = {
        k: v for k, v in values[lost]["run"].items() if k not in ("role", "pretrained")
    }
    values[lost] |= {"status": "damaged", "reason": "not readable"}
    for costs in (results_table.read_results(profiles), {}):
        cells = results_table.build(values, costs)
        row = cells[cells["metrics_file"] == lost].iloc[0]
        assert (row["role"], bool(row["pretrained"])) == ("control", True)
    alone = results_table.build({lost: values[lost]}, {})
    assert results_table.summarise(alone)["kind"].to_list() == ["student"]
    assert "0 of 1 cells done, 1 damaged" in leaderboard.front_text(alone)


def test_no_control_is_on_a_front(made):
    summary = results_table.summarise(results_table.read(made / "results.parquet"))
    for cost in quantities.main_axes():
        assert set(summary.loc[summary[f"front_{cost}"], "kind"]) <= {"teacher", "student"}
        assert summary[f"front_{cost}"].any()
