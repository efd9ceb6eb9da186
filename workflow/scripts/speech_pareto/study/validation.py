"""What is wrong with a config, a plain sentence for each mistake."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema

from speech_pareto.compression import catalogue, recipes, targets
from speech_pareto.data import condition as heard
from speech_pareto.data import sources
from speech_pareto.data.sources import languages_of
from speech_pareto.data.text import voice
from speech_pareto.models import latency
from speech_pareto.models.model_folder import problem
from speech_pareto.models.teachers import TEACHERS, known
from speech_pareto.runtime.bounds import exponent, problems, shown
from speech_pareto.runtime.locate import locate
from speech_pareto.runtime.suggest import unknown
from speech_pareto.study import quantities, space
from speech_pareto.study.cells import settings_of
from speech_pareto.study.messages import NAMED, join, limits, listed, mapping, number, unknown_names
from speech_pareto.study.pairs import unfit_pairs
from speech_pareto.study.views import VIEWS
from speech_pareto.tasks import kind
from speech_pareto.training.settings import FineTuning, TinyModel, Training
from speech_pareto.training.tracking import tracker_problems

RESERVED = {
    "any": "it stands for students of no task",
    "backbone": "it stands for the bare teacher",
}
ORIGINS = ("path", "hub", "checkpoint", "pretrain")  # of teachers


def config_problems(config: dict, schema: dict) -> list[str]:
    """Return what is wrong with a config: against the schema, and what no schema can see."""
    validator = _VALIDATOR(schema)
    errors = validator.iter_errors(config)
    errors = sorted(errors, key=lambda e: [str(part) for part in e.absolute_path])
    problems = [line for error in errors for line in _sentences(error)] + _cross_problems(
        config, schema
    )
    problems += _conditions(config, schema["$defs"]["condition"]["properties"])
    problems += tracker_problems()
    return list(dict.fromkeys([*_odd_numbers(config), *problems]))


def _matches(validator, pattern: str, value: object, schema: dict) -> Iterator:
    """Yield an error for a text that does not match a pattern as a whole.

    `$` of Python's expressions also matches before a newline at the end.
    """
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


# As jsonschema's own, but 1.0 is no whole number, and patterns match names as a whole.
_VALIDATOR = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    {"pattern": _matches},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def _odd_numbers(value: object, path: str = "") -> Iterator[str]:
    """Yield a sentence for each number that is not finite, or a negative zero."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _odd_numbers(inner, join(path, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _odd_numbers(inner, join(path, index))
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{path}: {value} must be a finite number."
        elif value == 0 and math.copysign(1, value) < 0:
            yield f"{path}: -0.0 must be 0."


def _sentences(error: Any) -> Iterator[str]:
    """Yield plain sentences for a violation of the schema."""
    value, rule = error.instance, error.validator_value
    at = join("", *error.absolute_path) or "The config"
    match error.validator:
        case "additionalProperties":
            known = sorted(error.schema.get("properties", {}))
            for key in sorted(set(value) - set(known), key=str):
                here = join(at if error.absolute_path else "", key)
                yield f"{here}: {unknown('key', key, known)}"
        case "required":
            for key in rule:
                if key not in value and f"'{key}'" in error.message:
                    yield f"{at}: the key '{key}' is missing."
        case "type":
            kinds = [rule] if isinstance(rule, str) else rule
            wanted = " or ".join(NAMED[kind] for kind in kinds)
            yield f"{at}: {shown(value)} must be {wanted}{exponent(value)}."
        case "enum":
            yield f"{at}: {unknown('value', value, rule)}"
        case "pattern":
            what = error.schema.get("description", f"text that matches {rule}").rstrip(".")
            yield f"{at}: '{value}' must be {what[0].lower()}{what[1:]}."
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            yield f"{at}: {shown(value)} must be {limits(error.schema)}."
        case "uniqueItems":
            twice = [item for index, item in enumerate(value) if item in value[:index]]
            yield f"{at}: {', '.join(dict.fromkeys(map(shown, twice)))} is listed twice."
        case "maxLength":
            yield f"{at}: must have at most {rule} characters."
        case "minItems" | "minProperties":
            yield f"{at}: must not be empty."
        case _:
            yield f"{at}: {error.message}."


