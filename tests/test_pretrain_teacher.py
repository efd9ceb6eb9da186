"""Pretraining on real prompts: units that make sense, a falling loss, resumable iterations."""

import json

import numpy as np
import pytest
import torch

import pretrain_teacher
from speech_pareto.data.corpus import read
from speech_pareto.models.backbone import load
from speech_pareto.training import hubert_units

SETTINGS = {
    "model": {"hidden": 48, "layers": 2, "heads": 4, "ffn": 96, "pos_conv": 16},
    "window_seconds": 2,
    "mask_share": 0.5,
    "mask_span": 8,
    "unmasked_weight": 0.3,
    "iterations": [
        {"units": 20, "steps": 40, "batch_seconds": 16, "learning_rate": 2e-3, "precision": "fp32"},
        {
            "units": 30,
            "layer": 1,
            "steps": 20,
            "batch_seconds": 16,
            "learning_rate": 2e-3,
            "precision": "fp32",
        },
    ],
}


@pytest.fixture(scope="module")
def teacher(prompts_en, tmp_path_factory):
    """Folder of a briefly pretrained teacher."""
    root = tmp_path_factory.mktemp("teacher")
    pretrain_teacher.main(SETTINGS, [prompts_en], 1, root / "a", root / "state")
    assert not (root / "state").exists()
    return root / "a"


@pytest.mark.slow
def test_the_loss_falls_and_the_model_loads(teacher):
    first, second = json.loads((teacher / "training.json").read_text())
    assert first[-1]["masked"] < 0.95 * first[0]["masked"] < 0.95 * np.log(20) * 1.3
    assert len(second) == 20
    out = load(teacher)(torch.zeros(1, 16_000)).last_hidden_state
    assert out.shape == (1, 49, 48) and torch.isfinite(out).all()


@pytest.mark.slow
def test_it_repeats_and_resumes_between_iterations(teacher, prompts_en, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hubert_units, "layer_features", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain_teacher.main(SETTINGS, [prompts_en], 1, tmp_path / "b", tmp_path / "state")
    assert not (tmp_path / "b").exists()
    pretrain_teacher.main(SETTINGS, [prompts_en], 1, tmp_path / "b", tmp_path / "state")
    assert (tmp_path / "b/model.safetensors").read_bytes() == (
        teacher / "model.safetensors"
    ).read_bytes()


def test_windows_pair_each_frame_with_its_unit():
    labels = [np.full(n, i, np.uint8) for i, n in enumerate((30, 70, 25, 90))]
    waves = [
        np.full(len(u) * hubert_units.FRAME + 100, i + 1, np.int16) for i, u in enumerate(labels)
    ]
    windows = pretrain_teacher.Windows(waves, labels, ["a", "a", "b", "b"], 1.0, 2.0, 0)
    for step in range(6):
        batch, units_of_batch = windows.batch(step)
        assert batch.shape == (
            2,
            50 * hubert_units.FRAME + hubert_units.CONTEXT - hubert_units.FRAME,
        )
        blocks = batch[:, : 50 * hubert_units.FRAME].unflatten(1, (50, hubert_units.FRAME)) * 32768
        assert torch.equal(blocks.mean(-1).round().long() - 1, units_of_batch)
        for row in units_of_batch:  # one speaker per window
            assert set(row.tolist()) <= {0, 1} or set(row.tolist()) <= {2, 3}


def test_units_follow_the_sounds_and_not_the_voice(prompts_en):
    spoken = [u for u in read(prompts_en) if u.samples >= 2 * hubert_units.CONTEXT][:120]
    waves = [hubert_units.framed(u.wave()) for u in spoken]
    cepstra = [hubert_units.cepstra(wave) for wave in waves]
    assert [len(c) for c in cepstra] == [u.samples // hubert_units.FRAME for u in spoken]
    louder = [c * 1.3 + 2.0 for c in cepstra]  # another voice and channel
    both = hubert_units.describe(cepstra + louder, ["a"] * 120 + ["b"] * 120)
    assert np.allclose(np.concatenate(both[:120]), np.concatenate(both[120:]), atol=1e-3)
    labels = hubert_units.cluster(both[:120], 50, 0)
    joined = np.concatenate(labels)
    runs = len(joined) / (1 + (np.diff(joined.astype(int)) != 0).sum())
    assert len(np.unique(joined)) > 40 and 1.5 < runs < 6


@pytest.mark.slow
def test_features_are_those_of_the_layer_in_one_block(teacher, prompts_en):
    spoken = read(prompts_en)[:4]
    backbone, lengths = load(teacher), [hubert_units.frames(u.samples) for u in spoken]
    waves = (hubert_units.framed(u.wave()) for u in spoken)
    found = hubert_units.in_one_block(hubert_units.layer_features(backbone, waves, 1), lengths)
    assert len({id(features.base) for features in found}) == 1
    for utterance, features in zip(spoken, found, strict=True):
        wave = torch.from_numpy(hubert_units.framed(utterance.wave()))[None]
        with torch.no_grad():
            expected = backbone(wave, output_hidden_states=True).hidden_states[1][0]
        assert np.array_equal(features, expected.numpy())
