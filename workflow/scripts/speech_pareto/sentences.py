"""The words of what is wrong with a config: sentences about names, numbers, settings and types."""

import ast
import difflib
import re
from collections.abc import Iterable, Iterator

from speech_pareto import digest

KINDS = {dict: "a mapping", list: "a list", type(None): "nothing"}
NAMED = {"object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false"}
NAMED |= {"number": "a number", "integer": "a whole number"}


def settings_problems(
    at: str, given: dict, accepted: dict, others: Iterable[str] = ()
) -> Iterator[str]:
    """Yield what is wrong with settings, compared with the fields of a dataclass."""
    for name, value in given.items():
        if name not in accepted:
            yield f"{join(at, name)}: {unknown('setting', name, sorted([*accepted, *others]))}"
        elif wanted := _wrong_type(value, accepted[name].annotation):
            yield f"{join(at, name)}: {shown(value)} must be {wanted}."
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
    return " or ".join(wanted) + exponent(value)


def exponent(value: object) -> str:
    """Return a hint about numbers such as 8e-4, which YAML takes for text."""
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value)
    return f" (YAML takes it for text; write {float(value):.1e})" if is_number else ""


def unknown_names(at: str, what: str, given: object, known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name in a list that is not known."""
    known = list(known)
    for name in listed(given):
        if name not in known:
            yield f"{at}: {unknown(what, name, known)}"


def unknown(what: str, name: object, known: Iterable[object]) -> str:
    """Return the sentence about a name that nobody knows."""
    known = [str(item) for item in known]
    close = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    guess = f"; did you mean '{close[0]}'?" if close else "."
    return f"unknown {what} '{name}'{guess} Known: {', '.join(known) or 'none'}."


def shown(value: object) -> str:
    """Return a value for a sentence."""
    if isinstance(value, bool):
        return str(value).lower()
    return KINDS.get(type(value)) or (f"'{value}'" if isinstance(value, str) else str(value))


def limits(rule: dict) -> str:
    """Return the limits of a number in words."""
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return " and ".join(f"{word} {rule[key]}" for key, word in words.items() if key in rule)


def join(path: str, *parts: object) -> str:
    """Return a path into the config: `grid[0].ratios`."""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path


def number(value: object) -> object:
    """Return a number as a float, else the value."""
    return float(value) if isinstance(value, int | float) else value


def mapping(value: object) -> dict:
    """Return a mapping, empty if it is something else."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list:
    """Return a list, empty if it is something else."""
    return value if isinstance(value, list) else []