def _cross_problems(config: dict, schema: dict) -> list[str]:
    """Return what no schema can see; parts of the wrong shape are left to the schema."""
    parts = {key: mapping(config.get(key)) for key in ("corpora", "teachers", "recipes", "tasks")}
    taken = [task for task in RESERVED if task in parts["tasks"]]
    problems = [f"tasks: a task cannot be named '{task}', {RESERVED[task]}." for task in taken]
    checks = {"corpora": _corpus, "teachers": _teacher, "recipes": _recipe, "tasks": _task}
    for section, check in checks.items():
        for name, value in parts[section].items():
            problems += check(f"{section}.{name}", value, parts)
    folder = config.get("latency", schema["properties"]["latency"]["default"])
    for index, block in enumerate(listed(config.get("grid"))):
        problems += _ratios(f"grid[{index}].ratios", mapping(block).get("ratios"), folder)
        for key in ("recipes", "teachers", "tasks"):
            given = mapping(block).get(key)
            problems += unknown_names(f"grid[{index}].{key}", key[:-1], given, parts[key])
        problems += unfit_pairs(f"grid[{index}]", mapping(block), parts)
    learn_from = mapping(config.get("compress")).get("corpora")
    problems += unknown_names("compress.corpora", "corpus", learn_from, parts["corpora"])
    for key, names in (("costs", quantities.axes()), ("views", VIEWS)):
        given = mapping(config.get("figures")).get(key)
        problems += unknown_names(f"figures.{key}", key[:-1], given, list(names))
    return [*problems, *space.search_problems(config.get("search"), parts, _recipe)]


def _ratios(at: str, ratios: object, folder: object) -> Iterator[str]:
    """Yield which ratios are no share of one cost, or have more digits than folders tell apart."""
    for index, ratio in enumerate(listed(ratios)):
        given, here = mapping(ratio), f"{at}[{index}]"
        shares = [value for key, value in given.items() if key != "device"]
        for share in shares if given else [ratio]:
            if isinstance(share, float) and math.isfinite(share) and round(share, 4) != share:
                yield f"{here}: {share} must have at most 4 decimals."
        if len(given) - ("device" in given) > 1:
            yield f"{here}: {shown(ratio)} must be a share of one cost."
        if targets.TIME in given:
            yield from _device(here, given, str(folder))
        elif "device" in given:
            yield f"{here}.device: only a share of '{targets.TIME}' has it."


def _device(at: str, ratio: dict, folder: str) -> Iterator[str]:
    """Yield what is wrong with the table by which a ratio's seconds are told."""
    if "device" not in ratio:
        yield f"{at}: the key 'device' is missing, whose table of latencies tells seconds."
        return
    try:
        latency.read(latency.find(str(ratio["device"]), folder))
    except (OSError, ValueError) as error:
        yield f"{at}.device: {str(error).rstrip('.')}."


def _corpus(at: str, value: object, parts: dict) -> Iterator[str]:
    """Yield what is wrong with a corpus."""
    value, known_sources = mapping(value), sources.names()
    source = value.get("source")
    if not isinstance(source, str):
        return
    if source not in known_sources:
        yield f"{at}.source: {unknown('source', source, known_sources)}"
        return
    if sources.published(source):
        known = languages_of(source)
        yield from unknown_names(f"{at}.languages", "language", value.get("languages"), known)
        if "languages" not in value and len(known) > 1:
            yield f"{at}: the key 'languages' is missing (known: {', '.join(known)})."
        if "language" in value:
            yield f"{at}.language: the source '{source}' does not use it."
        if "path" in value and "mirror" in value:
            yield f"{at}: 'path' and 'mirror' exclude each other."
        if isinstance(value.get("path"), str) and not _is(value["path"], Path.is_dir):
            yield f"{at}.path: there is no folder '{value['path']}'."
    else:
        for key in ("path", "language"):
            if key not in value:
                yield f"{at}: the key '{key}' is missing, which the source '{source}' needs."
        for key in ("languages", "mirror"):
            if key in value:
                yield f"{at}.{key}: the source '{source}' does not use it."
        if isinstance(value.get("path"), str) and not _is(value["path"], Path.is_file):
            yield f"{at}.path: there is no file '{value['path']}'."
        yield from _spoken(f"{at}.language", value.get("language"))
    known = sources.parts_of(source)
    if known and "parts" not in value:
        yield f"{at}: the key 'parts' is missing (known: {', '.join(known)})."
    elif known:
        yield from unknown_names(f"{at}.parts", "part", value["parts"], known)
    elif "parts" in value:
        yield f"{at}.parts: the source '{source}' does not use it."


