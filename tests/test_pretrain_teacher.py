"""Pretraining on real prompts: units that make sense, a falling loss, resumable iterations."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

import pretrain_teacher
from speech_pareto.data.corpus import read
from speech_pareto.models.backbone import load
from speech_pareto.training import frame_units

pytestmark = pytest.mark.xdist_group("pretraining")  # one process makes the teacher
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
        patch.setattr(frame_units.LayerStates, "of", stop)
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
        np.full(len(u) * frame_units.FRAME + 100, i + 1, np.int16) for i, u in enumerate(labels)
    ]
    windows = pretrain_teacher.Windows(waves, labels, ["a", "a", "b", "b"], 1.0, 2, 0)
    for step in range(6):
        batch, units_of_batch = windows.batch(step)
        assert batch.shape == (
            2,
            50 * frame_units.FRAME + frame_units.CONTEXT - frame_units.FRAME,
        )
        blocks = batch[:, : 50 * frame_units.FRAME].unflatten(1, (50, frame_units.FRAME)) * 32768
        assert torch.equal(blocks.mean(-1).round().long() - 1, units_of_batch)
        for row in units_of_batch:  # one speaker per window
            assert set(row.tolist()) <= {0, 1} or set(row.tolist()) <= {2, 3}


def test_units_follow_the_sounds_and_not_the_voice(prompts_en):
    spoken = [u for u in read(prompts_en) if u.samples >= 2 * frame_units.CONTEXT][:120]
    features = frame_units.Cepstra()
    cepstra = [features.of(frame_units.framed(u.wave())) for u in spoken]
    assert [len(c) for c in cepstra] == [u.samples // frame_units.FRAME for u in spoken]
    louder = [c * 1.3 + 2.0 for c in cepstra]  # another voice and channel
    features.fit(cepstra + louder, ["a"] * 120 + ["b"] * 120)
    for own, other in zip(cepstra, louder, strict=True):
        alike = features.adjusted(own, "a"), features.adjusted(other, "b")
        assert np.allclose(*alike, atol=1e-3)
    joined = np.concatenate(frame_units.name_frames(features, spoken, 50, 0))
    runs = len(joined) / (1 + (np.diff(joined.astype(int)) != 0).sum())
    assert len(np.unique(joined)) > 40 and 1.5 < runs < 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cepstra", "layer"])
def test_a_sample_of_frames_gives_like_units(kind, teacher, prompts_en, monkeypatch):
    """A third is fitted; no more than that is in memory, and each frame has its unit."""
    spoken = [u for u in read(prompts_en) if u.split == "train"]
    spoken = [replace(u, speaker="ab"[i % 2]) for i, u in enumerate(spoken)]
    features = frame_units.Cepstra()
    if kind == "layer":
        features = frame_units.LayerStates(load(teacher), 1)
    whole = frame_units.name_frames(features, spoken, 8, 0)
    frames, kept, block = sum(map(len, whole)), [], frame_units.in_one_block
    most = "FRAMES" if kind == "cepstra" else "BYTES"
    monkeypatch.setattr(
        frame_units, most, (1 if kind == "cepstra" else 4 * features.dim) * frames // 3
    )
    monkeypatch.setattr(
        frame_units, "in_one_block", lambda found, own: kept.append(sum(own)) or block(found, own)
    )
    some = frame_units.name_frames(features, spoken, 8, 0)
    assert max(kept) < 0.35 * frames and list(map(len, some)) == list(map(len, whole))
    both = [np.concatenate(units) for units in (whole, some)]
    assert normalized_mutual_info_score(*both) > 0.5


def test_a_sample_has_the_same_share_of_each_speaker():
    generator = np.random.default_rng(0)
    lengths = generator.integers(100, 1700, 3000).tolist()
    speakers = [str(index % 7 if index else "once") for index in range(3000)]
    assert frame_units.sample(lengths, speakers, sum(lengths), 1) == list(range(3000))
    chosen = frame_units.sample(lengths, speakers, sum(lengths) // 10, 1)
    assert chosen == sorted(set(chosen)) and chosen[0] == 0  # the only one of its speaker
    for speaker in "0123456":
        own = [i for i in range(1, 3000) if speakers[i] == speaker]
        share = sum(lengths[i] for i in own if i in chosen) / sum(lengths[i] for i in own)
        assert share == pytest.approx(0.1, abs=0.01)
    assert chosen != frame_units.sample(lengths, speakers, sum(lengths) // 10, 2)


@pytest.mark.slow
def test_features_are_those_of_the_layer(teacher, prompts_en):
    features = frame_units.LayerStates(load(teacher), 1)
    for utterance in read(prompts_en)[:4]:
        wave = frame_units.framed(utterance.wave())
        with torch.no_grad():
            inputs = torch.from_numpy(wave)[None]
            expected = features.model(inputs, output_hidden_states=True).hidden_states[1][0]
        assert np.array_equal(features.of(wave), expected.numpy())
        assert len(expected) == frame_units.frames(utterance.samples)
