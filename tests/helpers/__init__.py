"""What several test modules share; fixtures are in conftest.py."""

KINDS = ("hubert", "wav2vec2", "wavlm")  # of backbones, where a test takes all that differ
