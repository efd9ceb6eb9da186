"""Verification: real voices are told apart, scored, exported and verified.

The voices are those of the prompts in five languages, served as parts of LibriSpeech: three train,
the other two are met in validation and test alone.
"""

import math
import tarfile

import numpy as np
import pytest
import soundfile
import torch

import compress
import evaluate
import export
import fetch_corpus
import finetune
import measure_export
import prepare_corpus
from helpers.archives import add, encoded
from helpers.checkout import ROOT
from helpers.commands import command
from helpers.corpora import real_prompts
from helpers.loopback import serve
from helpers.results import SCORED
from speech_pareto.compression import catalogue
from speech_pareto.data.audio import WINDOW
from speech_pareto.data.corpora import librispeech
from speech_pareto.data.corpus import Utterance, read
from speech_pareto.models import backbone as model
from speech_pareto.reporting.tables.systems import read_trials
from speech_pareto.runtime import result
from speech_pareto.runtime.hashing import digest_of
from speech_pareto.tasks.detection import curve
from speech_pareto.tasks.kinds.verification import Task
from speech_pareto.tasks.pooling import Embedder, Pooled, aam_softmax
from speech_pareto.tasks.recogniser import load_recogniser
from speech_pareto.tasks.task import load_task_model
from speech_pareto.training import inference

pytestmark = pytest.mark.xdist_group("verification")  # one process makes the corpus and trains
TEACHER = ROOT / "resources" / "teachers" / "tiny"
TASK = {"kind": "verification", "metric": "eer", "embedding": 24, "trials": {"most": 200}}
FP32 = {"precision": "fp32"}  # as a recogniser computes, also where bf16 is fast
TRAINING = {"steps": 40, "learning_rate": 3e-3, "batch_seconds": 16.0, "precision": "fp32"}
TAUGHT = [("19", "en"), ("26", "es"), ("27", "ru")]
READERS = {  # part -> (reader, language of the prompts, utterances)
    "train-clean-100": [(name, language, slice(0, 40)) for name, language in TAUGHT],
    "dev-clean": [("84", "it", slice(0, 14)), ("174", "fr", slice(0, 14))],
    "test-clean": [("61", "it", slice(14, 30)), ("121", "fr", slice(14, 30))],
}


@pytest.fixture(scope="module")
def corpus(request, tmp_path_factory):
    """Return the folder of a LibriSpeech of real voices, fetched from loopback."""
    folder = tmp_path_factory.mktemp("librispeech")
    (folder / "mirror" / "12").mkdir(parents=True)
    settings = {"source": "librispeech", "languages": ["en"], "parts": list(READERS)}
    with pytest.MonkeyPatch.context() as patch:
        for part, readers in READERS.items():
            file = folder / "mirror" / "12" / f"{part}.tar.gz"
            with tarfile.open(file, "w:gz") as archive:
                rows = [f"{reader} | F | {part} | 1 | someone\n" for reader, *_ in readers]
                add(archive, "LibriSpeech/SPEAKERS.TXT", "".join(rows).encode())
                for reader, language, chosen in readers:
                    spoken = read(real_prompts(request, language))
                    spoken = [u for u in spoken if u.text and 1 < u.seconds < 3][chosen]
                    at, lines = f"LibriSpeech/{part}/{reader}/198", []
                    for index, one in enumerate(spoken):
                        name = f"{reader}-198-{index:04d}"
                        lines.append(f"{name} WORDS\n")
                        wave = one.audio[one.offset : one.offset + one.samples]
                        add(archive, f"{at}/{name}.flac", encoded(wave, "FLAC"))
                    add(archive, f"{at}/{reader}-198.trans.txt", "".join(lines).encode())
            patch.setitem(librispeech.PARTS, part, digest_of(file, "sha256"))
        with serve(folder / "mirror") as running:
            served = settings | {"mirror": running.url}
            fetch_corpus.main("librispeech", served, folder / "downloads")
    prepare_corpus.main("ls", settings, folder / "downloads", folder / "ls")
    return folder / "ls"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return the folder of a small backbone with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("small") / "backbone"
    model.save(model.new(model.tiny_config(hidden=48, layers=1, heads=4, ffn=64)), folder)
    return folder


