"""Figures: the same bytes every time, one style per method, all that a reader needs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aggregate
import plot
from helpers import synthetic_results
from helpers.checkout import ROOT
from helpers.figures import words
from speech_pareto.reporting.figures import all_tasks as side_by_side
from speech_pareto.reporting.figures import (
    canvas,
    fronts,
    head_diagonality,
    layer_similarity,
    layers,
    ratios,
    search_progress,
    speedup,
    styles,
)
from speech_pareto.reporting.figures import published_fronts as systems
from speech_pareto.reporting.figures.styles import GREY, INK, STYLES
from speech_pareto.reporting.tables import analysis, published_scores, results_table
from speech_pareto.study import figures as study_figures
from speech_pareto.study import quantities
from speech_pareto.study.views import VIEWS

SCRIPTS = Path(plot.__file__).parent
ROLES = synthetic_results.ROLES
SCORES = ["score", "valid_score"]
ALWAYS = [*quantities.main_axes(), "peak_memory_bytes"]  # others are of some studies alone
PUBLISHED = ROOT / "resources" / "published.csv"


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """Return the path of the synthetic grid's table."""
    folder = tmp_path_factory.mktemp("grid")
    files = synthetic_results.write(folder)
    aggregate.main(*files, folder / "r.parquet", folder / "r.csv")
    analyses = synthetic_results.write_analyses(files[1])
    aggregate.gather(analyses, files[0], folder / "analysis.parquet", folder / "analysis.csv")
    return folder / "r.parquet"


@pytest.mark.slow
def test_the_same_bytes_twice_also_in_a_new_process(parquet, tmp_path):
    drawn = [kind for kind, view in VIEWS.items() if view.reads in ("summary", "students")]
    kinds = ("seconds", *drawn, "published")
    formats = dict.fromkeys(kinds, ["svg"]) | {"seconds": canvas.FORMATS}  # alike for all kinds
    files = {kind: [tmp_path / f"{kind}.{suffix}" for suffix in formats[kind]] for kind in kinds}
    analyses, known = str(parquet.with_name("analysis.parquet")), str(PUBLISHED)
    for kind in kinds:
        plot.main(parquet, "phones", kind, files[kind], None, analyses, known)
    again = {kind: [str(file.with_stem(f"{kind}2")) for file in files[kind]] for kind in kinds}
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import plot\n"
        f"for kind, files in {again!r}.items():\n"
        f"    plot.main({str(parquet)!r}, 'phones', kind, files, None, {analyses!r}, {known!r})\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    for kind in kinds:
        for a, b in zip(files[kind], again[kind], strict=True):
            assert a.read_bytes() == Path(b).read_bytes(), a.name
            assert len(a.read_bytes()) > 5000
        assert b"<dc:date>" not in files[kind][0].read_bytes()
    pdf = next(file for file in files["seconds"] if file.suffix == ".pdf")
    assert b"CreationDate" not in pdf.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["phones", "characters"])
@pytest.mark.parametrize("cost", ALWAYS)
def test_a_figure_says_what_it_shows(parquet, task, cost):
    figure = fronts.pareto(results_table.summarise(results_table.read(parquet)), task, cost)
    text = words(figure)
    for recipe in synthetic_results.RECIPES:
        assert recipe in text
    assert "lower is better" in text
    assert f"teacher (tiny)  {synthetic_results.TEACHER_SCORE[task]} %" in text
    assert "tiny-random, not pretrained" in text
    assert "head-pruning (at most −26 %)" in text
    assert "head-pruning: infeasible at 0.5, 0.75; reaches 0.26" in text
    assert "up to 3 seeds" in text
    assert "weight-pruning (zeros)" in text
    assert ("non-zero parameters" in text) == (cost == "parameters")


@pytest.mark.slow
def test_the_front_line_goes_through_the_front(parquet):
    summary = results_table.summarise(results_table.read(parquet))
    figure = fronts.pareto(summary, "phones", "macs_per_second")
    rows = summary[(summary["task"] == "phones") & summary["front_macs_per_second"]]
    line = next(x for x in figure.axes[0].lines if x.get_drawstyle() == "steps-post")
    expected = rows.sort_values("macs_per_second")[["macs_per_second", "score"]].to_numpy()
    assert np.allclose(line.get_xydata(), expected)
    assert (np.diff(expected[:, 1]) < 0).all()


