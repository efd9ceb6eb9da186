"""Every method on transformers' default configuration values, where the tiny teacher hides faults.

Defaults: a group norm in a stem of seven convolutions, twelve layers, layerdrop and all dropouts of
0.1, SpecAugment on, attention heads by config.  Only the widths are small.
"""

import pytest
import torch

from helpers.compressing import example, ratio_of
from helpers.contract import ROUNDING, check_contract
from speech_pareto.compression import catalogue
from speech_pareto.models import architecture, backbone, hidden_states, sparsity
from speech_pareto.training import loop as training

WIDTHS = {
    "hidden_size": 48,
    "num_attention_heads": 6,
    "intermediate_size": 96,
    "conv_dim": [32] * 7,
    "num_conv_pos_embedding_groups": 4,
}
KINDS = {
    "hubert": {"num_conv_pos_embeddings": 16},
    "wav2vec2": {"num_conv_pos_embeddings": 16},
    "wavlm": {"num_conv_pos_embeddings": 16},
    "data2vec-audio": {},  # five convolutions of positions, a norm behind each
    "hubert, batch norm": {"num_conv_pos_embeddings": 16, "conv_pos_batch_norm": True},
}
# Of each kind of change to WavLM's attention one; test_methods.py has all methods on few layers.
WAVLM = (
    "attention_reuse",
    "block_drop",
    "distilhubert",
    "early_exit",
    "frame_pooling",
    "head_dim_pruning",
    "head_pruning",
    "heads_and_rows",
    "int8",
)
WAVLM += ("lighthubert", "low_rank", "streaming", "structured_self_pinching", "supernet")
HEADS = ("head", "data_driven_head")  # what they remove is little in all
CONTRACTS = [(name, "hubert") for name in catalogue.names()] + [(name, "wavlm") for name in WAVLM]
ALLOCATED = [  # how many parameters a unit has at most
    ("channel_pruning", "hubert", 32 * (3 + 3) + 2),
    ("channel_pruning", "data2vec-audio", 32 * (3 + 3) + 2),
    ("data_driven_ffn_pruning", "hubert", 0),
    ("ffn_pruning", "wav2vec2", 0),
    ("head_dim_pruning", "wav2vec2", 6 * 2 * 49),
    ("head_pruning", "wavlm", 0),
    ("heads_and_rows", "hubert", 97),
    ("heads_and_rows", "wavlm", 97),
    ("low_rank", "data2vec-audio", 48 + 96),
]
SAMPLES = 8_000, 5_300


def default(kind, **settings):
    """Return a backbone with transformers' defaults but for its widths; biases are not zero."""
    torch.manual_seed(5)
    made = backbone.new({**WIDTHS, "model_type": kind.split(",")[0], **KINDS[kind], **settings})
    for parameter in sparsity.prunable(made).values():
        torch.nn.init.normal_(parameter, std=0.1)
    if KINDS[kind].get("conv_pos_batch_norm"):  # as after training: its zeros are no longer zero
        torch.nn.init.normal_(made.encoder.pos_conv_embed.batch_norm.bias)
    return made


def utterances():
    """Return audio (2, samples) of unlike length and its attention mask."""
    waves = 0.1 * torch.randn(2, SAMPLES[0], generator=torch.Generator().manual_seed(7))
    mask = (torch.arange(SAMPLES[0]) < torch.tensor(SAMPLES)[:, None]).long()
    return waves * mask, mask


def loop(student, loss, steps, follow=None, averages="frames", **settings):
    """Stand in for `runner.trainer`: the real training loop, on noise."""
    mask = utterances()[1]

    def batch(step, generator):
        noise = torch.from_numpy(generator.normal(0, 0.1, mask.shape)).float()
        return {"input_values": noise * mask, "attention_mask": mask}

    run = training.Training(steps=steps, precision="fp32", learning_rate=1e-3)
    training.train(student, batch, lambda b: (loss(b), {}), run, seed=1, follow=follow)


@pytest.fixture(scope="module", params=KINDS)
def teacher(request):
    return default(request.param)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CONTRACTS)  # test_data2vec.py has the third kind
def test_contract(name, kind, tmp_path):
    teacher = default(kind)
    ratio = ratio_of(name, 0.2 if name.startswith(HEADS) else 0.35, backbone.describe(teacher))
    check_contract(example(name), ratio, teacher, utterances(), tmp_path, loop)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "unit"), ALLOCATED)
def test_layers_that_give_what_they_need_least_keep_the_contract(name, kind, unit, tmp_path):
    teacher = default(kind)
    settings = {"allocation": "sensitivity", "sensitivity_batches": 1, "sensitivity_seconds": 0.4}
    step = {name: example(name)[name] | settings}
    ratio = 0.5 * ratio_of(name, 0.2, backbone.describe(teacher))
    check_contract(step, ratio, teacher, utterances(), tmp_path, loop, slack=unit)


def test_defaults_are_those_of_published_models(teacher):
    config = teacher.config
    dropouts = "hidden_dropout", "attention_dropout", "activation_dropout", "layerdrop"
    assert {getattr(config, name) for name in dropouts} == {0.1}
    assert config.apply_spec_augment and config.mask_time_prob == 0.05
    assert len(teacher.encoder.layers) == 12 and len(config.conv_kernel) == 7
    if config.model_type != architecture.DATA2VEC:
        assert config.feat_extract_norm == "group"


def test_a_skipped_layer_is_noticed_and_the_loop_skips_none(teacher):
    waves, mask = utterances()
    batch = {"input_values": waves, "attention_mask": mask}
    teacher.train()
    try:
        with pytest.raises(RuntimeError, match="of 12 layers ran"):
            for seed in range(8):
                torch.manual_seed(seed)
                hidden_states.states(teacher, batch)
        with training.every_layer_runs(teacher):
            for seed in range(8):
                torch.manual_seed(seed)
                assert len(hidden_states.states(teacher, batch)) == 13
        assert teacher.config.layerdrop == 0.1
    finally:
        teacher.eval()


def test_layerdrop_comes_back_after_a_run_that_diverged(teacher):
    def diverge(student):
        raise training.Diverged("on purpose")

    with pytest.raises(training.Diverged), training.every_layer_runs(teacher):
        assert teacher.config.layerdrop == 0.0
        diverge(teacher)
    assert teacher.config.layerdrop == 0.1


@pytest.mark.parametrize("precision", [None, *ROUNDING])
def test_an_utterance_gives_the_same_alone_and_in_any_batch(teacher, precision):
    from speech_pareto.models.quantisation import set_precision

    made = teacher
    if precision:
        import copy

        made = copy.deepcopy(teacher)
        set_precision(made, "float16" if precision == "half_precision" else precision)
    waves, mask = utterances()
    padded = torch.nn.functional.pad(waves, (0, 5000)), torch.nn.functional.pad(mask, (0, 5000))
    with torch.no_grad():
        together, wider = (
            made(wave, attention_mask=given).last_hidden_state
            for wave, given in ((waves, mask), padded)
        )
        for row, samples in enumerate(SAMPLES):
            alone = made(waves[row : row + 1, :samples]).last_hidden_state[0]
            for batch in (together, wider):
                far = (alone - batch[row, : len(alone)]).abs().max()
                assert far < ROUNDING.get(precision, 1e-5), far
