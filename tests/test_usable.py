"""Which recordings can be used: the one definition holds for every model."""

import numpy as np
import pytest
import torch

from speech_pareto.data import usable
from speech_pareto.models import architecture
from speech_pareto.models import backbone as model
from speech_pareto.models.hidden_states import states

SMALL = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 48, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16}
SMALL |= {"num_conv_pos_embedding_groups": 2}
LOG_MEL = {
    "conv_dim": [architecture.WIDTH],
    "conv_kernel": [architecture.KERNEL],
    "conv_stride": [architecture.STRIDE],
    "compression": {"stem": "log_mel"},
}
STEMS = {"convolutions": {}, "log-mel": LOG_MEL}


def speech(samples):
    """Return samples that sound like something."""
    return (np.random.default_rng(1).normal(0, 3000, samples)).astype(np.int16)


@pytest.mark.parametrize("kind", architecture.MODEL_TYPES)
@pytest.mark.parametrize("stem", STEMS)
def test_the_shortest_gives_every_model_a_frame(kind, stem):
    backbone = model.new({"model_type": kind, **SMALL, **STEMS[stem]}).eval()
    wave = torch.from_numpy(speech(usable.SHORTEST) / 32768).float()[None]
    with torch.no_grad():
        hidden = states(backbone, {"input_values": wave, "attention_mask": torch.ones_like(wave)})
    assert hidden[-1].shape[1] == 1 and hidden[-1].isfinite().all()


def test_one_sample_less_is_too_short():
    assert usable.obstacle(speech(usable.SHORTEST)) is None
    for samples in (0, 1, 399, usable.SHORTEST - 1):
        assert usable.obstacle(speech(samples))[0] == "too short"


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (np.zeros(16_000, np.int16), "silent"),
        (np.full(16_000, 40, np.int16), "silent"),
        (np.clip(speech(16_000) * 30_000.0, -32768, 32767).astype(np.int16), "clipped"),
        (np.repeat(np.array([0, 32767, -32768], np.int16), 5_000), "clipped"),
    ],
)
def test_what_is_no_speech_is_refused(wave, reason):
    assert usable.obstacle(wave)[0] == reason


def test_loud_and_quiet_speech_is_used():
    assert usable.obstacle(np.clip(speech(16_000) * 12.0, -32768, 32767).astype(np.int16)) is None
    assert usable.obstacle(np.arange(16_000, dtype=np.int16) % 2) is None
