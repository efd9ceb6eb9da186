"""Which methods there are: the files in `methods/`, found by name."""

import difflib
import importlib
from pathlib import Path


def names() -> list[str]:
    """Return the names of all methods: the files in `methods/`."""
    folder = Path(__file__).parent / "methods"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def load(name: str) -> type:
    """Return the class of the method `name`; ValueError with the nearest name if there is none."""
    if name not in names():
        near = difflib.get_close_matches(str(name).replace("-", "_"), names(), 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no method {name!r}{hint} (there are {', '.join(names())})")
    module = importlib.import_module(f"speech_pareto.methods.{name}")
    own = (x for x in vars(module).values() if getattr(x, "__module__", "") == module.__name__)
    return next(x for x in own if isinstance(x, type) and hasattr(x, "compress"))
