"""Model folders as others leave them: used as they are meant, or refused in words with the file."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor

import finetune
from helpers.folders import distance
from helpers.results import PLAIN, TASK
from speech_pareto.models import backbone, model_folder
from speech_pareto.models.weights import weights_digest
from speech_pareto.runtime.hashing import sha256

SHAPE = {"hidden": 32, "layers": 2, "heads": 2, "ffn": 64, "pos_conv": 16}
STEM = {"conv_dim": [16, 24], "conv_kernel": [10, 8], "conv_stride": [10, 8]}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1000\n".format(64 * "0")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a teacher whose preprocessing is not stated."""
    torch.manual_seed(0)
    config = backbone.tiny_config(**SHAPE, **STEM, num_conv_pos_embedding_groups=2)
    backbone.save(backbone.new(config), tmp_path / "teacher")
    (tmp_path / "teacher" / model_folder.PREPROCESSOR).unlink()
    return tmp_path / "teacher"


def extractor(folder, **settings):
    """Write a preprocessor_config.json of transformers' own, with these settings."""
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    file = folder / model_folder.PREPROCESSOR
    found = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


def processor(folder, **settings):
    """Write a processor as transformers does: its extractor in processor_config.json alone."""
    (folder / "letters.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "a": 3}))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "letters.json"))
    made = Wav2Vec2FeatureExtractor(**settings)
    Wav2Vec2Processor(feature_extractor=made, tokenizer=tokenizer).save_pretrained(folder)
    assert not (folder / model_folder.PREPROCESSOR).exists()


@pytest.mark.parametrize("normalize", [True, False])
def test_what_transformers_saved_is_what_is_done(folder, normalize):
    extractor(folder, do_normalize=normalize)
    assert backbone.load(folder).preprocessor["do_normalize"] is normalize
    (folder / model_folder.PREPROCESSOR).unlink()
    processor(folder, do_normalize=normalize)
    assert backbone.load(folder).preprocessor["do_normalize"] is normalize
    backbone.save(
        backbone.load(folder), folder.with_name("again")
    )  # the student's is the teacher's
    assert backbone.load(folder.with_name("again")).preprocessor["do_normalize"] is normalize


def test_the_newer_file_wins_as_in_transformers(folder):
    processor(folder, do_normalize=False)
    extractor(folder, do_normalize=True)
    assert Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize is False
    assert backbone.load(folder).preprocessor["do_normalize"] is False
    (folder / "processor_config.json").write_text('{"processor_class": "Wav2Vec2Processor"}')
    assert Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize is True
    assert backbone.load(folder).preprocessor["do_normalize"] is True


def test_what_is_not_said_is_transformers_default(folder):
    extractor(folder, do_normalize=None)
    assert Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize is True
    assert backbone.load(folder).preprocessor["do_normalize"] is True


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sampling_rate": 8000}, "sampling_rate is 8000; here it is always 16000"),
        ({"feature_size": 80}, "feature_size is 80; here it is always 1"),
        ({"padding_value": 1.0}, "padding_value is 1.0"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "is 'WhisperFeatureExtractor'"),
        ({"do_normalize": "yes"}, "do_normalize is 'yes', not true or false"),
    ],
)
def test_what_is_not_done_here_is_refused(folder, settings, words):
    extractor(folder, **settings)
    with pytest.raises(ValueError, match=words) as caught:
        backbone.load(folder)
    assert str(folder / model_folder.PREPROCESSOR) in str(caught.value)
    assert model_folder.problem(folder) == str(caught.value)


def as_pickle(folder, zipped=True):
    tensors = load_file(folder / model_folder.WEIGHTS)
    file = folder / "pytorch_model.bin"
    torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
    (folder / model_folder.WEIGHTS).unlink()
    return file


