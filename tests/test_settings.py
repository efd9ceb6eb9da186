"""Settings: whatever is wrong with a number or a name is said before any job, and all at once."""

import copy
import math
import typing
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_pareto.compression import catalogue, recipes
from speech_pareto.runtime import bounds
from speech_pareto.study import config
from speech_pareto.study.syntax import syntax_problems
from speech_pareto.training.settings import FineTuning, TinyModel, Training

CLASSES = [Training, FineTuning, TinyModel, *map(catalogue.load, catalogue.names())]
ODD = st.one_of(
    st.just(math.nan),
    st.sampled_from([math.inf, -math.inf, 10**12, -1, -3, 1e9, True, "8e-4", None, [], {}, "x"]),
    st.floats(),
    st.integers(),
)


def limits(hint):
    """Return the limits in an annotation."""
    found = [part for part in typing.get_args(hint) if isinstance(part, bounds.Within)]
    return found + [limit for part in typing.get_args(hint) for limit in limits(part)]


def is_number(hint):
    """Return whether an annotation asks for a number, or a list of them."""
    return hint in (int, float) or any(map(is_number, typing.get_args(hint)))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_number_has_limits_and_every_default_is_within(kind):
    for field in fields(kind):
        assert not is_number(field.type) or limits(field.type), field.name
    needed = {"steps": 1, "learning_rate": 1e-3} if issubclass(kind, Training) else {}
    assert not list(bounds.problems(kind, needed))
    kind(**needed)


@given(st.data(), ODD)
def test_a_value_is_refused_by_name_or_makes_sense(data, value):
    kind = data.draw(st.sampled_from(CLASSES))
    field = data.draw(st.sampled_from(fields(kind)))
    needed = {"steps": 1, "learning_rate": 1e-3} if issubclass(kind, Training) else {}
    found = dict(bounds.problems(kind, needed | {field.name: value}))
    if field.name in found:
        assert "must be" in found[field.name]
        with pytest.raises((ValueError, TypeError)):
            kind(**(needed | {field.name: value}))
    elif isinstance(value, float):
        assert math.isfinite(value)
    for limit in limits(field.type):
        if isinstance(value, int | float) and not isinstance(value, bool):
            accepted = field.name not in found
            assert not accepted or limit.low <= value <= limit.high


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["tasks", "phones", "student", "steps"], -3, "student.steps: -3 must be a whole number"),
        (["tasks", "phones", "student", "batch_seconds"], 0, "student.batch_seconds: 0 must be"),
        (["tasks", "phones", "student", "warmup"], 2, "student.warmup: 2 must be a number, at"),
        (["tasks", "phones", "student", "mask_share"], 2, "student.mask_share: 2 must be"),
        (["tasks", "phones", "student", "speed"], 1, "student.speed: 1 must be a number"),
        (["tasks", "phones", "student", "clip"], -1, "student.clip: -1 must be a number, above 0"),
        (["tasks", "phones", "student", "clip"], math.nan, "student.clip: nan must be a"),
        (["tasks", "phones", "student", "betas"], [0.9], "student: betas must be two numbers."),
        (["tasks", "phones", "student", "betas"], [0.9, 1], "betas[1]: 1 must be a number"),
        (["tasks", "phones", "student", "fall"], "exponential", "needs a last_rate above 0"),
        (
            ["tasks", "phones", "student", "warmup"],
            0.6,
            "student: warmup 0.6 and decay 0.5 are more than all steps; `decay: null` falls",
        ),
        (["recipes", "thin"], [{"dphubert": {"final_warmup": 0.8}}], "final_warmup 0.8 and decay"),
        (
            ["recipes", "thin"],
            [{"iterative_pruning": {"lookback": 1}}],
            "lookback: 1 must be a number, above 0 and below 1",
        ),
        (
            ["recipes", "thin"],
            [{"dphubert": {"threshold_rate": 1e-4}}],
            "dphubert: threshold_rate: only self-pinching gates have thresholds.",
        ),
        (
            ["recipes", "thin"],
            [{"fithubert": {"min_seconds": 3, "max_seconds": 2}}],
            "thin[0].fithubert: max_seconds must be at least min_seconds.",
        ),
        (["recipes", "thin"], [{"parp": {"crop_seconds": 9}}], "unknown setting 'crop_seconds'"),
        (["tasks", "phones", "student", "precision"], "fp8", "'fp8' must be one of auto, fp32"),
        (["tasks", "phones", "student", "mask_span"], 10**9, "student.mask_span: 1000000000 must"),
        (["recipes", "distilled", 0], {"distillation": {"layers": 0}}, "layers: 0 must be a whole"),
        (["recipes", "thin"], [{"wanda": {"batches": 0}}], "thin[0].wanda.batches: 0 must be"),
        (["recipes", "thin"], [{"unit_distillation": {"units": 1}}], "units: 1 must be"),
        (
            ["recipes", "thin"],
            [{"iterative_pruning": {"schedule": [0.5, 0.1]}}],
            "recipes.thin[0].iterative_pruning: schedule must rise.",
        ),
        (
            ["recipes", "thin"],
            [{"iterative_pruning": {"patience": None, "improvement": -1.0}}],
            "thin[0].iterative_pruning: patience: null and improvement below 0: an event would",
        ),
        (["grid", 0, "ratios"], [math.nan], "grid[0].ratios[0]: nan must be a finite number."),
        (["grid", 0, "ratios"], [-0.0], "grid[0].ratios[0]: -0.0 must be 0."),
        (["grid", 0, "seeds"], [1.0], "grid[0].seeds[0]: 1.0 must be a whole number."),
        (["profile"], {"threads": 1_000_000}, "profile.threads: 1000000 must be"),
        (["throughput"], math.inf, "throughput: inf must be a finite number."),
        (["study"], "mine\n", "study: 'mine\n' must be lower-case words"),
        (["teachers", "tiny"], {"hub": "../.."}, "teachers.tiny.hub: '../..' must be"),
        (["teachers", "tiny"], {"hub": "a/b\n", "revision": "0" * 40}, "must be a published"),
        (
            ["teachers", "tiny"],
            {"hub": "a/b", "revision": "0" * 40, "sha256": {"../../passwd": "0" * 64}},
            "'../../passwd' must be a file's name",
        ),
        (["grid", 0, "ratios"], [0.5, 0.50001], "0.50001 must have at most 4 decimals."),
        (["study"], "x" * 300, "study: must have at most 100 characters."),
        (["corpora", "mine", "language"], "de\n", "mine.language: 'de\n' must be language of"),
        (["corpora", "prompts", "mirror"], "no url\n", "prompts.mirror: 'no url\n' must be"),
        (["corpora", "prompts", "languages"], [["en"]], "corpora.prompts.languages"),
        (["corpora", "prompts", "source"], "y" * 300, "unknown source 'yyy"),
        (["tasks", "phones", "teacher", "steps"], 16**300, "teacher.steps: 17"),
        (["corpora", "mine", "path"], "x" * 5000, "corpora.mine.path: there is no file 'xxx"),
        (["corpora", "mine", "path"], "~nosuchuser/x", "there is no file '~nosuchuser/x'"),
    ],
)
def test_what_makes_no_sense_is_named(study, path, value, said):
    target = study
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(config.ConfigError) as error:
        config.resolve(study)
    assert any(said in line for line in error.value.problems), error.value.problems


