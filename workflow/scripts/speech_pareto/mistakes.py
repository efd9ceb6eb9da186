"""What is wrong with a config, a plain sentence for each mistake."""

import ast
import difflib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from speech_pareto import digest
from speech_pareto.study import downloads, locate, settings_of

LIBRARY = digest.SCRIPTS / "speech_pareto"
RESERVED = {
    "any": "it stands for students of no task",
    "backbone": "it stands for the bare teacher",
}
KINDS = {dict: "a mapping", list: "a list", type(None): "nothing"}
NAMED = {"object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false"}
NAMED |= {"number": "a number", "integer": "a whole number"}


def syntax_problems(file: str | Path) -> list[str]:
    """Return what is wrong with a YAML file as such: its syntax, keys that stand there twice."""
    try:
        tree = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark, problem = (
            getattr(error, "problem_mark", None),
            getattr(error, "problem", None) or error,
        )
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return [f"{file}{at}: this is not YAML, {problem}."]
    except (OSError, UnicodeDecodeError) as error:
        return [f"{file} cannot be read, {error}."]
    return [] if tree is None else list(_repeated_keys(tree, str(file)))


def config_problems(config: dict, schema: dict) -> list[str]:
    """Return what is wrong with a config: against the schema, and what no schema can see."""
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(
        validator.iter_errors(config), key=lambda e: [str(part) for part in e.absolute_path]
    )
    problems = [line for error in errors for line in _sentences(error)] + _cross_problems(config)
    return problems + list(_conditions(config, schema["$defs"]["condition"]["properties"]))


