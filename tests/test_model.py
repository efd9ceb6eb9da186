"""Backbones: made, saved and loaded exactly, understood by plain transformers where it can."""

import json

import pytest
import torch

from helpers.backbones import convolutional, cut
from speech_pareto.compression import recipes
from speech_pareto.models import architecture, model_folder, sparsity, surgery
from speech_pareto.models import backbone as model

KINDS = ("hubert", "wav2vec2", "wavlm")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_model_comes_back_bit_for_bit(kind, tmp_path):
    backbone = cut(model.new(convolutional(kind)))
    audio = torch.randn(2, 4000)
    mask = torch.ones(2, 4000).long()
    mask[1, 2500:] = 0
    before = backbone(audio, attention_mask=mask).last_hidden_state
    model.save(backbone, tmp_path / "student", texts={"README.md": "card"})
    again = model.load(tmp_path / "student")
    assert torch.equal(again(audio, attention_mask=mask).last_hidden_state, before)
    assert model.describe(again) == model.describe(backbone)
    counted = architecture.count(model.describe(again))["total"]
    assert counted == sum(p.numel() for p in again.parameters())
    model.save(again, tmp_path / "twice")
    for name in (model_folder.CONFIG, model_folder.WEIGHTS):
        assert (tmp_path / "student" / name).read_bytes() == (
            tmp_path / "twice" / name
        ).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["student", "twice"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stable", [False, True])
def test_plain_transformers_loads_what_it_can_express(kind, stable, tmp_path):
    from transformers import AutoFeatureExtractor, AutoModel

    backbone = model.new(convolutional(kind, do_stable_layer_norm=stable))
    surgery.keep_layers(backbone, [0, 2])
    for layer in backbone.encoder.layers:
        surgery.keep_rows(layer, torch.arange(20))
    model.save(backbone, tmp_path / "student")
    assert "compression" not in json.loads((tmp_path / "student" / "config.json").read_text())
    plain = AutoModel.from_pretrained(tmp_path / "student", attn_implementation="eager").eval()
    audio = torch.randn(1, 3000)
    expected = model.load(tmp_path / "student")(audio).last_hidden_state
    found = plain(audio).last_hidden_state
    if kind == "wavlm":  # our attention adds up in another order
        assert torch.allclose(found, expected, atol=1e-5)
    else:
        assert torch.equal(found, expected)
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "student").sampling_rate == 16000


@pytest.mark.parametrize("pickled", [False, True])
def test_load_reads_what_others_saved(pickled, tmp_path):
    from transformers import HubertForCTC

    whole = HubertForCTC(convolutional("hubert")).eval()
    whole.save_pretrained(tmp_path)
    if pickled:  # with the names that older files use
        state = {
            key.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): value
            for key, value in whole.state_dict().items()
        }
        torch.save(state, tmp_path / "pytorch_model.bin")
        (tmp_path / model_folder.WEIGHTS).unlink()
    audio = torch.randn(1, 3000)
    expected = whole.hubert(audio).last_hidden_state
    assert torch.equal(model.load(tmp_path)(audio).last_hidden_state, expected)