def test_zeros_are_hollow_and_stand_at_their_non_zeros(parquet):
    summary = results_table.summarise(results_table.read(parquet))
    figure = fronts.pareto(summary, "phones", "parameters")
    rows = summary[summary["sparse"] & (summary["task"] == "phones")]
    hollow = [
        line for line in figure.axes[0].lines if line.get_marker() == STYLES["weight-pruning"][1]
    ]
    assert {line.get_markerfacecolor() for line in hollow} == {"white"}
    found = sorted(float(line.get_xdata()[0]) for line in hollow)
    assert found == sorted(rows["nonzero_parameters"])


@pytest.mark.slow
def test_a_ring_marks_no_significant_increase(parquet):
    cells = results_table.read(parquet)
    students = results_table.summarise(cells).query("recipe != 'identity'")
    numbers = {"difference": 1.0, "difference_low": 0.0, "difference_high": 2.0}
    rows = students[results_table.GROUP].assign(**numbers, significant=True)
    summary = results_table.summarise(cells, rows)
    assert "ring" not in words(fronts.pareto(summary, "phones", "seconds"))
    rows.loc[(rows["recipe"] == "low-rank") & (rows["ratio"] == 0.25), "significant"] = False
    summary = results_table.summarise(cells, rows)
    figure = fronts.pareto(summary, "phones", "seconds")
    assert "ring: no significant increase in errors over the teacher" in words(figure)
    rings = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    expected = summary[summary["as_good"] & (summary["task"] == "phones")]["paired_seconds"]
    assert [line.get_xdata()[0] for line in rings] == expected.to_list()


def test_controls_are_grey_and_teachers_black():
    found = styles.styles({"mine": "control", "layer-drop": "control", "as-it-is": "teacher"})
    assert {found["mine"][0], found["layer-drop"][0]} == {GREY}
    assert found["as-it-is"] == (INK, "*")
    named = styles.styles({"layer-drop": "student", "identity": "student"})
    assert {colour for colour, _ in named.values()}.isdisjoint({GREY, INK})


def test_scores_above_100_are_clipped_and_named(parquet):
    cells = results_table.read(parquet)
    cells.loc[(cells["recipe"] == "random-pruning") & (cells["ratio"] == 0.75), "score"] = 118.0
    figure = fronts.pareto(results_table.summarise(cells), "phones", "parameters")
    assert "↑ 118 %" in words(figure)
    assert figure.axes[0].get_ylim()[1] < 110


def grid_of(cells: pd.DataFrame, **values) -> pd.DataFrame:
    """Return a copy of some cells with columns replaced."""
    return cells.assign(**values)


@pytest.mark.slow
def test_two_teachers_on_a_log_axis_higher_is_better(parquet):
    cells = results_table.read(parquet)
    base = cells[cells["teacher"] == "tiny"]
    base = grid_of(
        base,
        teacher="base",
        parameters=base["parameters"] * 24,
        nonzero_parameters=base["nonzero_parameters"] * 24,
        **{name: base[name] / 2 for name in SCORES},
    )
    both = pd.concat([cells, base], ignore_index=True)
    turned = {name: 100 - both[name] for name in SCORES}
    both = grid_of(both, **turned, better="higher", metric="accuracy")
    figure = fronts.pareto(results_table.summarise(both), "phones", "parameters")
    assert figure.axes[0].get_xscale() == "log"
    assert "higher is better" in words(figure)
    assert "teacher (base)" in words(figure)


def test_a_lonely_teacher(parquet):
    cells = results_table.read(parquet)
    cells = cells[(cells["recipe"] == "identity") & (cells["teacher"] == "tiny")]
    assert "PER against time" in words(
        fronts.pareto(results_table.summarise(cells), "phones", "seconds")
    )


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_no_control_is_on_a_front_or_in_a_headline(parquet, better):
    """However good it is: a control is no method to use."""
    cells = results_table.read(parquet)
    cells = cells[cells["task"] == "phones"].copy()
    controls = cells["recipe"].isin(["layer-drop", "random-pruning"]) & (cells["ratio"] == 0.5)
    controls |= (cells["teacher"] == "tiny-random") & (cells["recipe"] == "identity")
    cells.loc[controls, SCORES] = 1.0
    if better == "higher":
        turned = {name: 100 - cells[name] for name in SCORES}
        cells = cells.assign(**turned, better=better)
    summary = results_table.summarise(cells)
    for cost in quantities.main_axes():
        front = summary[summary[f"front_{cost}"]]
        assert {"layer-drop", "random-pruning"}.isdisjoint(front["recipe"])
        assert set(front["teacher"]) == {"tiny"} and len(front) > 2
        text = fronts.pareto(summary, "phones", cost).texts[0].get_text()
        assert not any(name in text for name in ("layer-drop", "random", "identity")), text


