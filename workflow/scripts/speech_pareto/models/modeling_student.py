"""A student in transformers alone: its own classes, with the layers that config.json states.

`deploy` copies this file and those it imports beside a student's weights, for
`AutoModelForCTC.from_pretrained(folder, trust_remote_code=True)`.
"""

import torch
from torch import nn
from transformers import Data2VecAudioForCTC, HubertForCTC, Wav2Vec2ForCTC, WavLMForCTC

from speech_pareto.models.rebuild import rebuild


class Student(nn.Module):
    """What stands before transformers' class of a model with a CTC head."""

    def __init__(self, config) -> None:
        config._attn_implementation = "eager"  # layers may read each other's maps
        super().__init__(config)
        with torch.device("cpu"):  # a stem computes its constants, while weights are awaited
            rebuild(self.base_model)
        stem = self.base_model.feature_extractor
        for name, constant in list(stem.named_buffers()):  # else transformers would clear them
            stem.register_buffer(name, constant, persistent=True)


class HubertStudent(Student, HubertForCTC):
    """A student of HuBERT."""


class Wav2Vec2Student(Student, Wav2Vec2ForCTC):
    """A student of wav2vec 2.0."""


class WavLMStudent(Student, WavLMForCTC):
    """A student of WavLM."""


class Data2VecAudioStudent(Student, Data2VecAudioForCTC):
    """A student of data2vec."""