@pytest.fixture(scope="module", params=["probe", "finetune"])
def learnt(request, corpus, small, tmp_path_factory):
    """Return the task, the fine-tuned folder, and its files of metrics and of trials."""
    folder = tmp_path_factory.mktemp(request.param)
    task = TASK | {"protocol": request.param}
    start = TEACHER if request.param == "probe" else small
    finetune.main(task, TRAINING, start, [corpus], 1, folder / "model")
    files = folder / "metrics.json", folder / "metrics.tsv"
    evaluate.main(task | FP32, folder / "model", [corpus], SCORED, *files)
    return task, folder / "model", *files


finetuned = pytest.mark.parametrize("learnt", ["finetune"], indirect=True)


@pytest.mark.slow
def test_voices_that_training_never_heard_are_told_apart(learnt, corpus):
    task, folder, metrics, rows = learnt
    value = result.read(metrics)
    assert value["metric"] == {"name": "eer", "better": "lower"}
    for split, key in (("test", "metrics"), ("valid", "valid_metrics")):
        names, trials, scores = read_trials(rows, split)
        numbers = value[key]
        assert numbers["eer"] < 35  # chance is 50
        assert numbers["eer"] == pytest.approx(100 * curve(scores, trials.target).eer(), abs=1e-4)
        cost = curve(scores, trials.target).min_dcf(0.05)
        assert numbers["min_dcf_0.05"] == pytest.approx(cost, abs=1e-4)
        assert numbers["eer_low"] <= numbers["eer"] <= numbers["eer_high"]
        assert numbers["min_dcf_0.01_low"] <= numbers["min_dcf_0.01"] <= 1
        assert numbers["trials"] == len(names) == 200 and numbers["target_trials"] == 100
        assert numbers["by_corpus"] == {"ls": {"eer": numbers["eer"]}}
    assert ("layer_weights" in value) == (task["protocol"] == "probe")
    assert load_recogniser(folder).task.symbols == [name for name, _ in TAUGHT]
    threshold = result.read_json(folder / "provenance.json")["task"]["threshold"]
    assert f"the threshold, {threshold:g}" in (folder / "README.md").read_text()
    names, trials, scores = read_trials(rows, "valid")
    misses = np.mean(scores[trials.target] < threshold)
    alarms = np.mean(scores[~trials.target] >= threshold)
    assert abs(misses - alarms) < 0.05


@pytest.mark.slow
@finetuned
def test_it_repeats_and_resumes_with_the_same_bytes(learnt, corpus, small, tmp_path, monkeypatch):
    task, folder, metrics, rows = learnt
    files = tmp_path / "metrics.json", tmp_path / "metrics.tsv"
    evaluate.main(task | FP32, folder, [corpus], SCORED, *files)
    assert files[1].read_bytes() == rows.read_bytes()
    assert result.read(files[0])["metrics"] == result.read(metrics)["metrics"]
    real, calls = Task.loss, []

    def loss(self, *arguments):
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt  # as a kill in the middle of a step
        return real(self, *arguments)

    training = TRAINING | {"checkpoint_seconds": 0}
    arguments = [task, training, small, [corpus], 1, tmp_path / "model", tmp_path / "state"]
    monkeypatch.setattr(Task, "loss", loss)
    with pytest.raises(KeyboardInterrupt):
        finetune.main(*arguments)
    finetune.main(*arguments)
    assert 40 < len(calls) < 60  # the second went on
    for name in ("head.safetensors", "model.safetensors"):
        assert (tmp_path / "model" / name).read_bytes() == (folder / name).read_bytes()
    one, other = (
        result.read_json(each / "provenance.json")["task"] for each in (folder, arguments[-2])
    )
    assert one == other


