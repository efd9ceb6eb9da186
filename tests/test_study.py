"""What the rules ask of a study: cells, names of ratios, which methods learn."""

import pytest

from speech_pareto.study.cells import cells, learns, ratio_name, removes
from speech_pareto.study.config import resolve


def test_cells_are_the_union_of_blocks(study):
    found = cells(resolve(study))
    assert len(found) == len(set(found)) == 2 + 2 * 2 * 2  # identity; two recipes, ratios, seeds
    assert {cell.ratio for cell in found if cell.recipe == "identity"} == {"0"}
    assert {cell.scope for cell in found} == {"phones"}
    study["tasks"]["phones"]["start"] = "backbone"
    assert {cell.scope for cell in cells(resolve(study))} == {"any"}


@pytest.mark.parametrize(
    ("ratio", "name"), [(0, "0"), (0.25, "0.25"), (0.50, "0.5"), (1e-05, "0.00001"), (0.0, "0")]
)
def test_ratio_names_are_short_decimals(ratio, name):
    assert ratio_name(ratio) == name


def test_only_methods_that_learn_need_recordings():
    assert learns([{"distillation": {}}])
    assert learns([{"low_rank": {}}, {"wanda": {}}])
    assert not learns([{"low_rank": {}}, {"identity": {}}])


def test_a_recipe_that_fine_tunes_makes_students_of_its_own_for_each_task(study):
    study["recipes"]["pinched"] = ["ffn_pruning", {"self_pinching": {"ratio": 0.2}}]
    study["tasks"]["phones"]["start"] = "backbone"
    scopes = {(cell.recipe, cell.scope) for cell in cells(resolve(study))}
    assert scopes == {
        ("identity", "any"),
        ("thin", "any"),
        ("distilled", "any"),
        ("pinched", "phones"),
    }


def test_what_removes_nothing_stands_at_ratio_zero():
    assert removes([{"low_rank": {}}, {"int8": {}}])
    assert not removes([{"identity": {}}, {"int8": {}}])
