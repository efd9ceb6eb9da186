"""Each mistake in a config is named in plain words, all at once."""

from copy import deepcopy

import pytest
import yaml

from helpers.configs import problems
from speech_pareto.study import config
from speech_pareto.study.syntax import syntax_problems


def change(study, path, value):
    """Set what stands at `path` (keys and indices), or delete it with value `...`."""
    study = deepcopy(study)
    *parents, last = path
    node = study
    for key in parents:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return study


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["profil"], {}, "unknown key 'profil'; did you mean 'profile'?"),
        (["grid"], ..., "The config: the key 'grid' is missing."),
        (["grid"], [], "grid: must not be empty."),
        (["grid", 0, "ratios"], 0.5, "grid[0].ratios: 0.5 must be a list."),
        (["grid", 0, "ratios", 0], 1.0, "grid[0].ratios[0]: 1.0 must be at least 0 and below 1."),
        (["grid", 0, "ratios", 0], -0.1, "grid[0].ratios[0]: -0.1 must be at least 0 and below 1."),
        (["grid", 0, "ratios"], [0.5, 0.50], "grid[0].ratios: 0.5 is listed twice."),
        (["grid", 0, "seeds", 0], "one", "grid[0].seeds[0]: 'one' must be a whole number."),
        (
            ["grid", 0, "recipes"],
            ["thn"],
            "grid[0].recipes: unknown recipe 'thn'; did you mean 'thin'?",
        ),
        (["grid", 0, "tasks"], ["phone"], "unknown task 'phone'; did you mean 'phones'?"),
        (
            ["precision"],
            "fp61",
            "unknown value 'fp61'; did you mean 'fp32'? Known: auto, fp32, bf16.",
        ),
        (["corpora", "mine", "language"], "en-uk", "mine.language: espeak-ng has no voice 'en-uk'"),
        (["recipes", "Thin It"], ["identity"], "'Thin It' must be lower-case words joined by"),
        (
            ["recipes", "thin"],
            ["ffn-pruning"],
            "unknown method 'ffn-pruning'; did you mean 'ffn_pruning'?",
        ),
        (
            ["recipes", "thin"],
            ["low_rank", "ffn_pruning"],
            "all but one of low_rank and ffn_pruning need",
        ),
        (
            ["recipes", "thin"],
            [{"low_rank": {"ratio": 1.5}}],
            "ratio: 1.5 must be a number, at least 0 and below 1",
        ),
        (["recipes", "thin"], [{"low_rank": {}, "identity": {}}], "this one names 2."),
        (
            ["recipes", "thin"],
            [{"low_rank": {"ratio": 0.1}}, "supernet"],
            "recipes.thin[1].supernet: it stands first in a recipe",
        ),
        (
            ["recipes", "distilled", 0, "distillation", "step"],
            3,
            "unknown setting 'step'; did you mean 'steps'?",
        ),
        (
            ["recipes", "distilled", 0, "distillation", "steps"],
            "3",
            "steps: '3' must be a whole number, at least 0",
        ),
        (
            ["recipes", "thin"],
            [{"iterative_pruning": {"schedule": [0.1, "all"]}}],
            "schedule[1]: 'all' must be a number, above 0 and below 1.",
        ),
        (
            ["recipes", "thin"],
            [{"iterative_pruning": {"steps": [5, 0]}}],
            "steps[1]: 0 must be a whole number, at least 1",
        ),
        (
            ["recipes", "distilled", 0, "distillation", "start"],
            "last",
            "'last' must be one of spaced, first.",
        ),
        (["tasks", "phones", "kind"], "ctx", "unknown kind of task 'ctx'; did you mean 'ctc'?"),
        (["tasks", "phones", "metric"], "cer", "tasks.phones.metric: unknown metric 'cer'"),
        (
            ["tasks", "phones", "corpora"],
            ["promts"],
            "unknown corpus 'promts'; did you mean 'prompts'?",
        ),
        (["tasks", "phones", "languages"], ["it"], "unknown language 'it'. Known: en, fr, de."),
        (
            ["tasks", "phones", "protocol"],
            "probes",
            "unknown value 'probes'; did you mean 'probe'?",
        ),
        (["tasks", "phones", "student", "learning_rate"], "8e-4", "write 8.0e-04"),
        (["tasks", "phones", "student", "lerning_rate"], 1.0, "did you mean 'learning_rate'?"),
        (["tasks", "phones", "student", "acumulate"], 2, "did you mean 'accumulate'?"),
        (["tasks", "phones", "student", "accumulate"], 0, "accumulate: 0 must be"),
        (
            ["tasks", "phones", "teacher", "accumulate"],
            1.5,
            "1.5 must be a whole number, at least 1",
        ),
        (["compress"], {"acumulate": 2}, "unknown key 'acumulate'; did you mean 'accumulate'?"),
        (
            ["compress"],
            {"accumulate": 0},
            "compress.accumulate: 0 must be at least 1 and at most 10000.",
        ),
        (
            ["tasks", "phones", "teacher", "steps"],
            ...,
            "tasks.phones.teacher: the key 'steps' is missing.",
        ),
        (["tasks", "any"], {}, "a task cannot be named 'any'"),
        (
            ["corpora", "prompts", "source"],
            "promts",
            "unknown source 'promts'; did you mean 'prompts'?",
        ),
        (["corpora", "prompts", "languages"], ["xx"], "unknown language 'xx'"),
        (
            ["corpora", "prompts", "languages"],
            ...,
            "corpora.prompts: the key 'languages' is missing",
        ),
        (["corpora", "mine", "path"], "your.tsv", "there is no file 'your.tsv'."),
        (
            ["tasks", "phones", "language_model"],
            {"path": "4-gram.arpa"},
            "tasks.phones.language_model.path: there is no file '4-gram.arpa'.",
        ),
        (
            ["tasks", "phones", "language_model"],
            {"path": "README.md", "beams": 2},
            "tasks.phones.language_model.beams: unknown key 'beams'; did you mean 'beam'?",
        ),
        (["corpora", "mine", "language"], ..., "corpora.mine: the key 'language' is missing"),
        (["teachers", "tiny", "path"], ..., "one of 'path', 'hub', 'checkpoint' and 'pretrain'"),
        (["teachers", "tiny", "hub"], "a/b", "'path' and 'hub' exclude each other."),
        (
            ["teachers", "tiny"],
            {"hub": "hubert-bse"},
            "unknown teacher 'hubert-bse'; did you mean 'hubert-base'?",
        ),
        (
            ["teachers", "tiny"],
            {"hub": "someone/model"},
            "the key 'revision' is missing, the commit of someone/model that is to be used.",
        ),
        (
            ["teachers", "tiny"],
            {"hub": "wav2vec2-large-lv60"},
            "the commit of facebook/wav2vec2-large-lv60",
        ),
        (
            ["teachers", "tiny"],
            {"hub": "hubert-base", "revision": "main"},
            "'main' must be the 40 hexadecimal digits of a commit",
        ),
        (
            ["teachers", "tiny"],
            {"hub": "hubert-base", "sha256": {"model.safetensors": "abc"}},
            "'abc' must be the 64 hexadecimal digits of a SHA-256.",
        ),
        (["teachers", "tiny"], {"checkpoint": "gone.pt"}, "there is no file 'gone.pt'."),
        (["teachers", "tiny", "statistics"], "x.npy", "only a teacher with the key 'checkpoint'"),
        (
            ["teachers", "tiny", "path"],
            "nowhere",
            "teachers.tiny.path: there is no folder 'nowhere'.",
        ),
        (["teachers", "tiny", "finetuned", "phonse"], "teacher", "did you mean 'phones'?"),
        (
            ["teachers", "tiny", "pretrain"],
            {"corpora": ["prompts"]},
            "the key 'iterations' is missing.",
        ),
        (["compress"], {"corpora": ["prompt"]}, "unknown corpus 'prompt'; did you mean 'prompts'?"),
        (["figures"], {"costs": ["macs"]}, "figures.costs: unknown cost 'macs'"),
        (["figures"], {"views": ["ratio"]}, "figures.views: unknown view 'ratio'"),
        (
            ["tasks", "phones", "conditions"],
            ["bable-10"],
            "tasks.phones.conditions[0]: unknown condition 'bable-10'; did you mean 'babble-10'?",
        ),
        (
            ["tasks", "phones", "conditions"],
            ["fast", "fast"],
            "conditions[1]: 'fast' is listed twice.",
        ),
        (["tasks", "phones", "conditions"], [], "tasks.phones.conditions: must not be empty."),
        (
            ["tasks", "phones", "conditions"],
            [{"a": {"speed": 2}, "b": {"speed": 3}}],
            "conditions[0]: a condition is the name of a ready one, or one name with its changes.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"Hall 1": {"speed": 2}}],
            "conditions[0].Hall 1: 'Hall 1' must be lower-case words joined by '-'.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"worst": {"speed": 2}}],
            "conditions[0].worst: a condition cannot be named 'worst'.",
        ),
        (["tasks", "phones", "conditions"], [{"street": []}], "[0].street: must not be empty."),
        (
            ["tasks", "phones", "conditions"],
            [{"street": "loud"}],
            "conditions[0].street: 'loud' must be a change, as in '{noise: white, snr: 5}'.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"street": {}}],
            "conditions[0].street: a mapping must be a change, as in '{noise: white, snr: 5}'.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"street": {"noise": "", "snr": 5}}],
            "conditions[0].street: noise: unknown noise ''. Known: white, babble, and there is no",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"street": {"niose": "white", "snr": 5}}],
            "conditions[0].street: unknown change 'niose'; did you mean 'noise'? "
            "Known: codec, noise, reverberation, speed.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"street": [{"speed": 1.1}, {"noise": "white"}]}],
            "conditions[0].street[1]: the key 'snr' is missing.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"street": {"noise": "white", "snr": 5, "codec": "g722"}}],
            "'codec and noise' are two changes; list one after the other, each in braces.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"street": {"noise": "babbel", "snr": 5}}],
            "conditions[0].street: noise: unknown noise 'babbel'; did you mean 'babble'? "
            "Known: white, babble, and there is no folder of this name.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"street": {"noise": "white", "snr": 500}}],
            "conditions[0].street.snr: 500 must be a number, at least -30 and at most 60 (dB).",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"street": {"noise": "white", "snr": 5, "voices": 3}}],
            "conditions[0].street: voices: only 'babble' has them.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"call": {"codec": "g723"}}],
            "conditions[0].call.codec: 'g723' must be one of narrow_band, g722, opus.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"call": {"codec": "g722", "bit_rate": 12000}}],
            "conditions[0].call: bit_rate: only 'opus' has one.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"hall": {"reverberation": [6, 4], "rt60": 0.5}}],
            "conditions[0].hall: reverberation: a room has length, width and height.",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"hall": {"reverberation": [20, 20, 9], "rt60": 0.05}}],
            "conditions[0].hall: rt60: in this room it is at least 0.39 s",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"bath": {"reverberation": [4, 3, 2.5], "rt60": 2}}],
            "conditions[0].bath: rt60: in this room it is at most 1.12 s, as more reflections take",
        ),
        (
            ["tasks", "phones", "conditions"],
            [{"hall": {"reverberation": [4, 3, 3], "rt60": 0.4, "distance": 3}}],
            "conditions[0].hall: distance: in this room it is at most 2.7 m, as both keep 0.5 m",
        ),
        (["onnx"], None, "onnx: nothing must be a mapping."),
        (["onnx"], {"thread": [1]}, "onnx.thread: unknown key 'thread'; did you mean 'threads'?"),
        (["onnx"], {"threads": [0]}, "onnx.threads[0]: 0 must be at least 1 and at most 1024."),
        (["onnx"], {"threads": []}, "onnx.threads: must not be empty."),
        (
            ["onnx"],
            {"numbers": ["int8-dynamik"]},
            "onnx.numbers[0]: unknown value 'int8-dynamik'; did you mean 'int8-dynamic'?",
        ),
        (["profile"], {"repeats": 0}, "profile.repeats: 0 must be at least 1 and at most 10000."),
        (["profile"], {"conditions": {}}, "profile.conditions: a mapping must be a list."),
        (["profile"], {"conditions": [3]}, "profile.conditions[0]: 3 must be a mapping."),
        (
            ["profile"],
            {"conditions": [{"bach": 4}]},
            "profile.conditions[0].bach: unknown key 'bach'; did you mean 'batch'?",
        ),
        (
            ["profile"],
            {"conditions": [{"threads": "al"}]},
            "profile.conditions[0].threads: 'al' must be a number of processor threads, or `all`",
        ),
        (
            ["profile"],
            {"conditions": [{"threads": 0}]},
            "profile.conditions[0].threads: 0 must be at least 1 and at most 1024.",
        ),
        (
            ["profile"],
            {"conditions": [{"device": "gpu"}]},
            "profile.conditions[0].device: unknown value 'gpu'",
        ),
        (
            ["profile"],
            {"conditions": [{"precision": "bf61"}]},
            "unknown value 'bf61'; did you mean 'bf16'?",
        ),
        (
            ["profile"],
            {"conditions": [{}, {"threads": "all"}, {"audio_seconds": 10.0, "repeats": 9}]},
            "profile.conditions[2]: the same as profile.conditions[0].",
        ),
        (["tasks"], None, "tasks: nothing must be a mapping."),
    ],
)
def test_a_mistake_is_named(study, path, value, said):
    found = problems(change(study, path, value))
    assert any(said in line for line in found), found


