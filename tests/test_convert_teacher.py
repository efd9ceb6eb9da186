"""Checkpoints of fairseq and its kin: what is known is converted, all else is refused by name.

The checkpoints are made here, in the layout that fairseq, WavLM and MelHuBERT write.
"""

import argparse
import collections

import numpy as np
import pytest
import torch
from transformers import audio_utils

import convert_teacher
from helpers.fairseq_checkpoints import HEADS, SHAPE, as_fairseq, packed, pretrained
from speech_pareto.models import architecture, backbone, fairseq, operations
from speech_pareto.models.layers.kaldi_fbank import COUNT, KaldiFbank
from speech_pareto.models.model_folder import read_config
from speech_pareto.profiling import cost

PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
MEL = {"conv_dim": [80], "conv_kernel": [560], "conv_stride": [320], "mask_time_prob": 0.0}
MEL |= {"feat_proj_layer_norm": False, "compression": {"stem": "kaldi_fbank"}}
KINDS = [(kind, more) for kind in HEADS for more in ({}, PRE_NORM)]


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_a_converted_model_computes_what_the_original_does(kind, more, tmp_path):
    made, weights, settings = pretrained(kind, more)
    torch.save(packed(kind, weights, settings, bool(more)), tmp_path / "model.pt")
    convert_teacher.main(tmp_path / "model.pt", None, tmp_path / "out")
    found = backbone.load(tmp_path / "out")
    wave = torch.randn(2, 4000)
    with torch.no_grad():
        assert torch.equal(found(wave)[0], made(wave)[0])
    assert found.preprocessor["do_normalize"] == bool(more)
    assert read_config(tmp_path / "out")["model_type"] == kind


def test_newer_fairseq_keeps_its_settings_in_cfg(tmp_path):
    made, weights, settings = pretrained("hubert", {})
    cfg = {"model": settings, "task": {"normalize": True}, "optimizer": {"lr": [1e-4]}}
    config, tensors, normalizes = fairseq.convert({"cfg": cfg, "model": weights})
    assert normalizes and set(tensors) == set(made.state_dict())
    assert config["num_attention_heads"] == 2


def test_what_is_not_known_is_refused_by_name(tmp_path):
    _, weights, settings = pretrained("hubert", {})

    def refused(weights, settings=settings, **others):
        path = tmp_path / "model.pt"
        torch.save({"args": argparse.Namespace(**settings), "model": weights, **others}, path)
        with pytest.raises(ValueError) as caught:
            convert_teacher.main(path, None, tmp_path / "out")
        assert str(path) in str(caught.value) and not (tmp_path / "out").exists()
        return str(caught.value)

    extra = weights | {"encoder.layers.0.adapter.weight": torch.zeros(1)}
    assert "unknown weights: encoder.layers.0.adapter.weight" in refused(extra)
    fewer = {name: w for name, w in weights.items() if "1.fc2" not in name}
    said = refused(fewer)
    assert "encoder.layers.1.feed_forward.output_dense.weight is missing" in said
    other = weights | {"encoder.layers.1.fc1.bias": torch.zeros(63)}
    assert "intermediate_dense.bias is (63,), not (64,)" in refused(other)
    plain = {name: w for name, w in weights.items() if name != "label_embs_concat"}
    assert "neither a HuBERT" in refused(plain)
    silent = {name: value for name, value in settings.items() if name != "layer_norm_first"}
    assert "layer_norm_first" in refused(weights, silent)
    assert "the checkpoint holds args, model" in refused(None)
    (tmp_path / "model.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"model\.pt"):
        convert_teacher.main(tmp_path / "model.pt", None, tmp_path / "out")


def test_objects_beside_the_tensors_are_refused_and_named(tmp_path):
    """As fairseq's dictionaries: reading them would run their code."""
    torch.save({"model": {}, "task_state": collections.deque([1])}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"collections\.deque.*adding-a-teacher"):
        convert_teacher.main(tmp_path / "model.pt", None, tmp_path / "out")


def mel_checkpoint():
    """Return a MelHuBERT, its checkpoint and the statistics of its features."""
    torch.manual_seed(1)
    made = backbone.new({"model_type": "hubert", **SHAPE, **MEL})
    statistics = np.stack([np.linspace(8, 12, COUNT), np.linspace(3, 4, COUNT)])
    made.feature_extractor.mean, made.feature_extractor.deviation = torch.from_numpy(
        statistics
    ).float()
    weights = as_fairseq(
        {k: v for k, v in made.state_dict().items() if "feature_extractor" not in k}, "none"
    )
    weights = {k.replace("post_extract", "pre_extract"): v for k, v in weights.items()}
    weights |= {"final_proj.weight": torch.zeros(512, 32), "final_proj.bias": torch.zeros(512)}
    settings = {"feat_emb_dim": 80, "encoder_attention_heads": 2, "layer_norm_first": False}
    own = {"Upstream_Config": {"melhubert": settings}, "Args": argparse.Namespace(seed=1337)}
    return made, {"model": weights, "Optimizer": {}, "Step": 9, **own}, statistics


def test_a_melhubert_is_converted_with_its_features(tmp_path):
    made, checkpoint, statistics = mel_checkpoint()
    torch.save(checkpoint, tmp_path / "melhubert.ckpt")
    np.save(tmp_path / "mean-std.npy", statistics)
    with pytest.raises(ValueError, match=r"shape \(2, 40\), found none"):
        convert_teacher.main(tmp_path / "melhubert.ckpt", None, tmp_path / "out")
    convert_teacher.main(tmp_path / "melhubert.ckpt", tmp_path / "mean-std.npy", tmp_path / "out")
    found, wave = backbone.load(tmp_path / "out"), torch.randn(2, 4000) / 9
    with torch.no_grad():
        assert torch.equal(found(wave)[0], made(wave)[0])
    config = read_config(tmp_path / "out")
    assert architecture.count(config)["total"] == sum(p.numel() for p in found.parameters())
    assert operations.macs(config, 2)["total"] == cost.macs(found, torch.zeros(1, 32000))
    checkpoint["Upstream_Config"]["melhubert"]["feat_emb_dim"] = 40
    torch.save(checkpoint, tmp_path / "melhubert.ckpt")
    with pytest.raises(ValueError, match="this has 40 features"):
        convert_teacher.main(tmp_path / "melhubert.ckpt", tmp_path / "mean-std.npy", tmp_path / "x")


def test_features_are_kaldis(prompts_en):
    """As transformers computes them in NumPy, frame by frame."""
    from speech_pareto.data.corpus import read

    wave = read(prompts_en)[5].wave()
    filters = audio_utils.mel_filter_bank(
        num_frequency_bins=257,
        num_mel_filters=COUNT,
        min_frequency=20,
        max_frequency=8000,
        sampling_rate=16000,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    wanted = audio_utils.spectrogram(
        wave * 32768,
        audio_utils.window_function(400, "hamming", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T  # (frames, 40)
    found = KaldiFbank()(torch.from_numpy(wave)[None])[0].T  # (frames / 2, 80)
    count = len(found)
    assert np.allclose(found, wanted[: 2 * count].reshape(count, 80), atol=2e-3)
