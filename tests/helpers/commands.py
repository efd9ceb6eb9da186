"""Run a command of the library in this process."""

import pytest

from speech_pareto.__main__ import main


def command(*arguments: object) -> None:
    """Run `speech-pareto` with `arguments`; raise SystemExit if it fails, as the shell sees it."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    if ended.value.code:
        raise ended.value
