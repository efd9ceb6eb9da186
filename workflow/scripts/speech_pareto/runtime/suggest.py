"""The sentence about an unknown name, with the nearest known one."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: object, known: Iterable[object]) -> str:
    """Return the sentence about a name that nobody knows."""
    names = [str(item) for item in known]
    close = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    guess = f"; did you mean '{close[0]}'?" if close else "."
    return f"unknown {what} '{name}'{guess} Known: {', '.join(names) or 'none'}."