@pytest.mark.slow
def test_a_teacher_without_any_student_has_its_figure(parquet):
    cells = results_table.read(parquet)
    for recipes in (["identity"], ["identity", "layer-drop"]):
        some = cells[cells["recipe"].isin(recipes)]
        for cost in ALWAYS:
            text = fronts.pareto(results_table.summarise(some), "phones", cost).texts[0].get_text()
            assert "PER against" in text
    failed = cells[cells["task"] == "phones"].copy()
    failed.loc[failed["recipe"] != "identity", "status"] = "diverged"
    assert fronts.message(results_table.summarise(failed), "phones", "parameters")


@pytest.mark.parametrize("share,winner", [(0.606, "distillation"), (0.604, "low-rank")])
def test_the_headline_takes_60_percent_as_printed_and_ties_left_off_the_front(
    parquet, share, winner
):
    cells = results_table.read(parquet)
    cells = cells[cells["task"] == "phones"].copy()
    whole = cells.loc[cells["recipe"] == "identity", "macs_per_second"].max()
    for recipe, part, score in (("distillation", 0.595, 2.0), ("low-rank", share, 1.0)):
        chosen = (cells["recipe"] == recipe) & (cells["ratio"] == 0.5)
        cells.loc[chosen, ["macs_per_second", *SCORES]] = part * whole, score, score
    summary = results_table.summarise(cells)
    rows = summary.set_index(["recipe", "ratio"])["front_macs_per_second"]
    assert rows["low-rank", 0.5] and not rows["distillation", 0.5]
    message = fronts.pareto(summary, "phones", "macs_per_second").texts[0].get_text()
    assert f"60 % of the MACs: {2 if winner == 'distillation' else 1}.0 %" in message
    assert f"with {winner}," in message


def test_zeros_have_no_headline_over_parameters(parquet):
    cells = results_table.read(parquet)
    cells.loc[(cells["recipe"] == "weight-pruning") & (cells["ratio"] == 0.5), SCORES] = 1.0
    summary = results_table.summarise(cells)
    assert summary.loc[summary["recipe"] == "weight-pruning", "front_parameters"].any()
    message = fronts.pareto(summary, "phones", "parameters").texts[0].get_text()
    assert "weight-pruning" not in message


@pytest.mark.slow
def test_plain_errors(parquet, tmp_path):
    with pytest.raises(ValueError, match="'phone' is not in the table, which has characters, phon"):
        plot.main(parquet, "phone", "seconds", [])
    with pytest.raises(ValueError, match="'size' is not one of parameters"):
        plot.main(parquet, "phones", "size", [])
    with pytest.raises(ValueError, match="written as svg, pdf, png"):
        plot.main(parquet, "phones", "seconds", [tmp_path / "a.gif"])
    cells = results_table.read(parquet)
    holes = results_table.summarise(cells[cells["status"] != "ok"])
    with pytest.raises(ValueError, match="no cell with both a score and parameters"):
        fronts.pareto(holes, "phones", "parameters")


@pytest.fixture(scope="module")
def students(parquet):
    """Return what was seen inside the students that do phones."""
    return analysis.students_of(
        results_table.read(parquet.with_name("analysis.parquet")),
        results_table.read(parquet),
        "phones",
    )


def test_layers_show_what_is_left_of_each(students):
    left = layers.shares(students)
    assert not any(recipe == "identity" for _, recipe, _ in left)
    half = left["tiny", "layer-drop", 0.5]
    assert half["rows"][:2].tolist() == [1, 1] and np.isnan(half["rows"][2:]).all()
    zeros = left["tiny", "weight-pruning", 0.5]
    assert zeros["heads"].tolist() == [1] * 4
    assert zeros["weights"].tolist() == [0.55] * 4
    assert left["tiny", "head-pruning", 0.25]["number"].tolist() == [3] * 4
    figure = layers.draw(students, "phones", ROLES)
    assert [axes.get_title() for axes in figure.axes] == list(layers.PANELS.values())
    assert "weight-pruning −50 %" in [text.get_text() for text in figure.axes[0].get_yticklabels()]
    whole = students[students["recipe"] == "identity"]
    assert "no student lost" in words(layers.draw(whole, "phones", ROLES))