def test_a_noise_folder_holds_something(study, tmp_path):
    (tmp_path / "street").mkdir()
    study["tasks"]["phones"]["conditions"] = [{"out": {"noise": "street", "snr": 5}}]
    (said,) = problems(study)
    assert said == "tasks.phones.conditions[0].out: noise: the folder 'street' is empty."
    (tmp_path / "street" / "a.wav").touch()
    assert config.resolve(study)


def test_conditions_are_of_tasks_that_the_workflow_scores(study):
    superb = {"kind": "superb", "problem": "pr", "conditions": ["fast"]}
    study["tasks"]["pr"] = superb | {"corpora": ["prompts"], "metric": "per"}
    said = "tasks.pr.conditions: tasks of kind 'superb' are not scored by this workflow itself."
    assert said in problems(study)


def test_all_mistakes_are_named_at_once(study):
    study["profil"] = {}
    study["tasks"]["phones"]["metric"] = "cer"
    study["recipes"]["thin"] = ["nothing_known"]
    study["grid"][0]["ratios"] = [2]
    assert len(problems(study)) == 4


@pytest.mark.parametrize("value", [None, 3, "x", [], [1], {"a": 1}, {"a": None}, True])
def test_no_shape_breaks_the_check(study, value):
    for section in list(study):
        broken = change(study, [section], value)
        try:
            config.resolve(broken)
        except config.ConfigError as error:
            assert error.problems
    for section in ("corpora", "teachers", "recipes", "tasks"):
        for name in study[section]:
            assert problems(change(study, [section, name], value))


def test_yaml_mistakes_are_named_with_their_line(study, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study) + "precision: auto\nprecision: fp32\n")
    lines = len(file.read_text().splitlines())
    assert problems(study, [file]) == [
        f"precision is written twice in {file}, in lines {lines - 1} and {lines}."
    ]
    file.write_text("a: [1\nb: 2\n")
    assert "line 2" in syntax_problems(file)[0]