def _spoken(at: str, language: object) -> Iterator[str]:
    """Yield that espeak-ng speaks no such language; `prepare_corpus` asks, too.

    Nothing where espeak-ng is not installed: with conda only that job has it.
    """
    if isinstance(language, str):
        try:
            voice(language)
        except ModuleNotFoundError:
            return
        except ValueError as error:
            yield f"{at}: {error}."


def _teacher(at: str, value: object, parts: dict) -> Iterator[str]:
    """Yield what is wrong with a teacher."""
    if not isinstance(value, dict):
        return
    origins = [key for key in ORIGINS if key in value]
    if not origins:
        *first, last = map("'{}'".format, ORIGINS)
        yield f"{at}: one of {', '.join(first)} and {last} must say where it comes from."
    elif set(origins) - {"path", "pretrain"} and len(origins) > 1:
        yield f"{at}: '{origins[0]}' and '{origins[1]}' exclude each other."
    for key, owner in (("revision", "hub"), ("sha256", "hub"), ("statistics", "checkpoint")):
        if key in value and owner not in value:
            yield f"{at}.{key}: only a teacher with the key '{owner}' has one."
    yield from _hub(at, value)
    for key in ("checkpoint", "statistics"):
        if isinstance(value.get(key), str) and not _is(value[key], Path.is_file):
            yield f"{at}.{key}: there is no file '{value[key]}'."
    yield from _folder(f"{at}.path", value.get("path"))
    finetuned = mapping(value.get("finetuned"))
    yield from unknown_names(f"{at}.finetuned", "task", list(finetuned), parts["tasks"])
    for task, path in finetuned.items():
        hint = "; without this line it is made by the workflow"
        yield from _folder(f"{at}.finetuned.{task}", path, hint)
    pretrain = mapping(value.get("pretrain"))
    learnt = pretrain.get("corpora")
    yield from unknown_names(f"{at}.pretrain.corpora", "corpus", learnt, parts["corpora"])
    yield from _pretrained_model(f"{at}.pretrain", pretrain)


def _settings(at: str, kind: type, given: dict) -> Iterator[str]:
    """Yield what is wrong with settings, as the class that takes them says."""
    for key, said in problems(kind, given):
        yield f"{join(at, key) if key else at}: {said}"


def _pretrained_model(at: str, pretrain: dict) -> Iterator[str]:
    """Yield what is wrong with the model that a teacher's pretraining makes, and its iterations."""
    model = mapping(pretrain.get("model"))
    yield from _settings(f"{at}.model", TinyModel, model)
    layers = model.get("layers", TinyModel.layers)
    for index, iteration in enumerate(map(mapping, listed(pretrain.get("iterations")))):
        here = f"{at}.iterations[{index}]"
        own = {k: v for k, v in iteration.items() if k not in ("units", "layer")}
        yield from _settings(here, Training, own)
        layer = iteration.get("layer")
        if isinstance(layer, int) and isinstance(layers, int) and layer > layers:
            yield f"{here}.layer: {layer} must be at most {layers}, the layers of the model."


def _hub(at: str, value: dict) -> Iterator[str]:
    """Yield what is wrong with where on the hub a teacher is: a commit must be pinned."""
    hub = value.get("hub")
    if not isinstance(hub, str):
        return
    found = known(hub)
    if found is None and "/" not in hub:
        yield f"{at}.hub: {unknown('teacher', hub, TEACHERS)} Others are named 'owner/model'."
    elif "revision" not in value and not (found and found[1].revision):
        name = found[1].hub if found else hub
        yield f"{at}: the key 'revision' is missing, the commit of {name} that is to be used."


