"""The head of a fine-tuned teacher on its student: folded, handed on, or begun anew."""

import torch

from helpers.backbones import backbone, with_task_head
from helpers.compressing import compress
from speech_pareto.compression import catalogue
from speech_pareto.tasks.head import HEAD, hand_on_head
from speech_pareto.tasks.task import load_task_model


def test_hand_on_head_folds_the_readout(tmp_path):
    made = backbone("hubert")
    settings = with_task_head(made, tmp_path)
    own, _ = load_task_model(settings, made, tmp_path)
    student, _ = compress([{"starhubert": {"steps": 0}}], made, 0.5)
    width = student.config.hidden_size
    student.readout = torch.randn(48, width), torch.randn(48)
    (tmp_path / "student").mkdir()
    hand_on_head(tmp_path / HEAD, student, tmp_path / "student" / HEAD)
    folded, _ = load_task_model(settings, student, tmp_path / "student")
    hidden = torch.randn(5, width)
    expected = own.head(hidden @ student.readout[0].T + student.readout[1])
    assert torch.allclose(folded.head(hidden), expected, atol=1e-4)


def test_a_probe_of_all_layers_begins_anew_when_there_are_fewer(tmp_path):
    made = backbone("hubert")
    with_task_head(made, tmp_path, "probe")
    for name, there in (("ffn_pruning", True), ("distillation", False)):
        student, _ = compress([{name: dict(catalogue.load(name).example)}], made, 0.5)
        target = tmp_path / f"{name}.safetensors"
        hand_on_head(tmp_path / HEAD, student, target)
        assert target.is_file() == there