@pytest.mark.slow
@finetuned
def test_an_embedding_does_not_depend_on_its_batch(learnt, corpus, monkeypatch):
    task, folder, *_ = learnt
    task_model, definition = load_task_model(task, model.load(folder), folder)
    data = [u for u in read(corpus) if u.split == "test"]
    together = np.stack(inference.transcribe(task_model, definition, data)[0])
    monkeypatch.setattr(inference, "BATCH_SECONDS", {"cpu": 0.0})  # one utterance at a time
    alone = np.stack(inference.transcribe(task_model, definition, data)[0])
    assert together.shape == (len(data), 24)
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    real, embedded = Task.decode, []

    def decode(self, logits, lengths):
        embedded.extend(lengths.tolist())
        return real(self, logits, lengths)

    monkeypatch.setattr(Task, "decode", decode)
    trials, _ = inference.compare(task_model, definition, data)
    assert len(embedded) == len(data) < len(trials.first)  # each utterance once


@pytest.mark.slow
@finetuned
def test_a_student_verifies_and_so_does_its_onnx_file(learnt, corpus, tmp_path, capsys):
    task, folder, _, rows = learnt
    files = tmp_path / "student.onnx", tmp_path / "student.json"
    export.main(task, folder, [corpus], SCORED, *files)
    about = result.read_json(files[1])
    assert about["status"] == "ok" and "other_symbols" not in about["check"]
    assert about["outputs"]["embeddings"].endswith("the cosine of two is the score of a pair")
    data = {u.id: u for u in read(corpus)}
    names, _, scores = read_trials(rows)
    ours, theirs = load_recogniser(folder), load_recogniser(files[0])
    assert ours.task.threshold == theirs.task.threshold
    for (pair, _), score in list(zip(names, scores, strict=True))[:6]:
        one, other = (data[name.removeprefix("ls/")].wave() for name in pair.split(" "))
        same, found = ours.verify(one, other)
        assert found == pytest.approx(score, abs=1e-4) and same == (found >= ours.task.threshold)
        assert theirs.verify(one, other)[1] == pytest.approx(score, abs=1e-3)
    tested = [u for u in data.values() if u.split == "test"]
    metrics, scored = measure_export.answers(theirs, theirs.task, tested)
    assert [float(row["score"]) for row in scored] == pytest.approx(list(scores), abs=1e-3)
    assert metrics["eer"] == pytest.approx(result.read(rows.with_suffix(".json"))["metrics"]["eer"])
    paths = []
    for utterance in list(data.values())[-2:]:
        paths.append(tmp_path / f"{len(paths)}.wav")
        soundfile.write(paths[-1], utterance.wave(), 16_000)
    for source in (folder, files[0]):
        capsys.readouterr()
        command("verify", source, *paths)
        *given, said, score, threshold = capsys.readouterr().out.strip().split("\t")
        assert given == list(map(str, paths))
        assert said == ("same" if float(score) >= float(threshold) else "other")
    command("verify", source, paths[0], paths[0])
    assert "\tsame\t1.0000\t" in capsys.readouterr().out
    for call in (ours, ours.classify):
        with pytest.raises(ValueError, match="speech-pareto verify"):
            call(paths[0])


@pytest.mark.slow
@finetuned
def test_a_long_recording_has_the_mean_of_its_windows(learnt, corpus):
    wave = np.concatenate([u.wave() for u in read(corpus) if u.split == "test"])
    assert len(wave) > WINDOW
    vector = load_recogniser(learnt[1]).embed(wave)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["self_pinching", "structured_self_pinching", "parp"])