def _recipe(at: str, steps: object, parts: dict) -> Iterator[str]:
    """Yield what is wrong with a recipe."""
    methods, free = catalogue.names(), []
    for index, step in enumerate(listed(steps)):
        here = f"{at}[{index}]"
        if isinstance(step, dict) and len(step) != 1:
            yield f"{here}: an entry names one method, this one names {len(step)}."
        for name, settings in mapping(settings_of(step)).items():
            if name not in methods:
                yield f"{here}: {unknown('method', name, methods)}"
            elif settings is not None and not isinstance(settings, dict):
                yield f"{here}.{name}: {shown(settings)} must be a mapping of settings."
            else:
                method, settings = catalogue.load(name), settings or {}
                yield from _settings(f"{here}.{name}", method, settings)
                if index and method.trains_once:
                    yield f"{here}.{name}: {recipes.FIRST}."
                if settings.get("ratio") is None and method.removes:
                    free.append(name)
    if len(free) > 1:
        names, example = " and ".join(free), f"{free[0]}: {{ratio: 0.2}}"
        yield f"{at}: all but one of {names} need a ratio of their own, as in '{example}'."


def _task(at: str, value: object, parts: dict) -> Iterator[str]:
    """Yield what is wrong with a task."""
    if not isinstance(value, dict):
        return
    name = value.get("kind", "ctc")
    if name in kind.names():
        yield from _of_kind(at, value, kind.kind_of(name))
    else:
        yield f"{at}.kind: {unknown('kind of task', name, kind.names())}"
    yield from unknown_names(f"{at}.corpora", "corpus", value.get("corpora"), parts["corpora"])
    languages = [
        language
        for corpus in map(str, listed(value.get("corpora")))
        for entry in [mapping(parts["corpora"].get(corpus))]
        for given in [entry.get("languages", languages_of(str(entry.get("source"))))]
        for language in [*listed(given), entry.get("language")]
        if isinstance(language, str)
    ]
    known = list(dict.fromkeys(languages))
    yield from unknown_names(f"{at}.languages", "language", value.get("languages"), known)
    for place, said in heard.problems(listed(value.get("conditions"))):
        yield f"{at}.conditions{place}: {said}"
    for key, path in mapping(value.get("language_model")).items():
        if isinstance(path, str) and not _is(path, Path.is_file):
            yield f"{at}.language_model.{key}: there is no file '{path}'."


def _of_kind(at: str, value: dict, own: kind.Kind) -> Iterator[str]:
    """Yield what is wrong with a task, as its kind says."""
    for key in own.required:
        if key not in value:
            yield f"{at}: the key '{key}' is missing."
    kinds = list(map(kind.kind_of, kind.names()))
    for key in sorted({key for other in kinds for key in other.keys} & set(value) - set(own.keys)):
        owners = " or ".join(f"'{other.name}'" for other in kinds if key in other.keys)
        yield f"{at}.{key}: only a task of kind {owners} has it."
    if "conditions" in value and "evaluate" not in own.rules:
        yield f"{at}.conditions: tasks of kind '{own.name}' are not scored by this workflow itself."
    for key, said in own.problems(value):
        yield f"{join(at, key) if key else at}: {said}"
    if own.finetunes:
        for key in ("teacher", "student"):
            if isinstance(value.get(key), dict):
                yield from _settings(f"{at}.{key}", FineTuning, value[key])


def _conditions(config: dict, rules: dict) -> Iterator[str]:
    """Yield the conditions of a profile that measure what one before them does."""
    first, profile = {}, mapping(config.get("profile"))
    for index, condition in enumerate(listed(profile.get("conditions"))):
        full = {key: rule["default"] for key, rule in rules.items()} | mapping(condition)
        shape = {**full, "audio_seconds": number(full["audio_seconds"]), "repeats": None}
        key = str(sorted(shape.items(), key=str))
        if (before := first.setdefault(key, index)) != index:
            yield f"profile.conditions[{index}]: the same as profile.conditions[{before}]."


def _is(path: str, kind: Callable[[Path], bool]) -> bool:
    """Return whether a path of the config is there, as a file or as a folder."""
    try:
        return kind(locate(path))
    except (OSError, RuntimeError, ValueError):  # too long, an unknown user's home, a null byte
        return False


def _folder(at: str, path: object, hint: str = "") -> Iterator[str]:
    """Yield what is wrong with a folder that shall hold a model."""
    if not isinstance(path, str):
        return
    if not _is(f"{path}/config.json", Path.is_file):
        what = "no config.json in the folder" if _is(path, Path.is_dir) else "no folder"
        yield f"{at}: there is {what} '{path}'{hint}."
    elif found := problem(locate(path)):
        yield f"{at}: {found}."