def as_shards(folder, kind=model_folder.WEIGHTS):
    """Save the weights in three files of a kind, and their index."""
    from safetensors.torch import save_file

    tensors = load_file(folder / model_folder.WEIGHTS)
    (folder / model_folder.WEIGHTS).unlink()
    stem, _, suffix = kind.partition(".")
    places = {}
    for number in range(3):
        name = f"{stem}-{number + 1:05d}-of-00003.{suffix}"
        part = {key: tensors[key] for key in sorted(tensors)[number::3]}
        (save_file if suffix == "safetensors" else torch.save)(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = folder / f"{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


FORMS = {
    "pickle": as_pickle,
    "old pickle": lambda folder: as_pickle(folder, zipped=False),
    "shards": as_shards,
    "shards of pickles": lambda folder: as_shards(folder, "pytorch_model.bin"),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_weights_of_every_form_are_those_of_one_file(form, folder):
    wanted = backbone.load(folder).state_dict()
    FORMS[form](folder)
    assert model_folder.problem(folder) is None
    found = backbone.load(folder).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("form", list(FORMS))
def test_teachers_of_every_form_are_fine_tuned(form, folder, transcribed, tmp_path):
    arguments = [TASK, PLAIN | {"steps": 2}, folder, [transcribed], 1]
    finetune.main(*arguments, tmp_path / "plain", tmp_path / "state")
    FORMS[form](folder)
    finetune.main(*arguments, tmp_path / "other", tmp_path / "state")
    assert distance(tmp_path / "plain", tmp_path / "other") == 0
    facts = json.loads((tmp_path / "other" / "provenance.json").read_text())
    assert facts["start"] == weights_digest(folder) and len(facts["start"]) == 64


def test_the_digest_of_one_file_is_its_own_and_of_several_is_of_each(folder):
    file = folder / model_folder.WEIGHTS
    assert weights_digest(folder) == sha256(file)
    as_shards(folder)
    before = weights_digest(folder)
    shard = sorted(folder.glob("model-*"))[1]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert weights_digest(folder) != before


def cut(file, length):
    file.write_bytes(file.read_bytes()[:length])


def damage(folder, what):
    """Do to a folder what happens to folders; return the name of the file that suffers."""
    weights, config = folder / model_folder.WEIGHTS, folder / model_folder.CONFIG
    if what == "pointer":
        weights.write_text(POINTER)
    elif what == "pointer for a pickle":
        as_pickle(folder).write_text(POINTER)
        return "pytorch_model.bin"
    elif what == "pointer for the config":
        config.write_text(POINTER)
        return model_folder.CONFIG
    elif what == "a web page":
        weights.write_text("<!DOCTYPE html><html></html>")
    elif what in ("cut in the header", "cut in the data", "cut to nothing"):
        cut(weights, {"header": 100, "data": -8, "nothing": 0}[what.split()[-1]])
    elif what == "cut pickle":
        cut(as_pickle(folder), 5000)
        return "pytorch_model.bin"
    elif what == "a list in a pickle":
        torch.save([torch.zeros(3)], as_pickle(folder))
        return "pytorch_model.bin"
    elif what == "a missing shard":
        as_shards(folder)
        name = "model-00002-of-00003.safetensors"
        (folder / name).unlink()
        return name
    elif what == "an index without names":
        as_shards(folder).write_text("{}")
        return "model.safetensors.index.json"
    elif what == "an index that climbs":
        as_shards(folder).write_text('{"weight_map": {"a": "../model.safetensors"}}')
        return "model.safetensors.index.json"
    elif what == "a broken index":
        as_shards(folder).write_text('{"weight_map": ')
        return "model.safetensors.index.json"
    else:
        texts = {"broken JSON": "{", "latin-1": '{"a": "\xe9"}', "a list": "[]"}
        texts["deep"] = '{"a": ' + 100_000 * "[" + 100_000 * "]" + "}"
        config.write_bytes(texts[what].encode("latin-1"))
        return model_folder.CONFIG
    return model_folder.WEIGHTS


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("pointer", "a pointer of Git LFS, not the weights; get them with `git lfs pull`"),
        ("pointer for a pickle", "a pointer of Git LFS, not the weights"),
        ("pointer for the config", "a pointer of Git LFS"),
        ("a web page", "this is not safetensors, or it was cut off"),
        ("cut in the header", "this is not safetensors, or it was cut off"),
        ("cut in the data", "its header says"),
        ("cut to nothing", "this is not safetensors, or it was cut off"),
        ("cut pickle", "torch did not write this, or it was cut off"),
        ("a missing shard", "is missing; model.safetensors.index.json names it"),
        ("an index without names", "no weight_map from tensors to files"),
        ("an index that climbs", "'../model.safetensors' is no file of this folder"),
        ("a broken index", "this is not JSON"),
        ("broken JSON", "this is not JSON"),
        ("latin-1", "this is not JSON"),
        ("a list", "this is no mapping of names to values"),
        ("deep", "this is not JSON: too deep"),
    ],
)
def test_a_damaged_folder_is_named_before_any_job(what, words, folder):
    name = damage(folder, what)
    found = model_folder.problem(folder)
    assert str(folder / name) in found and words in found and "\n" not in found
    with pytest.raises((OSError, ValueError)) as caught:
        backbone.load(folder)
    assert str(caught.value) == found


def test_a_pickle_of_something_else_is_named(folder):
    name = damage(folder, "a list in a pickle")
    with pytest.raises(ValueError, match="it is no mapping of names to tensors") as caught:
        backbone.load(folder)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, not a whole number from 1"),
        ({"hidden_size": "768"}, "hidden_size is '768'"),
        ({"hidden_size": 33}, "hidden_size 33 is no multiple of 2 attention heads"),
        ({"conv_dim": [16]}, "conv_dim, conv_kernel, conv_stride are of unlike lengths"),
        ({"conv_stride": [10, 0]}, "conv_stride has 0"),
        ({"conv_kernel": 10}, "conv_kernel is 10, not a list"),
        ({"model_type": "bert"}, "model_type 'bert' is not one of hubert"),
        ({"hidden_act": "nothing"}, "nothing"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
    ],
)
def test_a_config_that_means_no_model_is_named(settings, words, folder):
    file = folder / model_folder.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    with pytest.raises(ValueError, match=words) as caught:
        backbone.load(folder)
    assert str(file) in str(caught.value)
