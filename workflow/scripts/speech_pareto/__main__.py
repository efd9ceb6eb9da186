"""Commands beside the workflow: `python -m speech_pareto --help`."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that `arguments` (by default those of the shell) name."""
    parser = argparse.ArgumentParser(prog="python -m speech_pareto", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_sizes(commands)
    options = parser.parse_args(arguments)
    options.run(options)


# a command: its arguments, and a function that imports what it needs only once it is run


def _add_sizes(commands) -> None:
    """Add the command `sizes`."""
    what = "compare published sizes and MACs with what is built"
    parser = commands.add_parser("sizes", help=what, description=what)
    parser.add_argument("--output", type=Path, default=Path("docs/sizes.md"), help="%(default)s")
    parser.set_defaults(run=_sizes)


def _sizes(options: argparse.Namespace) -> None:
    """Write the page of sizes."""
    from speech_pareto import result, sizes

    result.write_text(options.output, sizes.page())


if __name__ == "__main__":
    main()