def test_diagonality_of_heads_kept_and_removed(students):
    heads = head_diagonality.heads_of(students, "row_normalised")
    assert set(heads["recipe"]) >= {"identity", "head-pruning"} and len(heads) % 16 == 0
    assert "layer-drop" not in set(heads["recipe"])  # which layer is which is not known
    pruned = heads[heads["recipe"] == "head-pruning"]
    assert pruned.groupby("kept").size().to_dict() == {True: 12, False: 4}
    assert pruned.loc[~pruned["kept"], "head"].unique().tolist() == [3]
    figure = head_diagonality.draw(students, "phones", ROLES)
    title = figure.texts[0].get_text()
    assert title == "head-pruning keeps the more diagonal heads: 0.82 kept, 0.61 removed"
    assert "row-normalised diagonality" in words(figure)
    whole = students[students["recipe"] == "identity"]
    figure = head_diagonality.draw(whole, "phones", ROLES)
    assert figure.axes[1].get_title() == "no student lost a head"


def test_similarity_has_a_map_per_recipe_nearest_first(students):
    maps = layer_similarity.maps_of(students)
    assert {key[1] for key in maps} == {"identity", *synthetic_results.RECIPES}
    assert maps["tiny", "layer-drop", 0.25].shape == (4, 5)
    figure = layer_similarity.draw(students, "phones", ROLES)
    assert figure.axes[0].get_title() == "teacher\ntiny, 1.00"
    assert len([axes for axes in figure.axes if axes.get_title()]) == len(maps) + 1  # and the scale


def test_ratio_curves_and_speed_ups_name_every_recipe(parquet):
    summary = results_table.summarise(results_table.read(parquet))
    for draw in (ratios.draw, speedup.draw):
        figure = draw(summary, "phones", ROLES)
        texts = [text for text in figure.axes[0].texts if text.get_text() not in ("", "ideal")]
        assert {text.get_text() for text in texts} == set(synthetic_results.RECIPES)
        heights = sorted(text.xy[1] for text in texts)
        size = figure.get_size_inches()[1] * figure.axes[0].get_position().height
        assert min(np.diff(heights)) * size * 72 > texts[0].get_fontsize() * 1.3  # apart
    lonely = summary[summary["recipe"] == "identity"]
    assert "no student" in words(ratios.draw(lonely, "phones", ROLES))
    assert "no student" in words(speedup.draw(lonely, "phones", ROLES))


def test_a_search_is_drawn_beside_the_grid(parquet):
    summary = results_table.summarise(results_table.read(parquet))
    rows = summary[(summary["task"] == "phones") & (summary["role"] == "student")]
    rows = rows[rows["valid_score"].notna() & rows["macs_per_second"].notna()]
    dearest = float(summary["macs_per_second"].max())
    own = rows.iloc[[0, -1]]
    pool = [
        {"recipe": row.recipe, "ratio": f"{row.ratio:g}", "macs_per_second": row.macs_per_second}
        | {"rung": 1, "error": row.valid_score}
        | {"expected": dict(zip(("error", "low", "high"), (30, 28, 33), strict=True))}
        for row in own.itertuples()
    ]
    pool.append({**pool[0], "recipe": "other", "rung": None, "error": None})
    found = {"task": "phones", "cost": "macs_per_second", "better": "lower", "worst": 100.0}
    found |= {"steps": [1, 3], "dearest": {"macs_per_second": dearest}, "ended": "budget"}
    found |= {"pool": pool, "front": pool[:2], "rounds": [{"hypervolume": 9.0, "seconds": 360}]}
    figure = search_progress.draw(found, summary)
    assert "2 of 3 candidates in 0.10 foretold hours; it ended as its hours" in words(figure)
    cost, error = own["macs_per_second"].to_numpy(), own["valid_score"].to_numpy()
    strips = np.linspace(0, dearest, 20_001)[:-1]  # counted in another way
    best = np.full(20_000, 100.0)
    for one in range(2):
        best = np.where(strips >= cost[one], np.minimum(best, error[one]), best)
    held = float(words(figure).split("holds ")[1].split(" %")[0])
    assert held == pytest.approx((100 - best).mean(), abs=0.06)
    higher = {**found, "better": "higher"}  # of accuracies, errors are what is left
    assert "the grid" in words(search_progress.draw(higher, summary))


