"""Cards of students, as the hub reads them."""

import pytest
from huggingface_hub import ModelCard

from helpers import synthetic_results
from speech_pareto.reporting import model_card
from speech_pareto.runtime import result
from speech_pareto.tasks.kinds.ctc import Task

ABOUT = Task({"unit": "characters"}).card()


@pytest.fixture
def files(tmp_path):
    """Return the files of a student that is scored and timed."""
    metrics, profiles = synthetic_results.write(tmp_path, ["characters"])
    number = next(i for i, file in enumerate(metrics) if "low-rank/0.5/1" in str(file))
    (hypotheses,) = synthetic_results.write_hypotheses([metrics[number]])
    return {"metrics": metrics[number], "hypotheses": hypotheses, "profile": profiles[number]}


def with_config(files, **config):
    """Give the student another config."""
    value = result.read(files["metrics"])
    value["run"]["config"] |= config
    result.write(files["metrics"], value)


def test_the_hub_reads_score_interval_and_costs(files, prompts_en):
    with_config(files, teacher={"hub": "wavlm-base-plus"}, task={"languages": ["en-us", "es"]})
    card = ModelCard(model_card.write(files, ABOUT, [prompts_en], "Say this.\n"))
    assert card.data.license == "cc-by-sa-3.0"
    assert card.data.base_model == "microsoft/wavlm-base-plus"
    assert card.data.language == ["en", "es"]
    found = {one.metric_type: one for one in card.data.eval_results}
    value, cost = result.read(files["metrics"]), result.read(files["profile"])["cost"]
    score = value["metrics"]["cer"]
    assert found["cer"].metric_value == score
    assert found["cer"].dataset_split == "test" and found["cer"].dataset_name == "prompts"
    low, high = found["cer"].metric_args["interval"]
    assert low < score < high < low + 10
    assert found["bytes"].metric_value == cost["bytes"]
    assert found["MACs per second of audio"].metric_value == cost["macs_per_second"]
    assert found["seconds"].metric_args["speedup"] == cost["wall_clock"]["speedup"]
    assert f"| cer | {score:.1f} % (95 % interval {low:.1f} to {high:.1f}, 412 utterances) |" in (
        card.text
    )
    assert "Say this." in card.text and "CC-BY" in card.text and "0" * 40 in card.text


def test_a_teacher_of_ones_own_has_no_licence_and_no_id(files, prompts_en):
    with_config(files, teacher={"path": "mine"})
    card = ModelCard(model_card.write(files, ABOUT, [prompts_en], ""))
    assert card.data.license is None and card.data.base_model is None
