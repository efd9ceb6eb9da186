"""The page: the numbers of the tables, in a real browser, with the command's answers."""

import base64
import csv
import json
import os
import random
import re
from dataclasses import asdict
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from helpers import browser
from speech_pareto.reporting import budget
from speech_pareto.reporting.figures import styles
from speech_pareto.reporting.page import page
from speech_pareto.reporting.tables import exported_files, points, results_table
from speech_pareto.reporting.tables.comparisons import DIFFERENCE
from speech_pareto.reporting.tables.wording import AS_GOOD
from speech_pareto.runtime.formatting import with_interval
from speech_pareto.study.quantities import QUANTITIES, limits, page_axes

PARTS = Path(page.__file__).parent / "assets"
BUDGETS = 400


def embedded(file):
    """Return what a page holds as JSON."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', file.read_text())
    return json.loads(found[1])


@pytest.fixture(scope="module")
def data(tables):
    return embedded(tables.parent / "report.html")


@pytest.fixture(scope="module")
def chromium():
    """Return a headless Chromium; in CI there must be one."""
    try:
        with browser.launched() as launched:
            yield launched
    except RuntimeError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture
def view(chromium, tables):
    """Return a function that opens the page; any complaint or request of it fails the test."""
    contexts, complaints = [], []

    def show(hash="", width=1280, height=1100, scheme="light"):
        size = {"width": width, "height": height}
        contexts.append(chromium.new_context(viewport=size, color_scheme=scheme, offline=True))
        shown = contexts[-1].new_page()
        shown.on("console", lambda message: complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("request", lambda request: urls.append(request.url))
        urls = []
        shown.goto((tables.parent / "report.html").as_uri() + hash)
        assert all(url.startswith(("file:", "data:")) for url in urls)
        return shown

    yield show
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.slow
def test_a_pinned_point_shows_what_it_gets_wrong(view, data):
    task = next(iter(data["tasks"]))
    key, found = next((k, v) for k, v in data["examples"][task].items() if "low-rank" in k)
    shown = view()
    assert not shown.locator("#examples").is_visible()
    shown.locator(f'#chart .point[data-key="{key}"]').dispatch_event("click")
    articles = shown.locator("#examples article").all_inner_texts()
    assert len(articles) == len(found["utterances"]) == 5
    for text, one in zip(articles, found["utterances"], strict=True):
        assert one["id"] in text and one["reference"] in text
    shown.keyboard.press("Escape")
    assert not shown.locator("#examples").is_visible()
    recommended = view("#max-parameters=4e6").locator("#examples article")
    assert recommended.count() == 5


# without a browser


def test_the_page_stands_for_itself(tables):
    text = (tables.parent / "report.html").read_text()
    assert not re.findall(r"https?://(?!www\.w3\.org/)", text)
    assert not re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"(?!data:)", text)
    assert "{{" not in text
    assert len(text) < 300_000


def test_figures_on_the_page_are_images_that_it_holds(tables):
    cells, svg = results_table.read(tables / "results.parquet"), "<svg>&amp;</svg>"
    text = page.write(points.read(tables / "results.parquet"), cells, figures={"a <b>": svg})
    ((what, image),) = re.findall(r'<img alt="(.*?)" src="data:image/svg\+xml;base64,(.*?)">', text)
    assert what == "a &lt;b&gt;" and base64.b64decode(image).decode() == svg


def test_nothing_in_the_data_can_end_the_script():
    nasty = {"reason": "</script><script>alert(1)</script> <!-- "}
    assert "<" not in page.embedded(nasty)
    assert json.loads(page.embedded(nasty)) == nasty


def test_page_tables_and_json_hold_the_same_numbers(data, tables):
    board = pd.read_csv(tables / "leaderboard.csv", keep_default_na=False)
    assert len(board) == len(data["points"])
    with (tables / "comparisons.csv").open() as stream:
        compared = {_name(row): row for row in csv.DictReader(stream)}
    for point in data["points"]:
        row = board[[_name(row) == _name(point) for row in board.to_dict("records")]].iloc[0]
        assert point["text"]["seeds"] == row["done"]
        assert point["status"] == row["status"]
        for name, one in QUANTITIES.items():
            value, printed = point["values"][name], row[one.column]
            assert printed == "" if value is None else float(printed) == value, name
        front = [cost for cost in page_axes() if str(row[f"front_{cost}"]) == "True"]
        assert point["front"] == front
        files = [tables.parent / link["metrics"] for link in point["links"]]
        found = [json.loads(file.read_text()) for file in files]
        scores = [one["metrics"][one["metric"]["name"]] for one in found if one["status"] == "ok"]
        if scores:
            assert point["values"]["score"] == pytest.approx(np.mean(scores), abs=1e-12)
            assert point["text"]["score"].startswith(f"{np.mean(scores):.1f}")
            seconds = point["values"]["seconds"] / 10
            assert point["values"]["rtf"] == pytest.approx(seconds)
        if (other := compared.get(_name(point))) and other["difference"]:
            words = with_interval(*(float(other[name]) for name in DIFFERENCE))
            assert point["text"]["difference"].removesuffix(f" {AS_GOOD}") == words


def _name(row):
    return (row["task"], row["teacher"], row["recipe"], float(row["ratio"]))


def test_leaderboards_agree(tables):
    markdown = [
        re.sub(r"\*\*", "", line).strip("| ").split(" | ")
        for line in (tables / "leaderboard.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| recipe"))
    ]
    text = (tables / "leaderboard.html").read_text()
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr.*?</tr>", text)]
    assert [row for row in rows if row] == markdown
    done = pd.read_csv(tables / "leaderboard.csv")["done"].to_list()
    assert done == [row[13] for row in markdown]
    assert "<script" not in text and "http" not in text


def test_recipes_look_as_in_the_figures(data):
    recipes = {point["recipe"]: point["role"] for point in data["points"]}
    assert data["styles"] == {name: list(style) for name, style in styles.styles(recipes).items()}
    shapes = (PARTS / "chart.js").read_text()
    known = [*styles.STYLES.values(), *styles.OF_CONTROLS.values(), styles.OF_TEACHERS]
    markers = {marker for _, marker in known} | set(styles.MARKERS)
    drawn = re.search(r"const SHAPES = \{(.*?)\n\};", shapes, re.S)[1]
    assert {m for m in markers if re.search(rf'(?:^|[\s{{])"?{re.escape(m)}"?:', drawn)} == markers


def test_points_with_a_hole_have_no_links_to_models(data):
    holes = [point for point in data["points"] if point["status"] == "infeasible"]
    assert holes
    for link in (link for point in holes for link in point["links"]):
        assert "model card" not in link and link["log"].startswith("../logs/finetune/tiny/")


# in a browser


def test_it_shows_every_task_and_cost(view, data, tables):
    shown = view()
    board = pd.read_csv(tables / "leaderboard.csv")
    cells, files = (results_table.read(tables / f"{x}.parquet") for x in ("results", "runtimes"))
    summary = results_table.summarise(exported_files.with_memory(cells, files))
    for task in data["tasks"]:
        shown.get_by_role("radio", name=task).check(force=True)
        for cost, facts in data["costs"].items():
            shown.get_by_role("radio", name=facts["short"], exact=True).check(force=True)
            column = QUANTITIES[cost].column
            done = board.query(f"task == @task and n > 0 and {column}.notna()")
            assert shown.locator("#chart .point").count() == len(done)
            front = summary[(summary["task"] == task) & summary[f"front_{cost}"]]
            if cost not in data["messages"][task]:  # nothing of this task was measured
                assert done.empty and front.empty
                assert shown.locator("#chart").text_content() == "it was not measured"
                continue
            assert shown.locator("#table tbody tr").count() == len(front) >= 1
            assert shown.locator("#chart .front").count() == 1
            assert shown.locator("#message").inner_text() == data["messages"][task][cost]
    for scale in ("linear", "log"):
        shown.get_by_role("radio", name=scale).check(force=True)
        texts = shown.locator("#chart text").all_text_contents()
        assert ("0" in texts) == (scale == "linear")
    shown.get_by_role("radio", name="all", exact=True).check(force=True)
    assert "infeasible" in shown.locator("#table").inner_text()


def test_a_point_tells_all_by_mouse_and_by_keyboard(view, data):
    shown = view("#task=phones")
    point = next(
        p for p in data["points"] if p["key"].startswith("low-rank 0.75") and p["task"] == "phones"
    )
    place = shown.locator(f'.point[data-key="{point["key"]}"]')
    card = shown.locator("#card")
    assert card.is_hidden()
    place.hover()
    said = card.inner_text()
    for name in (
        "score",
        "difference",
        "parameters",
        "macs_per_second",
        "seconds",
        "rtf",
        "bytes",
        "seeds",
    ):
        assert point["text"][name] in said, name
    assert "±" in point["text"]["score"] and "[" in point["text"]["difference"]
    links = [link.get_attribute("href") for link in card.locator("a").all()]
    path = "tiny/low-rank/0.75/{}/phones"
    for seed in (1, 2, 3):
        own = path.format(seed)
        assert f"finetuned/{own}/README.md" in links and f"../logs/finetune/{own}.log" in links
        assert f"finetuned/{own}/config.json" in links
    shown.mouse.move(2, 2)
    assert card.is_hidden()
    place.focus()
    assert card.is_visible()
    shown.keyboard.press("Enter")
    shown.mouse.move(2, 2)
    assert card.is_visible()
    shown.keyboard.press("Escape")
    assert card.is_hidden()
    assert place.get_attribute("aria-label").startswith("low-rank 0.75: ")


def test_methods_can_be_ticked_off_and_on(view):
    shown = view()
    everything = shown.locator("#chart .point").count()
    box = shown.get_by_role("checkbox", name="low-rank")
    box.uncheck()
    assert shown.locator("#chart .point").count() == everything - 3
    assert "low-rank" not in shown.locator("#table").inner_text()
    shown.get_by_role("button", name="none").click()
    left = {node.get_attribute("class").split()[1] for node in shown.locator("#chart .point").all()}
    assert left == {"control", "teacher"}
    shown.get_by_role("button", name="all").click()
    assert shown.locator("#chart .point").count() == everything


LIMIT = budget.Limit("max", "parameters", 2.1e6)


def test_a_budget_is_answered_in_the_page(view, data):
    shown = view("#task=phones")
    slider = shown.get_by_label("parameters at most", exact=True)
    output = shown.locator("output[for=max-parameters]")
    assert slider.get_attribute("aria-valuetext") == output.inner_text() == "any"
    assert shown.locator(".pick").count() == 0
    slider.focus()
    values = sorted({point["values"]["parameters"] or 0 for point in data["points"]})
    for expected in values[-2::-1]:  # an arrow key leaves out the dearest models
        shown.keyboard.press("ArrowLeft")
        limit = budget.Limit("max", "parameters", expected)
        assert f"max-parameters={expected:.0f}" in shown.url
        if expected < LIMIT.value:
            break
    assert slider.get_attribute("aria-valuetext") == output.inner_text() != "any"
    best, *ties = budget.choose(data, [limit], "phones")
    first = shown.locator(".pick").first.inner_text()
    assert f"{best['recipe']} {best['text']['ratio']}" in first
    assert best["text"]["score"] in first and best["text"]["parameters"] in first
    assert shown.locator("#chart .point.best").get_attribute("data-key") == best["key"]
    assert shown.locator("#chart .point.tie").count() == len(ties)
    assert shown.locator("#chart .outside").count() == 1
    shown.get_by_label("speed-up at least").press("End")
    fastest = max(point["values"]["speedup"] or 0 for point in data["points"])
    assert shown.url.endswith(f"&min-speedup={fastest}")
    shown.get_by_role("button", name="no limits").click()
    assert output.inner_text() == "any" and shown.locator(".pick").count() == 0
    assert "max-" not in shown.url and "min-" not in shown.url


def test_limits_of_an_address_are_set(view):
    shown = view("#task=phones&max-parameters=2.1e6&min-ratio=0.3&max-bytes=much&max-nothing=3")
    for name, text in {"max-parameters": "2.1 M", "min-ratio": "0.3", "max-bytes": "any"}.items():
        assert shown.locator(f"output[for={name}]").inner_text() == text
    assert "max-parameters=2100000&min-ratio=0.3" in shown.url and "max-bytes" not in shown.url
    assert "low-rank 0.5" in shown.locator(".pick").first.inner_text()


def test_there_is_a_slider_for_each_limit_that_can_matter(view, data):
    shown = view()
    names = {name.replace("_", "-") for name in limits()} - {"min-valid-score"}  # of no accuracy
    assert {field["name"] for field in data["limits"]} == names
    sliders = {node.get_attribute("id") for node in shown.locator("input[type=range]").all()}
    values = {name: {p["values"][name] for p in data["points"]} - {None} for name in QUANTITIES}
    assert sliders == {name for name in names if len(values[name[4:].replace("-", "_")]) > 1}
    assert {field["name"] for field in page.fields({"higher"})} ^ names == {
        "max-valid-score",
        "min-valid-score",
    }
    assert len(page.fields({"lower", "higher"})) == len(names) + 1


def test_page_and_command_answer_alike(view, data):
    random.seed(1)
    budgets = [random_budget(data["points"]) for _ in range(BUDGETS)]
    answers = view().evaluate(
        """budgets => budgets.map((limits) =>
            tasks.map((task) => budget.choose(study, limits, task).map((p) => p.key)))""",
        [[asdict(limit) for limit in one] for one in budgets],
    )
    kinds = {"nothing": 0, "one": 0, "ties": 0}
    for asked, theirs in zip(budgets, answers, strict=True):
        mine = [[p["key"] for p in budget.choose(data, asked, task)] for task in data["tasks"]]
        kinds[("nothing", "one", "ties")[min(2, len(mine[0]))]] += 1
        assert theirs == mine, asked
    assert min(kinds.values()) > BUDGETS / 50, kinds


def random_budget(known):
    """Return a few limits at or about real values."""
    found = []
    for bound, quantity in random.choices(
        list(limits().values()), k=random.choice([0, 1, 1, 2, 3])
    ):
        values = [p["values"][quantity] for p in known if p["values"][quantity] is not None]
        if not values:  # a table of before has no latency
            continue
        value = random.choice(values) * random.choice([1, 1, random.uniform(0.3, 3)])
        found.append(budget.Limit(bound, quantity, value))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "scheme"),
    [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"), (1900, "light")],
)
def test_it_looks_right(view, data, tmp_path, width, scheme):
    """The screenshots were looked at; what is tested is what could go wrong since."""
    shown = view("#task=phones&cost=macs_per_second&max-parameters=2.1e6", width, 1100, scheme)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    shown.screenshot(path=tmp_path / "page.png", full_page=True)
    picture = matplotlib.image.imread(tmp_path / "page.png")[..., :3]
    assert (picture[3, 3].mean() > 0.9) == (scheme == "light")
    for name in ("#chart", "#answer", "#methods", "#table", "#limits"):
        box = shown.locator(name).bounding_box()
        assert box["width"] > 150 and box["height"] > 20, name
    # each point lies inside the chart and shows the colour of its recipe
    chart = shown.locator("#chart").bounding_box()
    for node in shown.locator("#chart .point.student:not(.hollow):not(.dim)").all():
        box = node.locator(".mark").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        assert chart["x"] < x < chart["x"] + chart["width"]
        assert chart["y"] < y < chart["y"] + chart["height"]
    best = budget.choose(data, [LIMIT], "phones")[0]
    box = shown.locator("#chart .point.best .mark").bounding_box()
    pixel = picture[int(box["y"] + box["height"] / 2), int(box["x"] + box["width"] / 2)]
    colour = np.array(matplotlib.colors.to_rgb(styles.STYLES[best["recipe"]][0]))
    if scheme == "dark":
        colour = colour + 0.38 * (1 - colour)
    assert np.abs(pixel - colour).max() < 0.05
    # no two names overlap
    names = [node.bounding_box() for node in shown.locator("#chart .name").all()]
    assert names
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            apart = a["x"] + a["width"] <= b["x"] + 1 or b["x"] + b["width"] <= a["x"] + 1
            assert apart or abs(a["y"] - b["y"]) >= 12


def test_a_condition_takes_the_place_of_scores_without_it(view, data, tables):
    shown = view("#task=phones")
    study = points.read(tables / "results.parquet", "noisy")
    there = {p["key"]: p["text"]["score"] for p in study["points"]}
    clean = {p["key"]: p["text"]["score"] for p in data["points"] if p["task"] == "phones"}

    def scores():
        shown.get_by_label("all", exact=True).check()
        rows = shown.locator("#table tbody tr").all()
        cells = {row.get_attribute("data-key"): row.locator("[data-column=score]") for row in rows}
        return {key: cell.inner_text() for key, cell in cells.items()}

    assert scores() == clean
    shown.get_by_label("noisy", exact=True).check()
    assert scores() == there != clean and ", in noisy" in shown.locator("#axis").inner_text()
    assert "condition=noisy" in shown.url
    front = {p["key"] for p in study["points"] if "parameters" in p["front"]}
    assert set(keys(shown.locator("#table tr.front"))) == front
    shown.get_by_label("parameters at most", exact=True).press("ArrowLeft")
    (limit,) = [x for x in shown.url.split("&") if x.startswith("max-parameters=")]
    asked = budget.Limit("max", "parameters", float(limit.partition("=")[2]))
    best = budget.choose(study, [asked], "phones")[0]
    assert best["text"]["score"] in shown.locator(".pick").first.inner_text()
    shown.get_by_role("button", name="no limits").click()
    shown.get_by_label("clean", exact=True).check()
    assert scores() == clean and "condition" not in shown.url
    header, *rows = data["conditions"]["phones"]
    assert shown.locator("#lost tbody tr").count() == len(rows)
    assert view("#task=phones&condition=noisy").get_by_label("noisy", exact=True).is_checked()
    assert view("#task=characters").locator("#lost").is_hidden()


def keys(rows):
    """Return the keys of the points that rows of the table show."""
    return [row.get_attribute("data-key") for row in rows.all()]


def test_exported_files_stand_beside_torch(view, data, tables):
    shown = view("#task=phones")
    header, *rows = data["runtimes"]["phones"]
    table = shown.locator("#runtimes table")
    assert table.locator("th").all_text_contents() == [text for text, _ in header]
    assert table.locator("tbody tr").count() == len(rows)
    bold = [text for row in rows for text, fastest in row if fastest]
    assert table.locator("b").all_text_contents() == bold and bold
    assert all(f"**{text}**" in (tables / "runtimes.md").read_text() for text in bold)
    assert view("#task=characters").locator("#runtimes").is_hidden()