def test_labels_are_spaced_near_their_points():
    assert canvas.spaced([1.0, 5.0], 1.0, 10.0) == [1.0, 5.0]
    assert canvas.spaced([3.0, 3.0, 3.5], 1.0, 10.0) == pytest.approx([2.17, 3.17, 4.17], abs=0.01)
    assert canvas.spaced([0.0, 0.1], 1.0, 10.0) == [0.5, 1.5]
    assert canvas.spaced([9.9, 10.0], 1.0, 10.0) == [8.5, 9.5]
    crowd = canvas.spaced([5.0] * 12, 1.0, 10.0)
    assert np.diff(crowd) == pytest.approx(np.ones(11))


def test_one_method_has_one_colour_in_all_figures(parquet, students):
    summary = results_table.summarise(results_table.read(parquet))
    colour = STYLES["low-rank"][0]
    labels = layers.draw(students, "phones", ROLES).axes[0].get_yticklabels()
    found = {text.get_color() for text in labels if text.get_text().startswith("low-rank")}
    for draw in (ratios.draw, speedup.draw):
        texts = draw(summary, "phones", ROLES).axes[0].texts
        found |= {text.get_color() for text in texts if text.get_text() == "low-rank"}
    assert found == {colour}


def test_all_tasks_stand_side_by_side(parquet, tmp_path):
    summary = results_table.summarise(results_table.read(parquet))
    figure = side_by_side.tasks(summary, "parameters", ROLES)
    assert [axes.get_title() for axes in figure.axes] == ["characters: CER", "phones: PER"]
    assert set(synthetic_results.RECIPES) <= {text.get_text() for text in figure.texts}
    plot.main(parquet, None, "parameters", [tmp_path / "all.png"])
    assert (tmp_path / "all.png").stat().st_size > 5000


def test_published_systems_are_drawn_as_stated_or_hollow():
    known = published_scores.read(PUBLISHED)
    found = published_scores.systems(known, published_scores.PER)
    stated = found.set_index("model").loc["DPHuBERT-960h"]
    assert stated[["params_m", "macs_g", "value"]].tolist() == [23.59, 654.1, 9.67]
    assert set(found["provenance"]) == {"table", "leaderboard", "digitised"}
    figure = systems.published(known, {"dphubert": "student", "mine": "student"})
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert {line.get_markerfacecolor() for line in lines} == {"white"}
    drawn = {line.get_color() for axes in figure.axes for line in axes.lines}
    assert STYLES["dphubert"][0] in drawn
    assert "not comparable" in words(figure)
    assert "no system" in words(systems.published(known[:0], {}))


@pytest.mark.slow
def test_published_scores_stand_beside_those_of_superb_alone(parquet):
    superb = {"kind": "ctc", "corpora": ["read"], "protocol": "probe", "metric": "per"}
    corpora = {"read": {"source": "librispeech"}, "prompts": {"source": "prompts"}}

    def comparable(**other) -> bool:
        return study_figures.comparable({"corpora": corpora, "tasks": {"pr": superb | other}}, "pr")

    assert comparable()
    for other in ({"corpora": ["prompts"]}, {"protocol": "finetune"}, {"metric": "cer"}):
        assert not comparable(**other)
    assert not comparable(corpora=["read", "prompts"])
    known = published_scores.systems(published_scores.read(PUBLISHED), published_scores.PER)
    summary = results_table.summarise(pd.read_parquet(parquet))
    figure = fronts.pareto(summary, "phones", "parameters", None, known)
    assert {"DPHuBERT-960h", "DistilHuBERT-960h"} <= set(words(figure).splitlines())
    right = figure.axes[0].get_xlim()[1]
    assert right > 1e6 * known["params_m"].max()
    assert "published systems" in words(figure)
    alone = fronts.pareto(summary, "phones", "parameters")
    assert "DPHuBERT-960h" not in words(alone)
