"""The pages say what the code does: generated pages, tests that are named, links, examples."""

import copy
import re
import shlex
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from snakemake import cli

import speech_pareto
from generate import __main__ as generated
from helpers.backbones import backbone
from helpers.checkout import ROOT
from speech_pareto.compression import catalogue, method, recipes
from speech_pareto.models import architecture
from speech_pareto.models import backbone as model
from speech_pareto.models.teachers import TEACHERS
from speech_pareto.study import cells, config, forecast

DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "config" / "README.md", *sorted(DOCS.glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
METHODS = (DOCS / "methods.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (DOCS / "adding-a-method.md").read_text("utf-8"), re.S)
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", METHODS, re.M | re.S))
PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
BASE = {"model_type": "hubert"}


def rows(text):
    """Return the cells of each row of the tables in `text` that begins with a name in code."""
    lines = [line for line in text.splitlines() if re.match(r"\| \[?`\w+`", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def prose(page):
    """Return the text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def section(name):
    """Return the section of a method."""
    assert name in SECTIONS, f"docs/methods.md has no section for {name}"
    return SECTIONS[name]


def test_every_method_has_a_section_and_a_row():
    listed = [re.search(r"`(\w+)`", row[0])[1] for row in rows(METHODS.split("\n## ")[0])]
    assert sorted(SECTIONS) == sorted(listed) == catalogue.names()
    assert list(SECTIONS) == listed  # in one order


@pytest.mark.parametrize("name", generated.PAGES)
def test_a_generated_page_is_up_to_date(name):
    assert generated.PAGES[name]() == (DOCS / name).read_text(encoding="utf-8"), "run: make pages"


@pytest.mark.parametrize("name", catalogue.names())
def test_a_section_says_what_it_must(name):
    text, module = section(name), catalogue.load(name).__module__
    assert "Verified: " in text
    has_settings = {field.name for field in fields(catalogue.load(name))} - {"ratio"}
    assert (f"(settings.md#{name})" in text) == bool(has_settings)
    source = (ROOT / "workflow" / "scripts" / Path(*module.split("."))).with_suffix(".py")
    docstring = source.read_text(encoding="utf-8").split('"""')[1]
    for link in re.findall(r"https://\S+?(?=[,.;]?\s)", docstring):  # the citations
        assert link in text, link
    if name != "identity":
        assert re.search(r"^    \S", text, re.M)  # an equation


@pytest.mark.parametrize("row", rows(METHODS.split("\n## ")[0]), ids=lambda row: row[0])
def test_the_table_is_what_the_methods_say(row):
    name = re.search(r"`(\w+)`", row[0])[1]
    chosen, (_, _, _, leaves, needs, models, reaches) = recipes.make(name), row
    assert needs == {"nothing": "–", "training": "audio"}.get(chosen.needs, chosen.needs)
    masked = models == "with a mask vector"
    assert masked or models == "all"
    for kind in architecture.MODEL_TYPES:
        for more in ({}, PRE_NORM):
            config = {"model_type": kind, **more}
            assert chosen.obstacle(config) is None
            unmasked = chosen.obstacle(config | {"mask_time_prob": 0.0})
            assert ("mask" in unmasked) if masked else unmasked is None
    if not chosen.removes:
        assert reaches == "–"
        return
    solution = recipes.solve([name], BASE, 0.99)
    assert float(reaches) == pytest.approx(solution.ratio, abs=0.0051)
    assert (leaves == "zeros") == ("zeros" in architecture.section(solution.config))


def test_what_is_said_of_chains():
    reused = recipes.solve(["attention_reuse"], BASE, 0.05).config
    zeros = recipes.solve(["weight_pruning"], BASE, 0.3).config
    small = recipes.solve(["int8"], BASE, 0.0).config
    pooled = recipes.solve(["frame_pooling"], BASE, 0.0).config
    for name in catalogue.names():
        chosen = recipes.make(name)
        wants_maps = chosen.takes_heads or name == "early_exit"
        assert (chosen.obstacle(reused) is not None) == wants_maps
        served = not chosen.removes or name in ("weight_pruning", "parp", "iterative_pruning")
        rounds = served and name != "frame_pooling" and not chosen.full_rate
        assert (chosen.obstacle(pooled) is None) == rounds, name
        served = served and name != "weight_clustering"
        assert (chosen.obstacle(zeros) is None) == served, name
        assert (chosen.obstacle(small) is None) == (name == "identity")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tests_that_are_named_exist(page):
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py")]
    for name in re.findall(r"`(test_\w+)`", prose(page)):
        assert any(f"def {name}(" in source for source in sources), name


def anchors(page):
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def snakemake_calls():
    """Yield (page, arguments) of each line of a page that calls Snakemake."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?:    )?(?:\w+=\S+ )?snakemake (.*)$", text, re.M):
            yield page.name, line


@pytest.mark.parametrize(("page", "line"), list(snakemake_calls()))
def test_snakemake_understands_what_the_pages_say(page, line):
    """An option that may have several values takes a target that comes after it for one of them."""
    words = [word for word in shlex.split(line, comments=True) if word not in ("&", "...")]
    asked = cli.get_argument_parser().parse_args(words)
    for file in asked.configfile or []:
        assert str(file).endswith((".yaml", "$STUDY")), file


def code(kind):
    """Return the blocks of one language in adding-a-method.md."""
    return [text for found, text in BLOCKS if found == kind]


def test_the_example_method_does_what_it_plans(monkeypatch):
    source, example = types.ModuleType("example"), code("python")[0]
    monkeypatch.setitem(sys.modules, "example", source)
    exec(compile(example, "adding-a-method.md", "exec"), source.__dict__)
    chosen, teacher = source.PathPruning(), backbone("hubert")
    start = model.describe(teacher)
    sizing = chosen.solve(start, 0.3)
    assert architecture.ratio(start, sizing.config) == pytest.approx(0.3, abs=recipes.TOLERANCE)
    student = chosen.compress(copy.deepcopy(teacher), sizing, method.Context(1))
    assert model.describe(student) == sizing.config | {"architectures": ["HubertModel"]}
    with pytest.raises(ValueError, match="above 0"):
        source.PathPruning(power=0.0)


def test_changelog_citation_and_package_name_one_version():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## (\d\S+) - (\S+)$", changes, re.M).groups()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {version} == {citation["version"], speech_pareto.__version__}
    assert date == str(citation["date-released"])


def test_the_readme_fits_on_two_screens_and_counts_right():
    assert len(README.split()) <= 700
    assert f"{len(catalogue.names())} [methods]" in README
    assert f"{len(TEACHERS)} [published teachers]" in README


@pytest.mark.parametrize("page", ["README.md", "docs/own-model.md"])
def test_the_study_of_ones_own_model_is_feasible(page, monkeypatch, tmp_path):
    """The page's first block of YAML is `mine.yaml`; the commands below it name both files."""
    text = (ROOT / page).read_text(encoding="utf-8")
    command = "--configfile config/own-model.yaml mine.yaml"
    assert f"snakemake plan --cores 1 {command}" in text
    monkeypatch.chdir(ROOT)
    study = yaml.safe_load((ROOT / "config" / "own-model.yaml").read_text(encoding="utf-8"))
    study |= yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])
    study = config.resolve(study)
    expected = forecast.expect(study, tmp_path)
    assert {facts["feasible"] for facts in expected.values()} == {"yes"}
    students = re.findall(r"results/finetuned/([^/]+)/([^/]+)/([^/]+)/(\d+)/(\w+)", text)
    made = {(c.teacher, c.recipe, c.ratio, c.seed, c.task) for c in cells.cells(study)}
    assert students and set(students) <= made


def test_the_example_study_is_valid(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = yaml.safe_load(code("yaml")[0].replace("[path_pruning]", "[ffn_pruning]"))
    assert config.resolve(study)["grid"]
