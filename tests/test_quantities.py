"""A number by which students are compared is one entry: then it has a front, a figure, a budget."""

import inspect
import re

import pytest

from helpers import synthetic_results
from helpers.commands import command
from speech_pareto.commands.studies import with_limits
from speech_pareto.reporting import budget, documents
from speech_pareto.reporting.figures import all_tasks, fronts
from speech_pareto.reporting.page import page
from speech_pareto.reporting.tables import comparisons, points, results_table
from speech_pareto.runtime import formatting, result
from speech_pareto.study import config, quantities, validation
from speech_pareto.study.quantities import Axis, Quantity

pytestmark = pytest.mark.slow  # each draws all figures

ENERGY = Quantity(
    "energy_joules",
    "energy",
    {"mJ": 1e-3, "J": 1.0},
    lambda joules: f"{formatting.three_digits(joules)} J",
    Axis(label="energy for {speech}", panel="energy", short="energy", front="energy"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the synthetic grid's metrics, hypotheses and profiles, each with its energy."""
    metrics, profiles = synthetic_results.write(tmp_path_factory.mktemp("grid"))
    for file in profiles:
        value = result.read(file)
        if value["status"] == "ok":
            clock = value["cost"]["wall_clock"]
            # a student that is slow but sparing: ffn pruning
            sparing = 0.2 if value["run"]["recipe"] == "ffn-pruning" else 1.0
            busy = clock["teacher_seconds"] / synthetic_results.SECONDS  # what others do counts too
            energy = 20 * busy * sparing / clock["speedup"]
            clock |= {"energy_source": "RAPL", "energy_joules": energy}
            clock["teacher_energy_joules"] = 20 * busy
            result.write(file, value)
    return metrics, synthetic_results.write_hypotheses(metrics), profiles


@pytest.fixture
def built(files, monkeypatch):
    """Return the table of cells, its comparisons and fronts, where energy is a quantity."""
    monkeypatch.setitem(quantities.QUANTITIES, "energy", ENERGY)
    metrics, hypotheses, profiles = files
    cells = results_table.build(*map(results_table.read_results, (metrics, profiles)))
    beside = dict(zip(map(str, metrics), map(str, hypotheses), strict=True))
    return cells, comparisons.build(cells, beside)


def test_a_new_axis_has_a_front_a_figure_and_a_budget(built):
    cells, compared = built
    summary = results_table.summarise(cells, compared[0])
    on_front = summary[summary["front_energy"] & (summary["task"] == "phones")]
    assert "ffn-pruning" in set(on_front["recipe"])
    assert "random-pruning" not in set(on_front["recipe"])
    drawn = compared[1].query("task == 'phones' and cost == 'energy' and on_front")
    assert sorted(drawn["cost_value"]) == sorted(on_front["energy_joules"])

    figure = fronts.pareto(summary, "phones", "energy")
    assert figure.axes[0].get_xlabel() == "energy for 10 s of speech on 1 CPU thread"
    assert re.search(
        "of the energy: .* % PER with ffn-pruning, teacher", figure.texts[0].get_text()
    )
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert "10 J" in ticks
    line = next(x for x in figure.axes[0].lines if x.get_drawstyle() == "steps-post")
    assert sorted(line.get_xdata()) == sorted(on_front["energy_joules"])
    together = all_tasks.tasks(summary, "energy", synthetic_results.ROLES)
    assert together.texts[-3].get_text() == "All tasks: score against energy"

    study = points.study(cells, *compared)
    options = inspect.signature(with_limits(lambda **limits: None)).parameters
    assert "max_energy" in options
    limits = budget.read({"max_energy": "5000 mJ"})
    assert limits == [budget.Limit("max", "energy", 5.0)]
    chosen = budget.choose(study, limits, "phones")
    assert chosen and {point["recipe"] for point in chosen} == {"ffn-pruning"}


def test_a_new_axis_is_in_every_document(built):
    cells, compared = built
    texts = documents.written(cells, *compared, examples=None)
    assert re.search("ffn-pruning .*energy", texts["front.txt"])
    assert ",front_energy" in texts["leaderboard.csv"].splitlines()[0]
    for part in ('"energy":{"short":"energy","label":"energy for {speech}"', '"energy":"energy"',
                 '"label":"energy at most"', '"energy":{"mJ":0.001,"J":1.0}'):  # fmt: skip
        assert part in texts["report.html"], part


def test_a_study_may_ask_for_it(built):
    assert not [line for line in problems(["energy", "bytes"]) if "cost" in line]


def test_what_is_no_axis_is_refused():
    (line,) = (line for line in problems(["heat"]) if "cost" in line)
    known = "parameters, macs_per_second, seconds, bytes, peak_memory_bytes, latency, energy, "
    known += "exported_memory"
    assert line.startswith("figures.costs: unknown cost 'heat'") and line.endswith(f"{known}.")


def problems(costs):
    """Return what is wrong with a config that has these costs of figures, and nothing else."""
    return validation._cross_problems({"figures": {"costs": costs}}, config.schema())


def test_memory_is_drawn_where_a_study_asks_for_it(built):
    cells, compared = built
    summary, cost = results_table.summarise(cells), "peak_memory_bytes"
    figure = fronts.pareto(summary, "phones", cost)
    assert any(text.get_text().endswith("MB") for text in figure.axes[0].get_xticklabels())
    assert summary[f"front_{cost}"].any()
    assert cost not in set(compared[1]["cost"])
    assert cost not in page.messages(cells)["phones"]


def test_latency_is_drawn_where_a_study_asks_for_it(built):
    """Who hears the whole stands where the recording ends; old tables have no such column."""
    cells, _ = built
    assert not results_table.summarise(cells)["front_latency"].any()
    seconds = cells["recipe"].map({"low-rank": 0.165}).fillna(10.0)
    summary = results_table.summarise(cells.assign(latency=seconds))
    figure = fronts.pareto(summary, "phones", "latency")
    assert figure.axes[0].get_xlabel() == "algorithmic latency"
    assert figure.axes[0].get_xscale() == "log"
    assert any(text.get_text().endswith("ms") for text in figure.axes[0].get_xticklabels())
    assert set(summary.query("front_latency and task == 'phones'")["recipe"]) >= {"low-rank"}


def test_energy_is_an_axis_where_it_was_counted(files):
    metrics, hypotheses, profiles = files
    beside = dict(zip(map(str, metrics), map(str, hypotheses), strict=True))
    cells = results_table.build(*map(results_table.read_results, (metrics, profiles)))
    study = points.study(cells, *comparisons.build(cells, beside))
    by_key = {p["key"]: p for p in study["points"] if p["task"] == "phones"}
    ratio = cells[(cells["recipe"] == "low-rank") & (cells["ratio"] == 0.5)].iloc[0]["speedup"]
    typical = cells.drop_duplicates("profile_file")["teacher_energy_joules"].median()
    one = by_key["low-rank 0.5 of tiny"]
    assert one["values"]["energy"] == pytest.approx(typical / ratio, rel=0.05)
    assert "energy" in by_key["ffn-pruning 0.25 of tiny"]["front"]
    told = page.write(study, cells)
    assert '"energy":{"short":"energy"' in told and '"exported_memory":{"short"' not in told
    untold = cells.assign(energy_joules=float("nan"))
    study = points.study(untold, *comparisons.build(untold, beside))
    assert '"energy":{"short"' not in page.write(study, untold)
    figure = fronts.pareto(results_table.summarise(untold), "phones", "energy")
    assert "it was not measured" in figure.texts[1].get_text()


def test_memory_of_exported_files_is_an_axis_where_they_were_measured(tables, capsys):
    study = points.read(tables / "results.parquet")
    known = {p["key"]: p["values"]["exported_memory"] for p in study["points"]}
    assert {key for key, value in known.items() if value} == {
        "low-rank 0.5 of tiny",
        "distillation 0.75 of tiny",
    }
    assert known["low-rank 0.5 of tiny"] == 40_000_000
    assert '"exported_memory":{"short"' in (tables.parent / "report.html").read_text()
    most = ["--max-exported-memory", "50MB", "--table", tables / "results.parquet"]
    command("recommend", "--task", "phones", *most)
    assert "low-rank" in capsys.readouterr().out
    command("recommend", "--task", "phones", "--condition", "noisy", *most)
    assert "low-rank" in capsys.readouterr().out
