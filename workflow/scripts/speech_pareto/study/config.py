"""A study's config: checked, with its defaults filled in.

Like `mistakes` and `study`, it needs neither torch nor any method's code: what a method, a task or
a corpus accepts is read from its source.
"""

from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from speech_pareto.data import condition
from speech_pareto.data.sources import languages_of
from speech_pareto.models.teachers import pinned
from speech_pareto.study.cells import settings_of
from speech_pareto.study.syntax import syntax_problems
from speech_pareto.study.validation import config_problems
from speech_pareto.study.views import VIEWS
from speech_pareto.tasks.kind import kind_of

SCHEMA = Path(__file__).with_name("config.schema.yaml")


class ConfigError(ValueError):
    """A config that cannot be used; `problems` holds a plain sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__("\n  - ".join([f"The config has {count}:", *problems]))


def resolve(config: dict, files: Iterable[str | Path] = ()) -> dict:
    """Return the config with defaults filled in and keys sorted.

    `files` are the YAML files it was read from: only they tell of names that stand there twice.
    Raises ConfigError that lists all problems.
    """
    problems = [line for file in files for line in syntax_problems(file)]
    problems += config_problems(config, schema())
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return _sorted(_expand(_with_defaults(deepcopy(config), schema())))


@cache
def schema() -> dict:
    """Return the config's schema."""
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def dump(study: dict, file: str | Path) -> None:
    """Write a resolved config as YAML."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(study, sort_keys=True, allow_unicode=True)
    Path(file).write_text(text, encoding="utf-8")


def load(file: str | Path) -> dict:
    """Return the resolved config that `dump` wrote; it is resolved once only.

    ValueError with the file's name if it is none.
    """
    if problems := syntax_problems(file):
        raise ValueError(f"{problems[0]} Delete it and start Snakemake again.")
    return yaml.safe_load(Path(file).read_text(encoding="utf-8"))


def _with_defaults(value: Any, rules: dict) -> Any:
    """Return `value` with the schema's defaults filled in."""
    if "$ref" in rules:
        rules = schema()["$defs"][rules["$ref"].rsplit("/", 1)[-1]] | rules
    if isinstance(value, list):
        return [_with_defaults(item, rules.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    known, others = rules.get("properties", {}), rules.get("additionalProperties")
    defaults = {key: rule["default"] for key, rule in known.items() if "default" in rule}
    value = deepcopy(defaults) | value
    others = others if isinstance(others, dict) else {}
    return {key: _with_defaults(item, known.get(key, others)) for key, item in value.items()}


def _expand(config: dict) -> dict:
    """Return the config with each short form written out."""
    for steps in config["recipes"].values():
        given = [settings_of(step).items() for step in steps]
        steps[:] = [{method: own or {} for method, own in step} for step in given]
    config["compress"].setdefault("corpora", sorted(config["corpora"]))
    config["figures"].setdefault("views", list(VIEWS))
    for name, teacher in config["teachers"].items():
        config["teachers"][name] = pinned(teacher) if "hub" in teacher else teacher
    for corpus in config["corpora"].values():
        known = languages_of(corpus["source"])
        corpus.setdefault("languages", known if len(known) == 1 else [corpus.get("language")])
    for name, task in config["tasks"].items():
        kind = kind_of(task["kind"])
        config["tasks"][name] = task = kind.filled(task)
        if "conditions" in task:
            task["conditions"] = condition.filled(task["conditions"])
        if kind.finetunes:
            for training in (task["teacher"], task["student"]):
                training.setdefault("precision", config["precision"])
    for teacher in config["teachers"].values():
        for iteration in teacher.get("pretrain", {}).get("iterations", []):
            iteration.setdefault("precision", config["precision"])
    return config


def _sorted(value: Any) -> Any:
    """Return `value` with all mappings sorted, so that their order means nothing."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
