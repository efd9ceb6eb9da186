"""The words of what is wrong with a config: sentences about names, numbers, settings and types."""

from collections.abc import Iterable, Iterator

from speech_pareto.runtime.suggest import unknown

NAMED = {"object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false"}
NAMED |= {"number": "a number", "integer": "a whole number"}


def unknown_names(at: str, what: str, given: object, known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name in a list that is not known."""
    known = list(known)
    for name in listed(given):
        if name not in known:
            yield f"{at}: {unknown(what, name, known)}"


def limits(rule: dict) -> str:
    """Return the limits of a number in words."""
    words = {"minimum": "at least", "exclusiveMinimum": "above"}
    words |= {"maximum": "at most", "exclusiveMaximum": "below"}
    return " and ".join(f"{word} {rule[key]}" for key, word in words.items() if key in rule)


def join(path: str, *parts: object) -> str:
    """Return a path into the config: `grid[0].ratios`."""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path


def number(value: object) -> object:
    """Return a number as a float, else the value."""
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else value


def mapping(value: object) -> dict:
    """Return a mapping, empty if it is something else."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list:
    """Return a list, empty if it is something else."""
    return value if isinstance(value, list) else []
