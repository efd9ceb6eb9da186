"""Classification: languages of real recordings are learnt, scored, compared, exported and told."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from scipy import stats

import compress
import evaluate
import export
import finetune
from helpers.checkout import ROOT
from helpers.commands import command
from helpers.corpora import real_prompts
from helpers.planning import STUDY, planned, write_study
from helpers.results import SCORED
from speech_pareto.compression import catalogue
from speech_pareto.data import pauses
from speech_pareto.data.audio import WINDOW
from speech_pareto.data.corpus import Utterance, read
from speech_pareto.models import backbone as model
from speech_pareto.reporting.tables.significance import mcnemar
from speech_pareto.reporting.tables.systems import read_errors
from speech_pareto.runtime import result
from speech_pareto.study import config
from speech_pareto.tasks.kind import kind_of
from speech_pareto.tasks.kinds.classification import UNSEEN, Task
from speech_pareto.tasks.recogniser import load_recogniser

TEACHER = ROOT / "resources" / "teachers" / "tiny"
TASK = {"kind": "classification", "label": "language", "metric": "accuracy"}
TRAINING = {"steps": 40, "learning_rate": 3e-3, "batch_seconds": 16.0, "precision": "fp32"}


@pytest.fixture(scope="module")
def corpora(request, prompts_en):
    """Return folders of English and of Spanish prompts."""
    return [prompts_en, real_prompts(request, "es")]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return the folder of a small backbone with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("small") / "backbone"
    model.save(model.new(model.tiny_config(hidden=48, layers=1, heads=4, ffn=64)), folder)
    return folder


@pytest.fixture(scope="module", params=["probe", "finetune"])
def learnt(request, corpora, small, tmp_path_factory):
    """Return the task, the fine-tuned folder, and its files of metrics and of utterances."""
    folder = tmp_path_factory.mktemp(request.param)
    task = TASK | {"protocol": request.param}
    start = TEACHER if request.param == "probe" else small
    finetune.main(task, TRAINING, start, corpora, 1, folder / "model")
    files = folder / "metrics.json", folder / "metrics.tsv"
    evaluate.main(task, folder / "model", corpora, SCORED, *files)
    return task, folder / "model", *files


@pytest.mark.slow
def test_languages_are_learnt_and_rows_give_the_score(learnt, corpora):
    task, folder, metrics, rows = learnt
    value = result.read(metrics)
    assert value["metric"] == {"name": "accuracy", "better": "higher"}
    for split, key in (("test", "metrics"), ("valid", "valid_metrics")):
        names = [u.language for each in corpora for u in read(each) if u.split == split]
        largest = 100 * max(names.count(name) for name in names) / len(names)
        assert value[key]["accuracy"] > largest + 20 and value[key]["macro_f1"] > 70
        assert value[key]["reference_length"] == value[key]["utterances"] == len(names)
        utterances, errors, lengths = read_errors(rows, "accuracy", split)
        assert {reference for _, reference in utterances} == {"en", "es"}
        assert (lengths == 1).all() and len(errors) == len(names)
        assert value[key]["accuracy"] == pytest.approx(100 - 100 * errors.mean(), abs=1e-3)
    assert ("layer_weights" in value) == (task["protocol"] == "probe")
    readme = (folder / "README.md").read_text()
    assert "pipeline_tag: audio-classification" in readme and "column `language`" in readme


@pytest.mark.slow
@pytest.mark.parametrize("learnt", ["finetune"], indirect=True)
def test_a_student_tells_the_class_and_so_does_its_onnx_file(learnt, corpora, tmp_path, capsys):
    task, folder, _, rows = learnt
    files = tmp_path / "student.onnx", tmp_path / "student.json"
    export.main(task, folder, corpora, SCORED, *files)
    assert result.read_json(files[1])["status"] == "ok"
    assert "averaged over" in result.read_json(files[1])["outputs"]["log_probabilities"]
    spoken = [u for each in corpora for u in read(each) if u.split == "test"][::40]
    spoken = [u for u in spoken if u.seconds > 0.2]
    ours, theirs = load_recogniser(folder), load_recogniser(files[0])
    said = {line.split("\t")[0]: line.split("\t")[4] for line in rows.read_text().splitlines()}
    for utterance in spoken:
        name, probability = ours.classify(utterance.wave())
        assert ours(utterance.wave()) == name == theirs(utterance.wave()) == said[utterance.id]
        assert theirs.classify(utterance.wave()) == (name, pytest.approx(probability, abs=1e-3))
        assert 0.5 <= probability <= 1
    paths = []
    for utterance in spoken[:2]:
        paths.append(tmp_path / f"{len(paths)}.wav")
        soundfile.write(paths[-1], utterance.wave(), 16_000)
    capsys.readouterr()
    for source in (folder, files[0]):
        command("classify", source, *paths)
        for line, utterance in zip(capsys.readouterr().out.splitlines(), spoken, strict=False):
            path, name, probability = line.split("\t")
            assert Path(path) in paths and name == said[utterance.id] and float(probability) >= 0.5
    command("transcribe", files[0], *paths)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[1] for line in lines] == [said[u.id] for u in spoken[:2]]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["self_pinching", "structured_self_pinching", "parp"])
@pytest.mark.parametrize("learnt", ["finetune"], indirect=True)
def test_methods_fine_tune_on_it(step, learnt, corpora, tmp_path):
    task, folder, *_ = learnt
    recipe = [{step: dict(catalogue.load(step).example)}]
    student = tmp_path / "student"
    compress.main(recipe, 0.2, 1, folder, corpora, {}, student, precision="fp32", task=task)
    finetune.main(task, TRAINING | {"steps": 1}, student, corpora, 1, tmp_path / "model")
    assert load_recogniser(tmp_path / "model").task.symbols == ["en", "es"]


def utterance(label="", split="test", seconds=1.0, **columns):
    """Return an utterance without audio."""
    given = {"id": "a", "text": "", "phones": "", "speaker": "", "language": "", **columns}
    return Utterance(**given, label=label, split=split, offset=0, samples=round(16_000 * seconds))


def task(symbols=None, label="label"):
    return Task({"kind": "classification", "label": label}, symbols)


def test_logits_are_averaged_over_the_frames_of_each_utterance():
    torch.manual_seed(0)
    logits, lengths = torch.randn(3, 7, 4), torch.tensor([7, 2, 5])
    own = task(list("abcd"))
    means = torch.stack([row[:count].mean(0) for row, count in zip(logits, lengths, strict=True)])
    logits[1, 2:] = float("nan")  # padding does not count
    assert torch.allclose(own.pooled(logits, lengths), means, atol=1e-6)
    data = [utterance("c"), utterance("a"), utterance("d")]
    wanted = torch.nn.functional.cross_entropy(means, torch.tensor([2, 0, 3]))
    assert own.loss(logits, lengths, data) == pytest.approx(wanted.item(), abs=1e-6)
    assert own.decode(logits, lengths) == ["abcd"[i] for i in means.argmax(1)]
    shares = own.probabilities(logits.log_softmax(-1), lengths)  # what an exported model gives
    assert torch.allclose(shares, means.softmax(-1), atol=1e-6)
    assert own.weight(lengths) == 3


def test_a_linear_heads_mean_is_that_of_the_mean_frame():
    torch.manual_seed(0)
    head, frames, lengths = torch.nn.Linear(6, 3), torch.randn(2, 9, 6), torch.tensor([9, 4])
    pooled = torch.stack([frames[0].mean(0), frames[1, :4].mean(0)])
    assert torch.allclose(task(list("abc")).pooled(head(frames), lengths), head(pooled), atol=1e-6)


def test_pieces_of_a_batch_add_up_to_its_gradient():
    torch.manual_seed(0)
    own, lengths = task(["a", "b"]), torch.tensor([5, 9, 2])
    data = [utterance(name) for name in "aba"]
    logits = torch.randn(3, 9, 2, requires_grad=True)
    own.loss(logits, lengths, data).backward()
    whole, logits.grad = logits.grad, None
    for part in (slice(0, 2), slice(2, 3)):
        share = own.weight(lengths[part]) / own.weight(lengths)
        (share * own.loss(logits[part], lengths[part], data[part])).backward()
    assert torch.allclose(whole, logits.grad, atol=1e-7)


def test_what_cannot_be_used_has_a_reason():
    own = task(label="speaker")
    assert own.obstacle(utterance(speaker="")) == "no speaker"
    assert own.obstacle(utterance(speaker="anna")) == ""  # no classes are known yet
    own.learn_symbols([utterance(speaker=name) for name in ("bert", "anna", "bert")])
    assert own.symbols == ["anna", "bert"] and own.outputs == 2
    assert own.obstacle(utterance(speaker="carl")) == UNSEEN
    assert own.obstacle(utterance(speaker="carl", split="valid")) == UNSEEN
    assert own.obstacle(utterance(speaker="anna", seconds=60)) == ""
    assert own.obstacle(utterance(speaker="anna", split="train", seconds=21)) == "longer than 20 s"
    with pytest.raises(ValueError, match="the head knows no speaker carl"):
        own.loss(torch.zeros(1, 3, 2), torch.tensor([3]), [utterance(speaker="carl")])


def test_one_class_is_refused_and_uneven_classes_are_told(caplog):
    own = task(label="language")
    with pytest.raises(ValueError, match=r"same language \(en\).*'label' names the column"):
        own.learn_symbols([utterance(language="en")] * 3)
    own.learn_symbols([utterance(language="en")] * 10 + [utterance(language="es")])
    assert not caplog.records
    own.learn_symbols([utterance(language="en")] * 11 + [utterance(language="es")])
    assert "uneven, in training utterances: en 11, es 1" in caplog.text


@pytest.mark.slow
def test_training_on_one_class_ends_with_that_sentence(prompts_en, small, tmp_path):
    own = TASK | {"protocol": "finetune"}
    with pytest.raises(ValueError, match=r"have the same language \(en\)"):
        finetune.main(own, TRAINING, small, [prompts_en], 1, tmp_path / "model")


def test_a_long_recording_has_the_class_of_most_windows():
    own = task(list("abc"))
    assert own.join(["b", "a", "a"]) == "a"
    assert own.join(["b", "a", "a", "b"]) == "b"  # the first of equals


@pytest.mark.slow
@pytest.mark.parametrize("learnt", ["finetune"], indirect=True)
def test_a_recording_of_many_windows(learnt, corpora):
    spoken = [u for each in corpora[::-1] for u in read(each) if u.split == "test"]
    wave = np.concatenate([u.wave() for u in spoken])[: 3 * WINDOW]
    own = load_recogniser(learnt[1])
    each = [own.classify(piece) for _, piece in pauses.cut([wave])]
    names = [name for name, _ in each]
    told, probability = own.classify(wave)
    assert len(each) > 1 and told == max(names, key=names.count)
    shares = [share if name == told else 1 - share for name, share in each]  # of two classes
    assert probability == pytest.approx(np.mean(shares), abs=1e-5)


def test_scores_are_those_of_scikit_learn():
    references, hypotheses = list("aabbbc"), list("abbbca")
    metrics, counts = task(list("abc")).score(references, hypotheses)
    assert metrics["accuracy"] == 50.0
    # a: 1 right of 2 found, 2 there; b: 2 of 3, 3 there; c: none
    assert metrics["macro_f1"] == pytest.approx(100 * (1 / 2 + 2 / 3 + 0) / 3, abs=1e-4)
    assert [count["substitutions"] for count in counts] == [0, 1, 0, 0, 1, 1]
    assert all(count["length"] == 1 for count in counts)
    assert task(list("abc")).score(["a"], ["a"])[0] == {"accuracy": 100.0, "macro_f1": 100.0}


def right_or_wrong(one, other, both):
    """Return the errors of two systems: that one alone, the other alone and both make."""
    errors = [1] * one + [0] * other + [1] * both + [0] * 5
    return errors, [0] * one + [1] * other + [1] * both + [0] * 5


@pytest.mark.parametrize(("one", "other"), [(1, 7), (6, 16), (0, 3), (5, 5), (40, 25), (700, 801)])
def test_mcnemars_mid_p_is_that_of_the_binomial_distribution(one, other):
    z, p = mcnemar(*right_or_wrong(one, other, 2))
    fewer, count = min(one, other), one + other
    # both tails without half of the observed point, by another formula
    tail = stats.binom.sf(count - fewer, count, 0.5) + stats.binom.pmf(fewer, count, 0.5) / 2
    assert p == pytest.approx(2 * tail, rel=1e-10)
    assert z == pytest.approx((one - other) / math.sqrt(count))
    assert mcnemar(*right_or_wrong(other, one, 2)) == (-z, p)


def test_mcnemars_test_gives_published_values():
    # Fagerland, Lydersen & Laake 2013: Bentur et al. 2009, Cavo et al. 2012
    assert mcnemar(*right_or_wrong(1, 7, 0))[1] == pytest.approx(0.039, abs=5e-4)
    assert mcnemar(*right_or_wrong(6, 16, 0))[1] == pytest.approx(0.035, abs=5e-4)
    assert mcnemar([0, 1], [0, 1]) == (0.0, 1.0)


def resolved(**changes):
    """Return the tasks of a study with a task of languages."""
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    own = study["tasks"]["phones"]
    del own["unit"], study["teachers"]["tiny"]["finetuned"]
    study["tasks"] = {"languages": own | TASK | changes}
    return config.resolve(study)["tasks"]


def test_a_study_with_it_is_planned():
    assert resolved()["languages"]["label"] == "language" and "unit" not in resolved()["languages"]
    task = resolved()["languages"]
    del task["label"]
    assert kind_of("classification").filled(task)["label"] == "label"


@pytest.mark.slow
def test_snakemake_plans_it_and_draws_its_confusions_alone(tree):
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    own = {**study["tasks"]["characters"], **TASK}
    del own["unit"]
    study["tasks"]["languages"] = own
    write_study(tree, study)
    jobs = planned(tree)
    for rule in ("finetune", "evaluate"):
        of_task = [text for name, text in jobs if name == rule and "task=languages" in text]
        assert len(of_task) == len(study["recipes"])
    drawn = {text for name, text in jobs if name == "plot" and "confusion" in text}
    assert drawn == {"figure=languages-confusion"}  # not of characters


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": "lang"}, r"label: unknown value 'lang'; did you mean 'language'"),
        ({"language_model": {"path": "README.md"}}, r"language_model: only a task of kind 'ctc'"),
        ({"unit": "phones"}, r"unit: only a task of kind 'ctc' has it"),
        ({"metric": "per"}, r"metric: unknown metric 'per'.* Known: accuracy\."),
        ({"metric": "macro_f1"}, r"metric: unknown metric 'macro_f1'"),
        ({"kind": "classify"}, r"did you mean 'classification'"),
    ],
)
def test_mistakes_are_named(changes, said):
    with pytest.raises(config.ConfigError, match=said):
        resolved(**changes)