def test_the_model_of_a_pretraining_is_checked(study):
    iteration = {"units": 5, "steps": 3, "learning_rate": 1e-3}
    pretrain = {"corpora": ["prompts"], "iterations": [iteration, iteration | {"layer": 99}]}
    pretrain["model"] = {"hiden": 32, "layers": 2, "layerdrop": 0.1, "ffn": 0}
    study["teachers"]["own"] = {"pretrain": pretrain}
    with pytest.raises(config.ConfigError) as error:
        config.resolve(study)
    said = "\n".join(error.value.problems)
    for part in (
        "model.hiden: unknown setting 'hiden'; did you mean 'hidden'?",
        "model.layerdrop: unknown setting",
        "model.ffn: 0 must be a whole number",
        "iterations[1].layer: 99 must be at most 2, the layers of the model.",
    ):
        assert part in said
    pretrain["model"] = {"hidden": 30, "heads": 4}
    with pytest.raises(config.ConfigError, match="hidden 30 is no multiple of heads 4"):
        config.resolve(copy.deepcopy(study))


def test_layers_that_a_teacher_lacks_are_infeasible():
    base = {"model_type": "hubert"}
    for step, said in (
        ({"distillation": {"layers": 99}}, "layers is 99, the model has 12"),
        ({"unit_distillation": {"unit_layer": 13}}, "unit_layer is 13, the model has 12 layers"),
        ({"data_driven_head_pruning": {"unit_layer": 13}}, "unit_layer is 13, the model has 12"),
    ):
        assert said in recipes.solve([step], base, 0.2).reason


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n- b\n", "must hold a mapping of keys such as 'corpora', not a list"),
        ("words", "not 'words'"),
        (BOMB, "for over 100,000 values"),
        ("a: &a [*a]\n", "'a' contains itself"),
        ("a: " + "[" * 900 + "]" * 900, "nested more than 40 levels deep"),
        ("? [a, b]\n: 1\n", "line 1: a key must be text"),
        ("a: " + "9" * 5000, "has a number of 5000 digits"),
        ("a: 0x" + "f" * 290 + "f" * 20, "has a number of 312 digits"),
        ("a: [1, 2\n", "this is not YAML"),
        ("a: 1\na: 2\n", "a is written twice"),
        ("a: \x00\n", "this is not YAML"),
    ],
)
def test_a_file_that_is_no_study_is_named(tmp_path, text, said):
    file = tmp_path / "study.yaml"
    file.write_text(text)
    problems = syntax_problems(file)  # some of these would take hours to read in full
    assert len(problems) == 1 and said in problems[0] and str(file) in problems[0]


def test_anchors_are_fine(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n")
    assert syntax_problems(file) == []
