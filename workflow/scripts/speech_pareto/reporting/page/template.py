"""Pages from the templates in `assets/`; whatever a value holds, it is text and never markup."""

from functools import cache
from pathlib import Path

from speech_pareto.runtime.extras import extra

PARTS = Path(__file__).parent / "assets"


def render(name: str, **values) -> str:
    """Return the template `name` with its values filled in, each of them escaped.

    `part(file)` in a template puts in a file of the same folder as it is.
    """
    return _environment().get_template(name).render(values)


@cache
def _environment():
    """Return jinja2's environment, which escapes everything."""
    with extra("report"):
        import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PARTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["part"] = lambda file: _own(PARTS / file)
    return made


def _own(file: Path):
    """Return a file of our own as markup."""
    from markupsafe import Markup

    return Markup(file.read_text(encoding="utf-8"))  # ours, none of a user's
