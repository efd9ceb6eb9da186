"""Teachers of the hub: resumed, compared with their digests, refused in one plain sentence.

The server speaks the hub's protocol; the client is huggingface_hub itself, in a process of its own,
since it reads its environment when it is imported.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.checkout import ROOT
from helpers.fairseq_checkpoints import packed, pretrained
from helpers.loopback import Hub, serve
from helpers.planning import STUDY, write_study
from speech_pareto.models import architecture, backbone, hub, teachers
from speech_pareto.models.model_folder import read_config
from speech_pareto.runtime.hashing import sha256

COMMIT, NAME = "c0ffee" + 34 * "0", "someone/small-hubert"
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 64, "conv_dim": [32] * 7, "num_conv_pos_embeddings": 16}


@pytest.fixture(scope="module")
def teacher():
    """A small HuBERT with a convolutional stem."""
    torch.manual_seed(1)
    return backbone.new({"model_type": "hubert", **SHAPE})


@pytest.fixture
def server(tmp_path, teacher):
    """A hub that has the teacher, as safetensors, at one commit."""
    with serve(tmp_path / "hub", Hub) as running:
        running.home = running.folder / NAME / COMMIT
        backbone.save(teacher, running.home, texts={"README.md": "# A model card\n"})
        running.cache = tmp_path / "cache"
        yield running


def python(server, code, **environment):
    """Run code in a process for which the server is the hub, with an empty cache at first."""
    settings = {"HF_ENDPOINT": server.url, "HF_HOME": str(server.cache), "HF_HUB_OFFLINE": "0"}
    settings |= {"PYTHONPATH": str(ROOT / "workflow/scripts"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", code]
    environment = os.environ | settings | environment
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def fetch(server, name=NAME, revision=COMMIT, digests=None, **environment):
    """Return the folder that is fetched, or the last line of what went wrong."""
    code = "from speech_pareto.models import hub\n"
    code += f"print(hub.fetch({name!r}, {revision!r}, {digests!r}))"
    done = python(server, code, **environment)
    if done.returncode == 0:
        return Path(done.stdout.strip())
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_teacher_becomes_a_folder_of_safetensors(server, teacher, tmp_path):
    digests = {"model.safetensors": sha256(server.home / "model.safetensors")}
    code = f"import fetch_teacher; fetch_teacher.main({NAME!r}, {COMMIT!r}, {digests!r}, 'out')"
    done = python(server, f"import os; os.chdir({str(tmp_path)!r}); {code}")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    facts = json.loads((out / "provenance.json").read_text())
    assert (facts["hub"], facts["revision"]) == (NAME, COMMIT)
    assert facts["files"] == {
        name: sha256(server.home / name)
        for name in ("config.json", "model.safetensors", "preprocessor_config.json")
    }
    assert facts["pinned"] == ["model.safetensors"]
    wave = torch.randn(1, 4000)
    with torch.no_grad():
        assert torch.equal(backbone.load(out)(wave)[0], teacher(wave)[0])


@pytest.mark.slow
def test_an_interrupted_transfer_goes_on(server):
    block = 10 << 20  # huggingface_hub keeps whole blocks
    (server.home / "model.safetensors").write_bytes(os.urandom(2 * block + 5))
    server.limits[f"/{NAME}/{COMMIT}/model.safetensors"] = block + block // 2
    folder = fetch(server)
    assert sha256(folder / "model.safetensors") == sha256(server.home / "model.safetensors")
    assert [start for start in server.starts if start] == [block]


@pytest.mark.slow
def test_without_the_hub_the_cache_serves(server):
    folder = fetch(server)
    before = len(server.starts)
    assert fetch(server, HF_HUB_OFFLINE="1") == folder
    assert fetch(server, HF_ENDPOINT="http://127.0.0.1:9") == folder  # nobody answers there
    assert len(server.starts) == before
    said = fetch(server, revision="1" * 40, HF_HUB_OFFLINE="1")
    assert "does not hold it whole; run `snakemake teachers` where there is internet" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_is_refused_named_and_removed(server, name):
    file = server.home / name
    true = file.read_bytes()
    server.true[name] = true  # what the hub tells of it
    file.write_bytes(true[:-9] + b"X" + true[-8:])  # as long, but another
    said = fetch(server)
    assert f"{NAME}: the digest of {name} is" in said and "run again" in said
    file.write_bytes(true)
    assert (fetch(server) / name).read_bytes() == true


def test_a_pinned_digest_wins_over_what_the_hub_says(server):
    said = fetch(server, digests={"model.safetensors": "0" * 64})
    assert f"not {'0' * 64}" in said and "model.safetensors" in said


@pytest.mark.slow
def test_what_the_hub_refuses_is_one_plain_sentence(server):
    assert fetch(server, revision="1" * 40).endswith(
        f"{NAME} has no revision {'1' * 40} on the hub"
    )
    assert "the hub has no model someone/else" in fetch(server, name="someone/else")
    server.gated.add(NAME)
    assert "is gated: accept its terms" in fetch(server)
    (server.home / "model.safetensors").unlink()
    server.gated.clear()
    assert "has no model.safetensors or pytorch_model.bin" in fetch(server)


@pytest.mark.slow
def test_a_pickle_is_taken_only_where_there_is_nothing_better(server, teacher):
    torch.save(teacher.state_dict(), server.home / "pytorch_model.bin")
    names = {path.name for path in fetch(server).iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    digests = {"pytorch_model.bin": sha256(server.home / "pytorch_model.bin")}
    server.cache = server.cache.with_name("other")
    folder = fetch(server, digests=digests)
    assert not (folder / "model.safetensors").exists()
    weights = backbone.load(folder).state_dict()
    stored = load_file(server.home / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in stored.items())


def test_a_processor_of_the_hub_says_how_recordings_are_preprocessed(server):
    (server.home / "preprocessor_config.json").unlink()
    file = server.home / "processor_config.json"
    settings = {"do_normalize": False, "sampling_rate": 16_000}
    file.write_text(json.dumps({"feature_extractor": settings}))
    folder = fetch(server)
    assert (folder / file.name).is_file()
    assert backbone.load(folder).preprocessor["do_normalize"] is False


class Code:
    """Pickled, it would run code when it is read."""

    def __reduce__(self):
        return os.system, ("true",)


def test_a_pickle_with_code_is_refused(server):
    (server.home / "model.safetensors").unlink()
    torch.save({"weights": Code()}, server.home / "pytorch_model.bin")
    with pytest.raises(Exception, match="holds more than plain tensors"):
        backbone.load(fetch(server))


def test_published_teachers_are_pinned_and_of_their_published_size():
    sizes = {"hubert-base": 94_371_712, "hubert-large": 315_438_720, "distilhubert": 23_491_968}
    sizes |= {"wav2vec2-base": 94_371_712, "wavlm-base-plus": 94_381_936}
    for name, teacher in teachers.TEACHERS.items():
        assert teacher.revision is None or len(teacher.revision) == 40
        assert all(len(digest) == 64 for digest in teacher.sha256.values())
        assert architecture.count(teacher.config)["total"] == sizes.get(
            name, architecture.count(teacher.config)["total"]
        )
        settings = teachers.pinned({"hub": name})
        assert settings["hub"] == teacher.hub and settings["revision"] == teacher.revision
        assert set(settings["sha256"]) <= {*hub.TEXTS, *hub.SAFETENSORS, *hub.PICKLES}
    other = teachers.pinned({"hub": "hubert-base", "revision": "1" * 40})
    assert other["revision"] == "1" * 40 and not other["sha256"]  # digests of another commit


@pytest.mark.slow
def test_the_target_makes_all_teachers_of_a_study(server, tree, snakemake, monkeypatch, teacher):
    """One from the hub, one from a checkpoint: the real rules, in one run."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(server.cache))
    _, weights, settings = pretrained("wavlm", {})
    torch.save(packed("wavlm", weights, settings, False), tree / "wavlm.pt")
    hub = {"hub": NAME, "revision": COMMIT}
    write_study(tree, STUDY | {"teachers": {"a": hub, "b": {"checkpoint": "wavlm.pt"}}})
    snakemake(tree, "teachers", "--cores", "1")
    made = {name: read_config(tree / "results/teachers" / name / "backbone") for name in "ab"}
    assert (made["a"]["model_type"], made["b"]["model_type"]) == ("hubert", "wavlm")
    again = snakemake(tree, "teachers", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