def _repeated_keys(node: yaml.Node, file: str, path: str = "") -> Iterator[str]:
    """Yield a sentence for each key that a mapping holds twice (YAML would keep the last only)."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated_keys(item, file, f"{path}[{index}]")
    elif isinstance(node, yaml.MappingNode):
        lines = {}
        for key, value in node.value:
            name, line = _join(path, key.value), key.start_mark.line + 1
            if key.value in lines:
                yield f"{name} stands twice in {file}, in lines {lines[key.value]} and {line}."
            lines[key.value] = line
            yield from _repeated_keys(value, file, name)


def _sentences(error: jsonschema.ValidationError) -> Iterator[str]:
    """Yield plain sentences for a violation of the schema."""
    value, rule = error.instance, error.validator_value
    at = _join("", *error.absolute_path) or "The config"
    match error.validator:
        case "additionalProperties":
            known = sorted(error.schema.get("properties", {}))
            for key in sorted(set(value) - set(known), key=str):
                here = _join(at if error.absolute_path else "", key)
                yield f"{here}: {_unknown('key', key, known)}"
        case "required":
            missing = [key for key in rule if key not in value]
            yield from (
                f"{at}: the key '{key}' is missing."
                for key in missing
                if f"'{key}'" in error.message
            )
        case "type":
            kinds = [rule] if isinstance(rule, str) else rule
            wanted = " or ".join(NAMED[kind] for kind in kinds)
            yield f"{at}: {_shown(value)} must be {wanted}{_exponent(value)}."
        case "enum":
            yield f"{at}: {_unknown('value', value, rule)}"
        case "pattern":
            what = error.schema.get("description", f"text that matches {rule}").rstrip(".")
            yield f"{at}: '{value}' must be {what[0].lower()}{what[1:]}."
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            yield f"{at}: {_shown(value)} must be {_range(error.schema)}."
        case "uniqueItems":
            twice = [item for index, item in enumerate(value) if item in value[:index]]
            yield f"{at}: {', '.join(dict.fromkeys(map(_shown, twice)))} stands there twice."
        case "minItems" | "minProperties":
            yield f"{at}: must not be empty."
        case _:
            yield f"{at}: {error.message}."


def _cross_problems(config: dict) -> list[str]:
    """Return what no schema can see; parts of the wrong shape are left to the schema."""
    parts = {key: _mapping(config.get(key)) for key in ("corpora", "teachers", "recipes", "tasks")}
    problems = [
        f"tasks: a task cannot be named '{task}', {RESERVED[task]}."
        for task in RESERVED
        if task in parts["tasks"]
    ]
    checks = {"corpora": _corpus, "teachers": _teacher, "recipes": _recipe, "tasks": _task}
    for section, check in checks.items():
        for name, value in parts[section].items():
            problems += check(f"{section}.{name}", value, parts)
    for index, block in enumerate(_list(config.get("grid"))):
        for key in ("recipes", "teachers", "tasks"):
            problems += _names(
                f"grid[{index}].{key}", key[:-1], _mapping(block).get(key), parts[key]
            )
        problems += _frozen(f"grid[{index}]", _mapping(block), parts)
    learn_from = _mapping(config.get("compress")).get("corpora")
    problems += _names("compress.corpora", "corpus", learn_from, parts["corpora"])
    costs = list(digest.constant(LIBRARY / "table.py", "COSTS") or {})
    problems += _names("figures.costs", "cost", _mapping(config.get("figures")).get("costs"), costs)
    return problems


def _corpus(at: str, value: object, parts: dict) -> Iterator[str]:
    """Yield what is wrong with a corpus."""
    value, sources = _mapping(value), digest.stems(LIBRARY / "corpora")
    source = value.get("source")
    if not isinstance(source, str):
        return
    if source not in sources:
        yield f"{at}.source: {_unknown('source', source, sources)}"
    elif downloads(source):
        known = _languages(source)
        if "languages" not in value:
            yield f"{at}: the key 'languages' is missing (known: {', '.join(known)})."
        yield from _names(f"{at}.languages", "language", value.get("languages"), known)
        for key in ("path", "language"):
            if key in value:
                yield f"{at}.{key}: the source '{source}' does not use it, it is downloaded."
    else:
        for key in ("path", "language"):
            if key not in value:
                yield f"{at}: the key '{key}' is missing, which the source '{source}' needs."
        for key in ("languages", "mirror"):
            if key in value:
                yield f"{at}.{key}: the source '{source}' does not use it."
        if isinstance(value.get("path"), str) and not locate(value["path"]).is_file():
            yield f"{at}.path: there is no file '{value['path']}'."


def _teacher(at: str, value: object, parts: dict) -> Iterator[str]:
    """Yield what is wrong with a teacher."""
    if not isinstance(value, dict):
        return
    origins = [key for key in ("path", "hub", "pretrain") if key in value]
    if not origins:
        yield f"{at}: one of the keys 'path', 'hub' and 'pretrain' must say where it comes from."
    elif "hub" in origins and len(origins) > 1:
        yield f"{at}: 'hub' and '{(set(origins) - {'hub'}).pop()}' exclude each other."
    if "revision" in value and "hub" not in value:
        yield f"{at}.revision: only a teacher with the key 'hub' has one."
    yield from _folder(f"{at}.path", value.get("path"))
    finetuned = _mapping(value.get("finetuned"))
    yield from _names(f"{at}.finetuned", "task", list(finetuned), parts["tasks"])
    for task, path in finetuned.items():
        yield from _folder(
            f"{at}.finetuned.{task}", path, "; without this line it is made by the workflow"
        )
    pretrain = _mapping(value.get("pretrain"))
    yield from _names(f"{at}.pretrain.corpora", "corpus", pretrain.get("corpora"), parts["corpora"])
    accepted = digest.settings(LIBRARY / "training.py", "Training") or {}
    for index, iteration in enumerate(_list(pretrain.get("iterations"))):
        iteration = {k: v for k, v in _mapping(iteration).items() if k not in ("units", "layer")}
        yield from _settings(
            f"{at}.pretrain.iterations[{index}]", iteration, accepted, ("units", "layer")
        )


def _recipe(at: str, steps: object, parts: dict) -> Iterator[str]:
    """Yield what is wrong with a recipe."""
    methods, free = digest.stems(LIBRARY / "methods"), []
    for index, step in enumerate(_list(steps)):
        here = f"{at}[{index}]"
        if isinstance(step, dict) and len(step) != 1:
            yield f"{here}: a step names one method, this one names {len(step)}."
        for name, settings in _mapping(settings_of(step)).items():
            if name not in methods:
                yield f"{here}: {_unknown('method', name, methods)}"
            elif settings is not None and not isinstance(settings, dict):
                yield f"{here}.{name}: {_shown(settings)} must be a mapping of settings."
            else:
                file, settings = LIBRARY / "methods" / f"{name}.py", settings or {}
                yield from _settings(f"{here}.{name}", settings, digest.settings(file) or {})
                ratio = settings.get("ratio")
                if isinstance(ratio, int | float) and not 0 <= ratio < 1:
                    yield f"{here}.{name}.ratio: {ratio} must be at least 0 and below 1."
                if ratio is None and digest.attribute(file, "removes") is not False:
                    free.append(name)
    if len(free) > 1:
        names, example = " and ".join(free), f"{free[0]}: {{ratio: 0.2}}"
        yield f"{at}: all but one of {names} need a ratio of their own, as in '{example}'."


def _task(at: str, value: object, parts: dict) -> Iterator[str]:
    """Yield what is wrong with a task."""
    if not isinstance(value, dict):
        return
    kinds = digest.stems(LIBRARY / "tasks")
    kind, metric = value.get("kind", "ctc"), value.get("metric")
    if kind not in kinds:
        yield f"{at}.kind: {_unknown('kind of task', kind, kinds)}"
    elif metric is not None:
        known = list(digest.constant(LIBRARY / "tasks" / f"{kind}.py", "METRICS") or {})
        if kind == "ctc":  # phones have no words to count
            known = [
                name
                for name in known
                if (name == "per") == (value.get("unit", "phones") == "phones")
            ]
        yield from _names(f"{at}.metric", "metric", [metric], known)
    yield from _names(f"{at}.corpora", "corpus", value.get("corpora"), parts["corpora"])
    languages = [
        language
        for corpus in map(str, _list(value.get("corpora")))
        for entry in [_mapping(parts["corpora"].get(corpus))]
        for language in [*_list(entry.get("languages")), entry.get("language")]
        if language
    ]
    yield from _names(
        f"{at}.languages", "language", value.get("languages"), list(dict.fromkeys(languages))
    )
    accepted = digest.settings(LIBRARY / "task.py", "FineTuning") or {}
    for key in ("teacher", "student"):
        yield from _settings(f"{at}.{key}", _mapping(value.get(key)), accepted)


def _frozen(at: str, block: dict, parts: dict) -> Iterator[str]:
    """Yield the pairs of a block whose recipe would train what the task's probe keeps frozen."""
    methods = digest.stems(LIBRARY / "methods")
    tuned = {
        recipe
        for recipe, steps in parts["recipes"].items()
        for step in _list(steps)
        for name in _mapping(settings_of(step))
        if name in methods and digest.attribute(LIBRARY / "methods" / f"{name}.py", "task_aware")
    }
    for task in _list(block.get("tasks", list(parts["tasks"]))):
        if _mapping(parts["tasks"].get(task)).get("protocol") == "probe":
            for recipe in _list(block.get("recipes", list(parts["recipes"]))):
                if recipe in tuned:
                    yield f"{at}: '{recipe}' trains on '{task}' what its protocol 'probe' freezes."


