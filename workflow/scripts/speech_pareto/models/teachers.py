"""Published teachers by name: where they are, at which commit, under which licence.

A revision is the commit that published studies pin; a SHA-256 is that of the weights at this
commit, as public projects print it. Where either is not known for sure it is left out: then the
config must name the revision, and the weights are checked against what the hub says of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDE: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 4096}
WIDE |= {"num_hidden_layers": 24, "num_attention_heads": 16}
LARGE = WIDE | {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
LARGE |= {"attention_dropout": 0.0}
BY_SA = "CC-BY-SA-3.0"


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A model of the hub; `config` is what of its config.json differs from transformers' defaults.

    `pickle` and `safetensors` are SHA-256 of its weights in that form, "" if not known.
    """

    hub: str
    config: Mapping[str, Any]
    revision: str | None = None
    licence: str = "Apache-2.0"
    pickle: str = ""
    safetensors: str = ""

    @property
    def sha256(self) -> dict[str, str]:
        """The digests that are known, by the names of files."""
        digests = {"pytorch_model.bin": self.pickle, "model.safetensors": self.safetensors}
        return {file: digest for file, digest in digests.items() if digest}


TEACHERS = {
    "hubert-base": Teacher(
        hub="facebook/hubert-base-ls960",
        revision="dba3bb02fda4248b6e082697eee756de8fe8aa8a",
        config={"model_type": "hubert"},
        pickle="062249fffb353eab67547a2fbc129f7c31a2f459faf641b19e8fb007cc5c48ad",
    ),
    "hubert-large": Teacher(
        hub="facebook/hubert-large-ll60k",
        revision="ff022d095678a2995f3c49bab18a96a9e553f782",
        config={"model_type": "hubert", **LARGE, "conv_bias": True},
        pickle="45a299050945479a68cffe2ab7a63fd08931718ba18f05a42dbb86a5164178e0",
    ),
    "wav2vec2-base": Teacher(
        hub="facebook/wav2vec2-base",
        revision="0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
        config={"model_type": "wav2vec2"},
        pickle="3249fe98bfc62fcbc26067f724716a6ec49d12c4728a2af1df659013905dff21",
    ),
    "wav2vec2-large": Teacher(  # of LibriSpeech's 960 h; built as Base is
        hub="facebook/wav2vec2-large",
        revision="312b2410566b698c7a649068d413b2067848bd75",
        config={"model_type": "wav2vec2", **WIDE},
    ),
    "wav2vec2-large-lv60": Teacher(  # of Libri-Light's 60,000 h, as SUPERB takes it
        hub="facebook/wav2vec2-large-lv60",
        config={"model_type": "wav2vec2", **LARGE, "conv_bias": True},
    ),
    "wavlm-base": Teacher(
        hub="microsoft/wavlm-base",
        revision="efa81aae7ff777e464159e0f877d54eac5b84f81",
        licence=BY_SA,
        config={"model_type": "wavlm"},
    ),
    "wavlm-base-plus": Teacher(
        hub="microsoft/wavlm-base-plus",
        revision="4c66d4806a428f2e922ccfa1a962776e232d487b",
        licence=BY_SA,
        config={"model_type": "wavlm"},
        pickle="3bb273a6ace99408b50cfc81afdbb7ef2de02da2eab0234e18db608ce692fe51",
    ),
    "wavlm-large": Teacher(
        hub="microsoft/wavlm-large",
        revision="c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
        licence=BY_SA,
        config={"model_type": "wavlm", **LARGE},
        pickle="fdee460e529396ddb2f8c8e8ce0ad74cfb747b726bc6f612e666c7c1e1963c9d",
    ),
    "data2vec-audio-base": Teacher(
        hub="facebook/data2vec-audio-base",
        config={"model_type": "data2vec-audio"},
    ),
    "data2vec-audio-large": Teacher(
        hub="facebook/data2vec-audio-large",
        config={"model_type": "data2vec-audio", **WIDE},
    ),
    "data2vec-audio-base-960h": Teacher(  # fine-tuned on LibriSpeech's transcripts, as Large below
        hub="facebook/data2vec-audio-base-960h",
        revision="32331f3123e703528918aa688a9a38232d58c872",
        config={"model_type": "data2vec-audio"},
    ),
    "data2vec-audio-large-960h": Teacher(
        hub="facebook/data2vec-audio-large-960h",
        revision="27aba26eed532b86dcd0f17284a0307de4b51f39",
        config={"model_type": "data2vec-audio", **WIDE},
    ),
    "distilhubert": Teacher(
        hub="ntu-spml/distilhubert",
        revision="fa87d96265d6b7af66e112faff6ff44df419cec9",
        config={"model_type": "hubert", "num_hidden_layers": 2, "feat_proj_layer_norm": False},
        safetensors="77ad8f985c97750d8d27d6950c917800d80732a141370bf316058bded71a6cbe",
    ),
}


def known(hub: str) -> tuple[str, Teacher] | None:
    """Return the name and entry of a known model, by its name here or its id on the hub."""
    for name, teacher in TEACHERS.items():
        if hub in (name, teacher.hub):
            return name, teacher
    return None


def pinned(settings: Mapping) -> dict:
    """Return a teacher's settings with id, revision and digests of the known model that it names.

    Digests count at the revision that they are of; the config's own revision and digests win.
    """
    found = known(settings["hub"])
    if found is None:
        return {"sha256": {}, **settings}
    teacher = found[1]
    revision = settings.get("revision", teacher.revision)
    digests = settings.get("sha256", teacher.sha256 if revision == teacher.revision else {})
    return {**settings, "hub": teacher.hub, "revision": revision, "sha256": dict(digests)}
