"""Commands beside the workflow: `speech-pareto --help`, or `python -m speech_pareto --help`."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from speech_pareto import __version__
from speech_pareto.commands import students, studies
from speech_pareto.commands.epilog import examples

# Functions import what they need once they are called: `--help` needs neither torch nor pandas.
app = typer.Typer(
    help="Which compressed speech model? Answers from a study, and students at work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(studies.app)
app.add_typer(students.app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that `arguments` name, by default those of the shell, and exit.

    Raises SystemExit; its code is 0, or 2 after a wrong argument, or what went wrong in one line.
    """
    try:
        app(arguments)
    except (OSError, ValueError, ModuleNotFoundError) as error:  # what a file or its lack explains
        sys.exit(f"error: {error}")


VERSION = typer.Option("--version", help="Print the version and exit.")


@app.callback(invoke_without_command=True)
def common(version: Annotated[bool, VERSION] = False) -> None:
    """Print the version if it is asked for; any command comes after this."""
    if version:
        typer.echo(f"speech-pareto {__version__}")
        raise typer.Exit


@app.command(epilog=examples("voices | grep -i portuguese"))
def voices() -> None:
    """List the languages that can be spelt in phones.

    Their codes are those of espeak-ng, as `language` of a corpus names them.
    """
    from speech_pareto.data import text

    known = text.voices()
    names = {file: name for name, file in known.values()}
    known |= {code: (names[text.voice(code)], text.voice(code)) for code in text.VOICES}
    for code, (name, file) in sorted(known.items()):
        typer.echo(f"{code:20} {name} ({file})")


if __name__ == "__main__":
    main()
