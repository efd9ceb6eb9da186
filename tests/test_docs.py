"""The pages say what the code does: settings, defaults, tests that are named, links."""

import re
import typing
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from speech_pareto import architecture, method

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "config" / "README.md", *sorted(DOCS.glob("*.md"))]
METHODS = (DOCS / "methods.md").read_text(encoding="utf-8")
ADDING = (DOCS / "adding-a-method.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", METHODS, re.M | re.S))
PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
BASE = {"model_type": "hubert"}


def rows(text):
    """Return the cells of each row of the tables in `text` that begins with a name in code."""
    lines = [line for line in text.splitlines() if re.match(r"\| \[?`\w+`", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_method_has_a_section_and_a_row():
    listed = [re.search(r"`(\w+)`", row[0])[1] for row in rows(METHODS.split("\n## ")[0])]
    assert sorted(SECTIONS) == sorted(listed) == method.names()
    assert list(SECTIONS) == listed  # in one order


@pytest.mark.parametrize("name", method.names())
def test_settings_and_defaults_are_those_of_the_class(name):
    said = {row[0].strip("`"): row for row in rows(SECTIONS[name])}
    real = {field.name: field for field in fields(method.load(name)) if field.name != "ratio"}
    assert list(said) == list(real)
    assert ("Settings: none." in SECTIONS[name]) == (not real)
    for key, row in said.items():
        default = real[key].default
        default = list(default) if isinstance(default, tuple) else default
        found = yaml.safe_load(row[1].strip("`"))
        assert (type(found), found) == (type(default), default), key
        if typing.get_origin(real[key].type) is typing.Literal:
            assert all(f"`{option}`" in row[3] for option in typing.get_args(real[key].type)), key


@pytest.mark.parametrize("name", method.names())
def test_a_section_says_what_it_must(name):
    text, module = SECTIONS[name], method.load(name).__module__
    assert "Verified: " in text
    source = (ROOT / "workflow" / "scripts" / Path(*module.split("."))).with_suffix(".py")
    docstring = source.read_text(encoding="utf-8").split('"""')[1]
    for link in re.findall(r"https://\S+?(?=[,.;]?\s)", docstring):  # the citations
        assert link in text, link
    if name != "identity":
        assert re.search(r"^    \S", text, re.M)  # an equation


@pytest.mark.parametrize("row", rows(METHODS.split("\n## ")[0]), ids=lambda row: row[0])
def test_the_table_is_what_the_methods_say(row):
    name = re.search(r"`(\w+)`", row[0])[1]
    chosen, (_, _, _, leaves, needs, models, reaches) = method.make(name), row
    assert needs == ("task" if chosen.task_aware else "audio" if method.learns(chosen) else "–")
    masked = models == "with a mask vector"
    assert masked or models == "all"
    for kind in architecture.MODEL_TYPES:
        for more in ({}, PRE_NORM):
            config = {"model_type": kind, **more}
            assert chosen.supports(config) is None
            unmasked = chosen.supports(config | {"mask_time_prob": 0.0})
            assert ("mask" in unmasked) if masked else unmasked is None
    if not chosen.removes:
        assert reaches == "–"
        return
    solution = method.solve([name], BASE, 0.99)
    assert float(reaches) == pytest.approx(solution.ratio, abs=0.0051)
    assert (leaves == "zeros") == ("zeros" in architecture.section(solution.config))


def test_what_is_said_of_chains():
    reused = method.solve(["attention_reuse"], BASE, 0.05).config
    zeros = method.solve(["weight_pruning"], BASE, 0.3).config
    small = method.solve(["int8"], BASE, 0.0).config
    for name in method.names():
        chosen = method.make(name)
        assert (chosen.supports(reused) is not None) == chosen.takes_heads
        served = not chosen.removes or name in ("weight_pruning", "parp")
        assert (chosen.supports(zeros) is None) == served, name
        assert (chosen.supports(small) is None) == (name == "identity")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tests_that_are_named_exist(page):
    for file, test in re.findall(r"`(test_\w+\.py)::(test_\w+)`", page.read_text(encoding="utf-8")):
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test}(" in source, f"{file}::{test}"


def anchors(page):
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
