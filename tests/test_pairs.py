"""Recipes and tasks of a grid that cannot go together are refused with the config."""

from helpers.configs import problems
from speech_pareto.study import config


def test_a_recipe_that_fine_tunes_cannot_serve_a_probe(study):
    study["recipes"]["pinched"] = ["self_pinching"]
    study["tasks"]["phones"]["protocol"] = "probe"
    message = "'pinched' trains on 'phones' what its protocol 'probe' freezes."
    assert problems(study) == [f"grid[{index}]: {message}" for index in (0, 1)]
    for block in study["grid"]:
        block["recipes"] = ["identity", "thin"]
    config.resolve(study)


def test_students_that_hear_chunks_cannot_normalise_whole_recordings(study):
    study["recipes"] |= {"chunks": ["streaming"], "thin-chunks": ["low_rank", "streaming"]}
    study["recipes"]["unbounded"] = [{"streaming": {"chunk": None}}]
    config.resolve(study)
    study["tasks"]["phones"]["student"]["do_normalize"] = True
    said = (
        "grid[{}]: '{}' makes students that hear chunks, and `do_normalize: true` under "
        "tasks.phones.student needs the whole of a recording."
    )
    pairs = [(index, name) for index in (0, 1) for name in ("chunks", "thin-chunks")]
    assert problems(study) == [said.format(*pair) for pair in pairs]
    study["tasks"]["phones"]["student"]["do_normalize"] = False
    config.resolve(study)
