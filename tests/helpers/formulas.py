"""What tests that compute a formula once more, in float64, share."""

BASE = {"model_type": "hubert"}  # the config of HuBERT Base
FRAMES = 50, 32  # of the two utterances of the fixture `audio`


def linear(head, x):
    """Return what a linear layer makes of `x`, in float64."""
    return x @ head.weight.detach().double().T + head.bias.detach().double()