def test_load_refuses_a_pickle_that_holds_code(tmp_path):
    model.save(model.new(convolutional("hubert")), tmp_path / "m")
    (tmp_path / "m" / model_folder.WEIGHTS).unlink()
    torch.save({"code": torch.nn.Linear(1, 1)}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(Exception, match="holds more than plain tensors"):
        model.load(tmp_path / "m")


def test_load_names_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a model folder"):
        model.load(tmp_path)
    model.save(model.new(convolutional("hubert")), tmp_path / "m")
    file = tmp_path / "m" / model_folder.CONFIG
    file.write_text(file.read_text().replace('"intermediate_size": 48', '"intermediate_size": 50'))
    with pytest.raises(ValueError, match="intermediate_dense.weight is .48, 32., not .50, 32."):
        model.load(tmp_path / "m")


def test_half_storage_is_half_the_bytes_and_comes_back_in_full_precision(tmp_path):
    backbone = model.new(convolutional("hubert"))
    model.save(backbone, tmp_path / "full")
    model.save(backbone, tmp_path / "half", dtype=torch.float16)
    sizes = [(tmp_path / name / model_folder.WEIGHTS).stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    for key, value in model.load(tmp_path / "half").state_dict().items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, backbone.state_dict()[key], atol=1e-3, rtol=1e-3)


def test_new_draws_after_torchs_seed():
    made = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        made.append(
            model.new(model.tiny_config(hidden=48, layers=1))
            .encoder.layers[0]
            .attention.q_proj.weight
        )
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_masking_vector_survives_a_config_without_masks(tmp_path):
    backbone = model.new(convolutional("hubert"))
    backbone.config.mask_time_prob = 0.0
    model.save(backbone, tmp_path / "m")
    assert torch.equal(model.load(tmp_path / "m").masked_spec_embed, backbone.masked_spec_embed)


def test_the_tiny_teacher_has_its_size():
    module = model.build(model.tiny_config().to_dict())
    assert sum(p.numel() for p in module.parameters()) == 2_995_808


@pytest.mark.parametrize("samples", [560, 879, 880, 16000, 16123])
def test_log_mel_frames_follow_the_length_rule_of_transformers(samples):
    backbone = model.new(model.tiny_config(hidden=48, layers=1))
    frames = backbone.feature_extractor(torch.randn(2, samples)).shape
    assert frames == (2, 160, backbone._get_feat_extract_output_lengths(samples))


def test_log_mel_sees_each_frame_alone():
    stem = model.new(model.tiny_config(hidden=48, layers=1)).feature_extractor
    audio = torch.randn(3, 8000) * torch.tensor([[0.1], [1.0], [0.01]])
    together = stem(torch.nn.functional.pad(audio, (0, 3000)))
    for one, features in zip(audio, together, strict=True):
        alone = stem(one[None])[0]
        assert torch.allclose(alone, features[:, : alone.shape[1]], atol=1e-5)


def test_log_mel_puts_a_tone_in_its_band():
    from speech_pareto.models.layers.log_mel import MELS, mel_filters

    stem = model.new(model.tiny_config(hidden=48, layers=1)).feature_extractor
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    features = stem(tone[None])[0, :MELS].mean(1)
    assert features.argmax() == mel_filters()[:, 32].argmax()  # bin 32 of 512 at 16 kHz is 1 kHz


def test_partial_attention_with_all_heads_is_wavlms():
    backbone = model.new(convolutional("wavlm"))
    torch.nn.init.normal_(backbone.encoder.layers[0].attention.rel_attn_embed.weight)
    audio, mask = torch.randn(2, 4000), torch.ones(2, 4000).long()
    mask[1, 2500:] = 0
    before = backbone(audio, attention_mask=mask).last_hidden_state
    for layer in backbone.encoder.layers:
        surgery.set_matrix(layer, "q_proj", layer.attention.q_proj)
    after = backbone(audio, attention_mask=mask).last_hidden_state
    assert torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_removed_head_is_a_head_that_said_nothing(kind):
    backbone = model.new(convolutional(kind))
    layer = backbone.encoder.layers[1]
    with torch.no_grad():
        layer.attention.out_proj.weight[:, 8:16] = 0
    audio = torch.randn(2, 4000)
    before = backbone(audio).last_hidden_state
    surgery.keep_heads(layer, (0, 2, 3))
    assert torch.allclose(backbone(audio).last_hidden_state, before, atol=1e-5)


def test_zeros_hold_in_training(tmp_path):
    backbone = model.new(convolutional("hubert"))
    with torch.no_grad():
        for parameter in sparsity.prunable(backbone).values():
            parameter.copy_(torch.randn_like(parameter))[::2] = 0
    backbone.config.compression = {"zeros": 10}
    model.save(backbone, tmp_path / "m")
    student = model.load(tmp_path / "m").train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=0.1)
    for _ in range(2):
        student(torch.randn(1, 3000)).last_hidden_state.square().mean().backward()
        optimiser.step()
    for name, parameter in sparsity.prunable(student).items():
        assert not parameter[::2].any(), name
        assert parameter[1::2].all(), name


def test_weights_and_biases_of_the_layers_can_be_pruned():
    made, kinds = model.new(convolutional("hubert")), ("weight", "bias")
    matrices = (*architecture.ATTENTION, *architecture.FFN)
    depth = len(made.encoder.layers)
    expected = {
        f"encoder.layers.{i}.{m}.{k}" for i in range(depth) for m in matrices for k in kinds
    }
    assert set(sparsity.prunable(made)) == expected
    sizing = recipes.solve(["weight_pruning"], {"model_type": "hubert"}, 0.99).sizings[0]
    assert sizing.knobs["zeros"] == 85_017_600  # 85.0 M, Lin et al.