@finetuned
def test_methods_fine_tune_on_it(step, learnt, corpus, tmp_path):
    task, folder, *_ = learnt
    recipe = [{step: dict(catalogue.load(step).example)}]
    student = tmp_path / "student"
    compress.main(recipe, 0.2, 1, folder, [corpus], {}, student, precision="fp32", task=task)
    finetune.main(task, TRAINING | {"steps": 1}, student, [corpus], 1, tmp_path / "model")
    made = load_recogniser(tmp_path / "model")
    assert made.task.symbols == [name for name, _ in TAUGHT] and made.task.threshold is not None


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["statistics", "attentive"])
def test_classification_may_pool_likewise(pooling, corpus, small, tmp_path):
    own = {"kind": "classification", "label": "speaker", "metric": "accuracy"}
    own |= {"pooling": pooling, "protocol": "finetune"}
    within = tmp_path / "own"
    readers = [u for u in read(corpus) if u.split == "train"]
    write_split(within, corpus, readers)
    finetune.main(own, TRAINING, small, [within], 1, tmp_path / "model")
    evaluate.main(
        own, tmp_path / "model", [within], SCORED, tmp_path / "m.json", tmp_path / "m.tsv"
    )
    assert result.read(tmp_path / "m.json")["metrics"]["accuracy"] > 80
    ours = load_recogniser(tmp_path / "model").classify(readers[0].wave())
    if pooling == "attentive":  # the file of a student that verifies has the other one
        files = tmp_path / "s.onnx", tmp_path / "s.json"
        export.main(own, tmp_path / "model", [within], SCORED, *files)
        name, probability = load_recogniser(files[0]).classify(readers[0].wave())
        assert (name, pytest.approx(probability, abs=1e-3)) == ours


def write_split(folder, corpus, utterances, **changes):
    """Write a corpus of some utterances of another, every third to validation or to test."""
    from speech_pareto.data.corpus import write

    folder.mkdir()
    for number, one in enumerate(utterances):
        one.split = {0: "valid", 3: "test"}.get(number % 6, "train")
        for key, change in changes.items():
            setattr(one, key, change(one))
    write(folder, utterances)
    for name in ("audio.npy", "README.md"):
        (folder / name).symlink_to(corpus / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda u: "", "no training utterance .* no speaker"),
        (lambda u: "one", r"all \d+ training utterances have the same speaker \(one\)"),
        (lambda u: u.speaker if u.split == "train" else "one", "valid: .* no non-target trial"),
        (lambda u: u.speaker if u.split == "train" else u.id, "valid: .* no target trial"),
    ],
)
def test_a_corpus_that_cannot_serve_is_refused_before_training(
    change, said, corpus, small, tmp_path, monkeypatch
):
    write_split(tmp_path / "own", corpus, read(corpus), speaker=change)
    monkeypatch.setattr(finetune, "fit", lambda *a: pytest.fail("it began to train"))
    with pytest.raises(ValueError, match=said):
        finetune.main(
            TASK | {"protocol": "finetune"}, TRAINING, small, [tmp_path / "own"], 1, tmp_path / "m"
        )


@pytest.mark.slow
@finetuned
def test_lists_say_what_is_compared(learnt, corpus, small, tmp_path, monkeypatch):
    task, folder, *_ = learnt
    names = {s: [u.id for u in read(corpus) if u.split == s] for s in ("valid", "test")}
    lists = {}
    for split, (a, b, *_, c) in names.items():
        lists[split] = str(tmp_path / f"{split}.txt")
        (tmp_path / f"{split}.txt").write_text(f"1 {a} {b}\n0 {a} {c}\n")
    listed = task | {"trials": lists}
    evaluate.main(listed, folder, [corpus], SCORED, tmp_path / "m.json", tmp_path / "m.tsv")
    numbers = result.read(tmp_path / "m.json")["metrics"]
    assert numbers["trials"] == 2 and numbers["utterances"] == 3
    (tmp_path / "test.txt").write_text(f"1 {a} {b}\n0 {a} nobody\n")
    monkeypatch.setattr(finetune, "fit", lambda *a: pytest.fail("it began to train"))
    with pytest.raises(ValueError, match="line 2: no usable utterance of test is 'nobody'"):
        finetune.main(listed, TRAINING, small, [corpus], 1, tmp_path / "model")


def utterance(speaker="", split="test", seconds=1.0):
    """Return an utterance without audio."""
    return Utterance("a", "", "", "", speaker, "", split, 0, round(16_000 * seconds))


