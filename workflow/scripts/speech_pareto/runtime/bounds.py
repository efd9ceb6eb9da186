"""Types of settings with their limits and units, and what is wrong with given values.

A setting is a field of a dataclass; its annotation says all that a value must be:

    steps: Steps = 60
    layers: Annotated[int, Within(1, 1000, unit="layers")] | None = None
"""

import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any

from speech_pareto.runtime.suggest import unknown

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Within:
    """Limits of a number: `low` and `high` belong to them unless `above` or `below` says so."""

    low: float
    high: float
    above: bool = False  # `low` itself is too low
    below: bool = False  # `high` itself is too high
    unit: str = ""

    def holds(self, number: float) -> bool:
        """Return whether a number is within the limits; NaN never is."""
        enough = number > self.low if self.above else number >= self.low
        return enough and (number < self.high if self.below else number <= self.high)

    def words(self) -> str:
        """Return the limits in words: "above 0 and at most 1 (seconds)"."""
        low = f"{'above' if self.above else 'at least'} {self.low:.10g}"
        high = f"{'below' if self.below else 'at most'} {self.high:.10g}"
        return f"{low} and {high}" + (f" ({self.unit})" if self.unit else "")


Steps = Annotated[int, Within(1, 10**9, unit="steps")]
LearningRate = Annotated[float, Within(0, 1)]  # 0 trains nothing
BatchSeconds = Annotated[float, Within(0.1, 100_000, unit="seconds of audio")]
Share = Annotated[float, Within(0, 1)]
PartOf = Annotated[float, Within(0, 1, below=True)]  # a share that leaves something
MaskShare = Annotated[float, Within(0, 1, above=True)]
MaskSpan = Annotated[int, Within(1, 1000, unit="frames")]
Batches = Annotated[int, Within(1, 1_000_000, unit="batches")]
Weight = Annotated[float, Within(0, 10**6)]  # of a term in a loss


def problems(kind: type, given: Mapping[str, Any]) -> Iterator[tuple[str | None, str]]:
    """Yield (setting, sentence) for all that is wrong with `given` as the fields of a dataclass.

    What only all settings together show (`__post_init__`) comes last, with None for the setting.
    """
    hints = types_of(kind)
    wrong = False
    for key, value in given.items():
        if key not in hints:
            wrong = True
            yield key, unknown("setting", key, sorted(hints))
        elif not fits(value, hints[key]):
            wrong = True
            for place, item, hint in _unfit(key, value, hints[key]):
                yield place, f"{shown(item)} must be {wanted(hint)}{exponent(item)}."
    for field in fields(kind):
        no_default = field.default is MISSING and field.default_factory is MISSING
        if no_default and field.name not in given:
            wrong = True
            yield None, f"the key '{field.name}' is missing."
    if not wrong:
        try:
            kind(**given)
        except ValueError as error:
            yield None, f"{error}."


def _unfit(key: str, value: Any, hint: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (setting, value, annotation) of the items of a list that do not fit, else of it all."""
    several = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = typing.get_args(hint) if several else (hint,)
    lists = [part for part in parts if typing.get_origin(part) is tuple]
    if not (lists and isinstance(value, list | tuple)):
        yield key, value, hint
        return
    own = typing.get_args(lists[0])[0]
    for index, item in enumerate(value):
        if not fits(item, own):
            yield f"{key}[{index}]", item, own


@cache
def types_of(kind: type) -> dict[str, Any]:
    """Return the annotation of each field of a dataclass, limits included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def check(settings: Any) -> None:
    """Raise a ValueError that names each field of a dataclass instance with a wrong value."""
    kind: type = type(settings)
    hints = types_of(kind)
    wrong = [
        f"{field.name}: {shown(value)} must be {wanted(hints[field.name])}"
        for field in fields(settings)
        if not fits(value := getattr(settings, field.name), hints[field.name])
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


class Checked:
    """Base of a dataclass of settings: one with a wrong value cannot be made (ValueError)."""

    def __post_init__(self) -> None:
        check(self)


def fits(value: Any, hint: Any) -> bool:
    """Return whether `value` is what an annotation asks for; an int is a float, a bool is none."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind, *limits = arguments
        return fits(value, kind) and all(limit.holds(value) for limit in limits)
    if origin is typing.Literal:
        return any(value is choice or value == choice for choice in arguments)
    if origin is tuple:  # of any length, all of one type
        return isinstance(value, list | tuple) and all(fits(item, arguments[0]) for item in value)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in arguments)
    if hint in (int, float):
        number = isinstance(value, (int, hint)) and not isinstance(value, bool)
        return number and (isinstance(value, int) or math.isfinite(value))
    return value is None if hint is types.NoneType else isinstance(value, hint)


def wanted(hint: Any) -> str:
    """Return in words what an annotation asks for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return f"{wanted(arguments[0])}, {' and '.join(limit.words() for limit in arguments[1:])}"
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"a list in which each is {wanted(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(wanted, arguments))
    return WORDS.get(hint, "empty")


def shown(value: object) -> str:
    """Return a value for a sentence."""
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return kinds.get(type(value)) or (f"'{value}'" if isinstance(value, str) else str(value))


def exponent(value: Any) -> str:
    """Return a hint about numbers such as 8e-4, which YAML takes for text."""
    is_number = isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value)
    return f" (YAML takes it for text; write {float(value):.1e})" if is_number else ""