def _conditions(config: dict, rules: dict) -> Iterator[str]:
    """Yield the conditions of a profile that measure what one before them does."""
    first, profile = {}, _mapping(config.get("profile"))
    for index, condition in enumerate(_list(profile.get("conditions"))):
        full = {key: rule["default"] for key, rule in rules.items()} | _mapping(condition)
        shape = {**full, "audio_seconds": _number(full["audio_seconds"]), "repeats": None}
        key = str(sorted(shape.items(), key=str))
        if (before := first.setdefault(key, index)) != index:
            yield f"profile.conditions[{index}]: the same as profile.conditions[{before}]."


def _settings(at: str, given: dict, accepted: dict, others: Iterable[str] = ()) -> Iterator[str]:
    """Yield what is wrong with settings, compared with the fields of a dataclass."""
    for name, value in given.items():
        if name not in accepted:
            yield f"{_join(at, name)}: {_unknown('setting', name, sorted([*accepted, *others]))}"
        elif wanted := _wrong_type(value, accepted[name].annotation):
            yield f"{_join(at, name)}: {_shown(value)} must be {wanted}."
    missing = [name for name, setting in accepted.items() if setting.default is digest.REQUIRED]
    yield from (f"{at}: the key '{name}' is missing." for name in missing if name not in given)