def test_what_cannot_be_used_has_a_reason():
    own = Task({"kind": "verification"}, ["anna", "bert"])
    assert own.obstacle(utterance()) == "no speaker"
    assert own.obstacle(utterance("carl")) == ""  # training never heard him
    assert own.obstacle(utterance("anna", "train", 21)) == "longer than 20 s"
    listed = Task({"kind": "verification", "trials": {"test": "list.txt"}})
    assert listed.obstacle(utterance()) == ""  # the list says who is who
    assert listed.obstacle(utterance(split="valid")) == "no speaker"
    with pytest.raises(ValueError, match="the head knows no speaker carl"):
        own.targets([utterance("carl")], "cpu")


@pytest.mark.parametrize(("margin", "scale"), [(0.0, 1.0), (0.2, 30.0), (0.5, 64.0)])
def test_the_loss_is_that_of_angles_in_double_precision(margin, scale):
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(6, 5), dim=-1)
    speakers, targets = torch.randn(4, 5), torch.tensor([0, 1, 2, 3, 0, 0])
    vectors[4] = -torch.nn.functional.normalize(speakers[0], dim=0)  # on the other side
    wanted = []
    for vector, target in zip(vectors.numpy().astype(float), targets, strict=True):
        logits = []
        for number, speaker in enumerate(speakers.numpy().astype(float)):
            cosine = float(vector @ speaker) / math.dist(speaker, np.zeros(5))
            angle = math.acos(max(-1.0, min(1.0, cosine)))
            if number == target:
                turned = angle + margin <= math.pi
                cosine = math.cos(angle + margin) if turned else cosine - margin * math.sin(margin)
            logits.append(scale * cosine)
        wanted.append(math.log(sum(map(math.exp, np.subtract(logits, logits[target])))))
    found = aam_softmax(vectors, speakers, targets, margin, scale)
    assert found.item() == pytest.approx(np.mean(wanted), rel=1e-4)
    vectors = vectors.clone().requires_grad_()
    aam_softmax(vectors, speakers, targets, margin, scale).backward()
    assert vectors.grad.isfinite().all()


def test_statistics_are_those_of_the_valid_frames():
    torch.manual_seed(0)
    frames, lengths = torch.randn(3, 7, 4), torch.tensor([7, 2, 5])
    padded = frames.clone()
    padded[1, 2:] = float("nan")
    for pooling, size in (("mean", 4), ("statistics", 8), ("attentive", 8)):
        layer = Pooled(4, pooling, 3)
        assert layer.out.in_features == size
        for row, count in zip(range(3), lengths, strict=True):
            valid = frames[row, :count].double()
            shares = torch.full((count,), 1 / count).double()
            if pooling == "attentive":
                shares = layer.attention(frames[row, :count])[:, 0].double().softmax(0)
            mean = (shares[:, None] * valid).sum(0)
            deviation = ((shares[:, None] * (valid - mean) ** 2).sum(0) + 1e-5).sqrt()
            pooled = mean if pooling == "mean" else torch.cat([mean, deviation])
            wanted = layer.out(pooled.float())
            found = layer(padded, lengths)[row]
            assert torch.allclose(found, wanted, atol=1e-5)
    one = Embedder(4, "statistics", 3, 2)(padded[:, :1], torch.tensor([1, 1, 1]))
    assert torch.allclose(one.norm(dim=-1), torch.ones(3))  # a single frame has no deviation


def test_pieces_of_a_batch_add_up_to_its_gradient():
    torch.manual_seed(0)
    own = Task({"kind": "verification", "embedding": 3}, ["a", "b"])
    own.pool()
    data = [utterance(name) for name in "aba"]
    vectors = torch.nn.functional.normalize(torch.randn(3, 1, 3), dim=-1).requires_grad_()
    lengths = torch.ones(3, dtype=torch.long)
    own.loss(vectors, lengths, data).backward()
    whole, vectors.grad = vectors.grad, None
    for part in (slice(0, 2), slice(2, 3)):
        share = own.weight(lengths[part]) / own.weight(lengths)
        (share * own.loss(vectors[part], lengths[part], data[part])).backward()
    assert torch.allclose(whole, vectors.grad, atol=1e-6)
