"""Which sources of corpora there are: the files in `corpora/`, found by name.

A source is a module with what docs/adding-a-corpus.md asks of it. Planning reads this: no numpy.
"""

from types import ModuleType

from speech_pareto.runtime import plugins

PACKAGE = "data.corpora"


def names() -> list[str]:
    """Return the names of all sources."""
    return list(plugins.names(PACKAGE))


def load(name: str) -> ModuleType:
    """Return the source `name`; ValueError with the nearest name if there is none."""
    return plugins.load(PACKAGE, name, "source")


def published(name: str) -> bool:
    """Return whether a source knows where to fetch what it reads."""
    return hasattr(load(name), "fetch")


def languages_of(name: str) -> list[str]:
    """Return the languages of a published source; none of the user's own, or of an unknown one."""
    return list(getattr(load(name), "LANGUAGES", ())) if name in names() else []


def parts_of(name: str) -> list[str]:
    """Return the parts from which a user of the source must choose, if it has any."""
    return list(getattr(load(name), "PARTS", ()))
