"""What is said of a config."""

import pytest

from speech_pareto.study import config


def problems(study, files=()):
    """Return the sentences about a config that is refused."""
    with pytest.raises(config.ConfigError) as caught:
        config.resolve(study, files)
    return caught.value.problems