def _wrong_type(value: object, annotation: str) -> str | None:
    """Return what an annotation asks for if `value` is something else; odd ones accept all."""
    words = {
        "int": "a whole number",
        "float": "a number",
        "str": "text",
        "bool": "true or false",
        "None": "empty",
    }
    kinds = {"int": int, "float": (int, float), "str": str, "bool": bool, "None": type(None)}
    wanted = []
    for part in (part.strip() for part in annotation.split("|")):
        if part.startswith("Literal["):
            choices = ast.literal_eval(part.removeprefix("Literal"))
            if value in choices:
                return None
            wanted += map(str, choices)
        elif part.startswith("tuple["):
            kind = part.removeprefix("tuple[").removesuffix(", ...]")
            if isinstance(value, list) and not any(_wrong_type(item, kind) for item in value):
                return None
            wanted.append(f"a list in which each is {words.get(kind, kind)}")
        elif part not in kinds or (
            isinstance(value, kinds[part]) and (part == "bool" or not isinstance(value, bool))
        ):
            return None
        else:
            wanted.append(words[part])
    return " or ".join(wanted) + _exponent(value)


def _exponent(value: object) -> str:
    """Return a hint about numbers such as 8e-4, which YAML takes for text."""
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value)
    return f" (YAML takes it for text; write {float(value):.1e})" if is_number else ""


def _names(at: str, what: str, given: object, known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name in a list that is not known."""
    known = list(known)
    for name in _list(given):
        if name not in known:
            yield f"{at}: {_unknown(what, name, known)}"


def _folder(at: str, path: object, hint: str = "") -> Iterator[str]:
    """Yield what is missing from a folder that shall hold a model."""
    if isinstance(path, str) and not (locate(path) / "config.json").is_file():
        what = "no config.json in the folder" if locate(path).is_dir() else "no folder"
        yield f"{at}: there is {what} '{path}'{hint}."


@cache
def _languages(source: str) -> list[str]:
    """Return the languages of a built-in corpus."""
    file = LIBRARY / "corpora" / f"{source}.py"
    return list(digest.constant(file, "LANGUAGES") or digest.constant(file, "VOICES") or ())


def _unknown(what: str, name: object, known: Iterable[object]) -> str:
    """Return the sentence about a name that nobody knows."""
    known = [str(item) for item in known]
    close = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    guess = f"; did you mean '{close[0]}'?" if close else "."
    return f"unknown {what} '{name}'{guess} Known: {', '.join(known) or 'none'}."


def _shown(value: object) -> str:
    """Return a value for a sentence."""
    if isinstance(value, bool):
        return str(value).lower()
    return KINDS.get(type(value)) or (f"'{value}'" if isinstance(value, str) else str(value))


def _range(rule: dict) -> str:
    """Return the limits of a number in words."""
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return " and ".join(f"{word} {rule[key]}" for key, word in words.items() if key in rule)


def _join(path: str, *parts: object) -> str:
    """Return a path into the config: `grid[0].ratios`."""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path


def _number(value: object) -> object:
    """Return a number as a float, else the value."""
    return float(value) if isinstance(value, int | float) else value


def _mapping(value: object) -> dict:
    """Return a mapping, empty if it is something else."""
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list:
    """Return a list, empty if it is something else."""
    return value if isinstance(value, list) else []
