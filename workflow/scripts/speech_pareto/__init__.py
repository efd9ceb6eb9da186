"""Compressed speech Transformers: `load` a student, or transcribe with it (`load_recogniser`)."""

from importlib import import_module

__version__ = "0.2.0"
_HOMES = {"load": "models.backbone", "load_recogniser": "tasks.recogniser"}


def __getattr__(name: str):
    """Import what is asked for, no sooner: planning reads this package and may have no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
