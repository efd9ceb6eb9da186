"""The config of a task of verification: defaults, plans, mistakes."""

import pytest
import yaml

from helpers.planning import STUDY, planned, write_study
from speech_pareto.study import config
from speech_pareto.tasks.kind import kind_of
from speech_pareto.tasks.kinds import classification

TASK = {"kind": "verification", "metric": "eer", "embedding": 24, "trials": {"most": 200}}


def resolved(**changes):
    """Return the tasks of a study with a task of speakers."""
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    own = study["tasks"]["phones"]
    del own["unit"], study["teachers"]["tiny"]["finetuned"]
    study["tasks"] = {"speakers": own | TASK | changes}
    return config.resolve(study)["tasks"]


def test_a_study_with_it_is_planned():
    task = resolved(trials={})["speakers"]
    assert task["pooling"] == "statistics" and task["p_target"] == [0.01, 0.05]
    assert (task["margin"], task["scale"], task["embedding"]) == (0.2, 30.0, 24)
    assert task["trials"] == {"most": 10_000, "seed": 1}
    assert kind_of("classification").filled({})["pooling"] == "mean"
    assert classification.Task({"label": "speaker"}, ["a", "b"]).pool() is None


@pytest.mark.slow
def test_snakemake_plans_it_with_its_list_and_without_confusions(tree):
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    own = {**study["tasks"]["characters"], **TASK, "trials": {"test": "list.txt"}}
    del own["unit"]
    study["tasks"]["speakers"] = own
    (tree / "list.txt").write_text("1 a b\n0 a c\n")
    write_study(tree, study)
    jobs = planned(tree)
    for rule in ("finetune", "evaluate"):
        of_task = [text for name, text in jobs if name == rule and "task=speakers" in text]
        assert len(of_task) == len(study["recipes"])
    assert not {text for name, text in jobs if name == "plot" and "confusion" in text}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooling": "statistic"}, r"pooling: .*did you mean 'statistics'"),
        ({"margin": 2}, r"margin: 2 must be"),
        ({"embedding": 0}, r"embedding: 0 must be"),
        ({"p_target": [0]}, r"p_target\[0\]: 0 must be"),
        ({"label": "speaker"}, r"label: only a task of kind 'classification' or 'superb' has it"),
        ({"metric": "min_dcf"}, r"metric: unknown metric 'min_dcf'.* Known: eer\."),
        ({"trials": {"most": 1}}, r"trials\.most: 1 must be"),
        ({"trials": {"tests": "x"}}, r"trials\.tests: unknown key 'tests'; did you mean 'test'"),
        ({"trials": {"test": "none.txt"}}, r"trials: there is no file 'none\.txt'"),
        ({"kind": "verify"}, r"did you mean 'verification'"),
    ],
)
def test_mistakes_are_named(changes, said):
    with pytest.raises(config.ConfigError, match=said):
        resolved(**changes)
