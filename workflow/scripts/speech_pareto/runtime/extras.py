"""Packages that not every use needs: what brings one that is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str | None = None) -> Iterator[None]:
    """Say which extra of pyproject.toml brings a package that an import in this block lacks.

    None: `pip install` brings it without any extra. Raises ModuleNotFoundError in plain words.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "speech_pareto"):
            raise
        wanted = f"[{name}]" if name else ""
        raise ModuleNotFoundError(
            f"{package} is not installed: pip install 'speech-pareto{wanted}', or '.{wanted}' in a "
            "clone, brings it",
            name=error.name,
        ) from None
