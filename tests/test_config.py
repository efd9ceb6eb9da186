"""The config: the shipped study is valid, every key is described, defaults are filled in."""

import yaml

from helpers.checkout import ROOT
from speech_pareto.study import config
from speech_pareto.study.cells import cells, removes


def test_order_of_keys_means_nothing(study):
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(study.items())
    }
    assert list(config.resolve(turned)) == list(config.resolve(study))
    assert repr(config.resolve(turned)) == repr(config.resolve(study))


def test_defaults_and_short_forms_are_written_out(study):
    resolved = config.resolve(study)
    assert resolved["recipes"]["thin"] == [{"ffn_pruning": {}}]
    assert resolved["tasks"]["phones"]["start"] == "finetuned"
    assert resolved["tasks"]["phones"]["student"]["precision"] == "auto"
    assert resolved["corpora"]["mine"]["languages"] == ["de"]
    assert resolved["compress"]["corpora"] == ["mine", "prompts"]
    assert resolved["profile"]["repeats"] == 7
    assert [one["threads"] for one in resolved["profile"]["conditions"]] == [1, "all", 1]
    assert {one["audio_seconds"] for one in resolved["profile"]["conditions"]} == {2, 10}
    assert config.resolve(resolved | {"corpora": study["corpora"]}) == resolved


def test_a_published_teacher_is_pinned(study):
    study["teachers"] = {"base": {"hub": "hubert-base"}}
    resolved = config.resolve(study)
    teacher = resolved["teachers"]["base"]
    assert teacher["hub"] == "facebook/hubert-base-ls960" and len(teacher["revision"]) == 40
    assert list(teacher["sha256"]) == ["pytorch_model.bin"]
    assert config.resolve(resolved | {"corpora": study["corpora"]}) == resolved


def test_every_key_is_described():
    """Each key of the schema has a description, and stands in config/README.md."""
    readme = (ROOT / "config" / "README.md").read_text()

    def keys(rules, path=""):
        for key, rule in rules.get("properties", {}).items():
            yield f"{path}.{key}", rule
            yield from keys(rule, f"{path}.{key}")
        for part in ("items", "additionalProperties"):
            if isinstance(rules.get(part), dict):
                yield from keys(rules[part], path)

    schema = config.schema()
    found = [pair for part in [schema, *schema["$defs"].values()] for pair in keys(part)]
    assert len(found) > 40
    for path, rule in found:
        assert "description" in rule or "$ref" in rule, path
        assert f"`{path.rsplit('.', 1)[-1]}`" in readme, path


def test_default_study_names_only_existing_keys(tree, monkeypatch):
    monkeypatch.chdir(tree)
    file = tree / "config" / "config.yaml"
    resolved = config.resolve(yaml.safe_load(file.read_text()), [file])
    assert cells(resolved)
    assert not all(removes(steps) for steps in resolved["recipes"].values())


def test_a_resolved_config_is_read_as_it_was_written(study, tmp_path):
    resolved = config.resolve(study)
    config.dump(resolved, tmp_path / "run_config.yaml")
    assert config.load(tmp_path / "run_config.yaml") == resolved
