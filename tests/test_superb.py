"""SUPERB through s3prl itself: what it gets of a student, PR and SID trained for real, scores."""

import json
import os
import subprocess

import numpy as np
import pytest
import soundfile
import torch
import yaml

import compress
import prepare_superb
import s3prl_trial
import superb
from helpers.checkout import ROOT, called_in
from helpers.corpora import real_prompts
from speech_pareto.data.batches import collate
from speech_pareto.data.corpus import read, samples_file, write
from speech_pareto.models.backbone import load, new, save, tiny_config
from speech_pareto.models.hidden_states import states
from speech_pareto.models.weights import weights_digest
from speech_pareto.reporting.tables.systems import read_errors
from speech_pareto.runtime import result
from speech_pareto.study import config
from speech_pareto.study import figures as study_figures
from speech_pareto.tasks.kinds.superb import METRICS, PROBLEMS

pytestmark = pytest.mark.xdist_group("superb")  # one of several processes trains
TINY = ROOT / "resources" / "teachers" / "tiny"
STUDENTS = {"ffn-pruning": "ffn_pruning", "low-rank": "low_rank"}
TAUGHT = ("identity", "low-rank")  # each training takes ten seconds
KINDS = ("digits", "letters", "phonetic")  # folders of the prompts
LANGUAGES = ("en", "it")
FEATURES = """
import shutil, sys
from pathlib import Path
import numpy as np, torch
from s3prl.nn import S3PRLUpstream
from speech_pareto.tasks.s3prl_upstream import register
register()
folder = sys.argv[1]
waves = [torch.from_numpy(wave) for wave in np.load(f"{folder}/waves.npz").values()]
lengths = torch.tensor([len(wave) for wave in waves])
padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
found = {}
for model in sys.argv[2:]:
    upstream = S3PRLUpstream("speech_pareto", model).eval()
    with torch.no_grad():
        hidden, frames = upstream(padded, lengths)
        for row, wave in enumerate(waves):
            alone, _ = upstream(wave[None], lengths[row : row + 1])
            valid = frames[0][row]
            found[f"{model}/{row}"] = torch.stack([layer[row, :valid] for layer in hidden]).numpy()
            found[f"{model}/{row}/alone"] = torch.stack([layer[0] for layer in alone]).numpy()
    register(Path(folder) / "cache")
    cached = S3PRLUpstream("speech_pareto", model).eval()
    for turn in range(2):
        hidden, _ = cached(padded, lengths)
        for row in range(len(waves)):
            valid = frames[0][row]
            kept = torch.stack([layer[row, :valid] for layer in hidden]).numpy()
            found[f"{model}/{row}/cached{turn}"] = kept
        cached.upstream.model = None  # the second time none is needed
    register()
    shutil.rmtree(Path(folder) / "cache")
np.savez(f"{folder}/features.npz", **found)
"""
TRAIN = """
import json, sys, torch
from pathlib import Path
import s3prl_trial
torch.set_num_threads(1)
for job in json.loads(Path(sys.argv[1]).read_text()):
    s3prl_trial.main(**job)
"""
DEFAULTS = """
import s3prl.problem
found = {name: getattr(s3prl.problem, name)().default_config() for name in sys.argv[2:]}
Path(sys.argv[1]).with_name("defaults.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="session")
def s3prl():
    """Return a function that runs code in the environment with s3prl and returns its output."""
    try:
        python = superb.interpreter()
    except RuntimeError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))

    def run(code, *arguments):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow" / "scripts")}
        command = [python, "-W", "ignore", "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert not done.returncode, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def words(prompts_en, request, tmp_path_factory):
    """Return a folder of short real prompts in two languages: digits, letters, their names."""
    folder = tmp_path_factory.mktemp("corpora") / "words"
    folder.mkdir()
    spoken = [*read(prompts_en), *read(real_prompts(request, "it"))]
    chosen = [u for u in spoken if u.seconds < 2.5 and u.id.split("/")[1] in KINDS]
    offset = 0
    with samples_file(folder / "audio.npy") as append:
        for utterance in chosen:
            first = utterance.offset
            append(utterance.audio[first : first + utterance.samples])
            utterance.offset = offset
            offset += utterance.samples
    write(folder, chosen)
    (folder / "README.md").write_text("Licence: none\n")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folders of the tiny teacher and two students of different shape."""
    folder = tmp_path_factory.mktemp("models")
    for name, method in STUDENTS.items():
        compress.main([{method: {}}], 0.5, 1, TINY, [], {}, folder / name)
    return {"identity": TINY} | {name: folder / name for name in STUDENTS}


@pytest.fixture(scope="module")
def trained(words, models, s3prl, tmp_path_factory):
    """Return the folder of results of PR and SID on the teacher and a student.

    Beside them lies what s3prl says of its own recipes.
    """
    folder = tmp_path_factory.mktemp("superb")
    train = {"log_step": 30, "eval_step": 30, "save_step": 30, "gradient_accumulate": 1}
    sizes = {split: {"batch_size": 8} for split in ("train", "valid", "test")}
    jobs = []
    problems = {"PR": {"metric": "per", "languages": ["en"]}}
    problems |= {"SID": {"metric": "accuracy", "label": "language"}}
    for problem, own in problems.items():
        steps = {"total_steps": 60 if problem == "PR" else 30}
        settings = {"train": train | steps, "build_batch_sampler": sizes}
        task = {"problem": problem, "settings": settings} | own
        prepare_superb.main(task, [words], folder / problem)
        for name in TAUGHT:
            run = {"study": "x", "teacher": "tiny", "recipe": name, "ratio": 0.0, "seed": 1}
            run |= {"role": "student", "pretrained": True}
            run |= {"task": problem.lower(), "config": {}}
            files = {"output": f"{name}-{problem}.json", "hypotheses": f"{name}-{problem}.tsv"}
            files |= {"data": problem, "state": f"state-{name}-{problem}"}
            files = {key: str(folder / file) for key, file in files.items()}
            tried = {"learning_rates": [1e-2, 1e-5] if name == "identity" else [1e-2]}
            jobs.append({"task": task | tried, "model": str(models[name]), "run": run, **files})
            if name == "low-rank":
                cached = {key: f"{file}-cached" for key, file in files.items() if key != "data"}
                task_of_cached = task | tried | {"cache_features": True}
                jobs.append(jobs[-1] | cached | {"task": task_of_cached})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    recipes = [facts.recipe for facts in PROBLEMS.values()]
    s3prl(TRAIN + DEFAULTS, folder / "jobs.json", *recipes)
    return folder


@pytest.mark.slow
def test_s3prl_hears_our_hidden_states(models, words, s3prl, tmp_path):
    stem = {"conv_dim": [32] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2]}
    stem |= {"conv_stride": [5, 2, 2, 2, 2, 2, 2], "feat_extract_norm": "group"}
    wide = tiny_config(hidden=48, layers=2, **stem)
    save(new(wide), tmp_path / "wide")  # a stem of convolutions, normalised waveforms
    assert load(tmp_path / "wide").preprocessor["do_normalize"]
    waves = [u.wave() for u in sorted(read(words), key=lambda u: u.samples)[::100]][:3]
    assert len(waves) == 3 and len({len(wave) for wave in waves}) == 3
    np.savez(tmp_path / "waves.npz", *waves)
    folders = [*models.values(), tmp_path / "wide"]
    s3prl(FEATURES, tmp_path, *folders)
    seen = np.load(tmp_path / "features.npz")
    for folder in folders:
        model = load(folder)
        padded, mask = collate(waves, model.preprocessor["do_normalize"])
        longest = max(map(len, waves))
        batch = {"input_values": padded[:, :longest], "attention_mask": mask[:, :longest]}
        with torch.no_grad():
            ours = torch.stack(states(model, batch))
        for row, wave in enumerate(waves):
            theirs, alone = seen[f"{folder}/{row}"], seen[f"{folder}/{row}/alone"]
            frames = int(model._get_feat_extract_output_lengths(len(wave)))
            assert theirs.shape[:2] == (len(ours), -(-len(wave) // 320))
            np.testing.assert_allclose(theirs[:, :frames], ours[:, row, :frames], atol=1e-5)
            np.testing.assert_allclose(
                theirs[:, frames:],
                theirs[:, frames - 1 : frames].repeat(theirs.shape[1] - frames, axis=1),
            )
            kept = seen[f"{folder}/{row}/cached0"]
            np.testing.assert_allclose(kept, alone, atol=1e-5)
            np.testing.assert_array_equal(kept, seen[f"{folder}/{row}/cached1"])
            if folder.name != "wide":  # whatever lies beside it, but for norms over time
                np.testing.assert_allclose(theirs, alone, atol=1e-5)


@pytest.mark.slow(minutes=2)
def test_phones_and_languages_are_learnt(trained):
    for name in TAUGHT:
        phones_are_learnt(trained, name)
        languages_are_learnt(trained, name)
    for problem, choose in (("PR", min), ("SID", max)):
        rate_is_recorded(trained, problem, choose)
        same_scores_from_a_cache(trained, problem)
    assert not list(trained.glob("state-*"))


def phones_are_learnt(folder, name):
    """Check the result of PR: its score, the errors that give it, the layers it listens to."""
    value = result.read(folder / f"{name}-PR.json")
    assert value["metric"] == {"name": "per", "better": "lower"}
    assert value["metrics"]["per"] < 85
    sweep = [trial["valid"] for trial in value["downstream"]["sweep"]]
    assert value["valid_metrics"] == {"per": min(sweep)}
    ids, errors, lengths = read_errors(folder / f"{name}-PR.tsv", "per")
    assert len(ids) == value["metrics"]["utterances"] == 23
    # s3prl's rate is that of our counts
    assert value["metrics"]["per"] == pytest.approx(100 * errors.sum() / lengths.sum(), abs=1e-3)
    assert sum(value["layer_weights"]) == pytest.approx(1, abs=1e-3)
    assert len(set(value["layer_weights"])) > 1  # they have learnt


def languages_are_learnt(folder, name):
    """Check the result of SID with languages for speakers."""
    value = result.read(folder / f"{name}-SID.json")
    assert value["metric"] == {"name": "accuracy", "better": "higher"}
    pairs, errors, lengths = read_errors(folder / f"{name}-SID.tsv", "accuracy")
    assert {language for _, language in pairs} == set(LANGUAGES) and lengths.sum() == len(pairs)
    accuracy = value["metrics"]["accuracy"]
    assert accuracy == pytest.approx(100 - 100 * errors.sum() / len(pairs), abs=1e-3)
    most = max(sum(language == one for _, language in pairs) for one in LANGUAGES)
    assert accuracy > 100 * most / len(pairs)  # better than always the same


def same_scores_from_a_cache(folder, problem):
    """Check that hidden states computed once, each recording alone, give the same scores."""
    own = result.read(folder / f"low-rank-{problem}.json")
    cached = result.read(folder / f"low-rank-{problem}.json-cached")
    for section in ("metrics", "valid_metrics"):
        for name, value in own[section].items():
            assert cached[section][name] == pytest.approx(value, abs=1e-3), name


def rate_is_recorded(folder, problem, choose):
    """Check that the learning rate was chosen on validation, and that all is recorded."""
    value = result.read(folder / f"identity-{problem}.json")
    found = value["downstream"]
    assert found["trainer"] == "s3prl 0.4.18"
    assert value["meta"]["versions"]["torch"] != torch.__version__  # it ran in the other one
    tried = {trial["learning_rate"]: trial["valid"] for trial in found["sweep"]}
    assert set(tried) == {1e-2, 1e-5} and tried[1e-2] != tried[1e-5]
    assert found["learning_rate"] == choose(tried, key=tried.get) == 1e-2
    assert found["settings"]["build_optimizer"]["conf"]["lr"] == 1e-2
    assert found["settings"]["build_optimizer"]["name"] == "Adam"  # s3prl's own is there too


@pytest.mark.slow
def test_the_rule_runs_in_the_other_environment(study, words, s3prl, tmp_path, snakemake):
    rows = ["path\ttext\tlabel\tspeaker\tsplit"]
    spoken = [u for u in read(words) if u.seconds < 1]
    for number, split in enumerate(("train", "train", "valid", "test")):
        for language in LANGUAGES:
            utterance = [u for u in spoken if u.language == language][number]
            soundfile.write(tmp_path / f"{language}{number}.wav", utterance.wave(), 16_000)
            rows.append(f"{language}{number}.wav\t\t{language}\tanna\t{split}")
    (tmp_path / "mine.tsv").write_text("\n".join(rows) + "\n")
    train = {"total_steps": 2, "eval_step": 1, "save_step": 1, "log_step": 1}
    task = {"kind": "superb", "problem": "SID", "corpora": ["mine"], "learning_rates": [1e-3]}
    task["settings"] = {"train": train | {"gradient_accumulate": 1}}
    study["corpora"].pop("prompts")
    study |= {"tasks": {"spoken": task}, "teachers": {"tiny": {"path": str(TINY)}}}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(study))
    command = called_in(tmp_path, 1)
    output = "results/metrics/tiny/identity/0/1/spoken.json"
    snakemake(ROOT, *command, "--show-failed-logs", output)
    value = result.read(tmp_path / output)
    assert value["status"] == "ok" and value["metrics"]["utterances"] == 2
    assert value["run"]["config"]["task"]["problem"] == "SID"
    done = snakemake(ROOT, *command, output)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_finished_trial_is_not_trained_again(tmp_path):
    rows = [{"id": "a", "corpus": "x", "reference": "n", "hypothesis": "n"}]
    rows[0] |= {"deletions": 0, "insertions": 0, "substitutions": 0, "length": 1}
    for rate, valid, per in ((0.1, 40.0, 10.0), (0.01, 30.0, 0.0)):
        trial = {"trainer": "s3prl", "learning_rate": rate, "valid": valid, "settings": {}}
        trial |= {"metrics": {"per": per}, "rows": rows, "layer_weights": None}
        folder = tmp_path / "state" / weights_digest(TINY)[:16] / f"{rate:g}"
        result.write_json(folder / s3prl_trial.RESULT, trial)
    task = {"problem": "PR", "metric": "per", "learning_rates": [0.1, 0.01]}
    run = {"study": "x", "teacher": "t", "recipe": "r", "ratio": 0.0, "seed": 1, "task": "pr"}
    run |= {"role": "student", "pretrained": True}
    output = tmp_path / "pr.json"
    s3prl_trial.main(task, TINY, None, run, output, tmp_path / "pr.tsv", tmp_path / "state")
    value = result.read(output)
    assert value["metrics"]["per"] == 0.0 and value["downstream"]["learning_rate"] == 0.01
    assert not (tmp_path / "state").exists()


def test_a_student_that_could_not_be_made_passes_its_status_on(tmp_path):
    result.write_status(tmp_path / "model", "infeasible", "too much", 0.4)
    run = {"study": "x", "teacher": "t", "recipe": "r", "ratio": 0.9, "seed": 1, "task": "pr"}
    run |= {"role": "student", "pretrained": True}
    files = tmp_path / "pr.json", tmp_path / "pr.tsv", tmp_path / "state"
    s3prl_trial.main({"metric": "per"}, tmp_path / "model", None, run, *files)
    value = result.read(tmp_path / "pr.json")
    assert value["status"] == "infeasible" and value["reachable"] == 0.4
    assert (tmp_path / "pr.tsv").read_text().startswith("id\t")


@pytest.mark.slow
def test_labels_must_have_been_heard(words, tmp_path):
    folder = tmp_path / "words"
    spoken = read(words)
    folder.mkdir()
    os.link(words / "audio.npy", folder / "audio.npy")
    for utterance in spoken:
        utterance.label = "old" if utterance.split == "train" else "new"
    write(folder, spoken)
    with pytest.raises(ValueError, match="train_hours is 9, but only"):
        prepare_superb.main({"problem": "SID", "train_hours": 9.0}, [folder], tmp_path / "sid")
    with pytest.raises(ValueError, match="the training split has no recording of new"):
        prepare_superb.main({"problem": "SID"}, [folder], tmp_path / "sid")
    with pytest.raises(ValueError, match="no recording of the train split has what SID needs"):
        task = {"problem": "SID", "languages": ["fr"]}
        prepare_superb.main(task, [folder], tmp_path / "sid")


@pytest.mark.slow
def test_the_table_says_what_s3prl_does(trained):
    found = result.read_json(trained / "defaults.json")
    for name, facts in PROBLEMS.items():
        own = found[facts.recipe]
        assert own["train"]["total_steps"] == facts.updates, name
        heard = own["build_batch_sampler"]["train"]["batch_size"] // (2 if name == "ASR" else 1)
        assert heard * own["train"]["gradient_accumulate"] == facts.batch, name
        missing = {key for key, value in own["prepare_data"].items() if value == "???"}
        assert missing == set(facts.data), name
        assert set(facts.metrics) <= set(METRICS)


EXAMPLES = {
    "PR": {"dataset_root": "/data/LibriSpeech"},
    "ASR": {"dataset_root": "/data/LibriSpeech"},
    "KS": {"gsc1": "/data/commands", "gsc1_test": "/data/commands-test"},
    "SID": {"dataset_root": "/data/VoxCeleb1"},
    "ER": {"iemocap": "/data/IEMOCAP", "test_fold": 0},
    "IC": {"dataset_root": "/data/fluent"},
    "SF": {"dataset_root": "/data/audio_snips"},
    "SD": {"data_dir": "/data/LibriMix"},
    "ASV": {"dataset_root": "/data/VoxCeleb1"},
}


def superb_study(study):
    """Return a study of all of SUPERB's tasks that s3prl has, on their own corpora."""
    study["tasks"] = {
        f"superb_{name.lower()}": {"kind": "superb", "problem": name, "data": dict(data)}
        for name, data in EXAMPLES.items()
    }
    study["tasks"]["superb_asv"]["learning_rates"] = [1e-4]
    study["tasks"]["language"] = {"kind": "superb", "problem": "SID", "label": "language"}
    study["tasks"]["language"]["corpora"] = ["prompts"]
    study["teachers"]["tiny"].pop("finetuned")
    study["recipes"].pop("distilled")
    study["grid"] = [{"ratios": [0.5], "seeds": [1]}]
    return study


@pytest.mark.slow
def test_all_tasks_are_planned(study, tmp_path, snakemake):
    study["teachers"]["tiny"]["path"] = str(TINY)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(superb_study(study)))
    command = called_in(tmp_path, 1)
    done = snakemake(ROOT, *command, "--dry-run", "--quiet", "rules", "all")
    snakemake(ROOT, *command, "plan")
    jobs = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) == 2)
    assert jobs["superb"] == "20" and jobs["prepare_superb"] == "1" and "finetune" not in jobs


def test_mistakes_in_tasks_are_named(study):
    study = superb_study(study)
    tasks = study["tasks"]
    tasks["superb_pr"] |= {"problem": "QbE"}
    tasks["superb_asr"] |= {"metric": "per", "teacher": {"steps": 1}}
    tasks["superb_ks"]["data"].pop("gsc1_test")
    tasks["superb_sid"]["corpora"] = ["prompts"]
    tasks["superb_ic"] = {"kind": "superb", "problem": "IC", "corpora": ["prompts"]}
    tasks["superb_asv"].pop("learning_rates")
    tasks["superb_er"]["problem"] = "EE"
    tasks["superb_sd"]["train_hours"] = 1.0
    tasks["plain"] = {"corpora": ["prompts"], "metric": "per", "label": "speaker"}
    with pytest.raises(config.ConfigError) as error:
        config.resolve(study)
    said = str(error.value)
    for line in (
        "tasks.superb_pr.problem: s3prl has no recipe for QbE",
        "tasks.superb_asr.metric: unknown metric 'per'",
        "tasks.superb_asr.teacher: s3prl trains the tasks of SUPERB",
        "tasks.superb_ks.data: the key 'gsc1_test' is missing",
        "tasks.superb_sid: either 'corpora' or 'data'",
        "tasks.superb_ic.corpora: IC needs its own corpus",
        "tasks.superb_asv.learning_rates: ASV has no validation split",
        "tasks.superb_er.problem: unknown problem 'EE'",
        "tasks.superb_sd.train_hours: s3prl reads all of a task's own corpus",
        "tasks.plain.label: only a task of kind 'classification' or 'superb' has it",
        "tasks.plain: the key 'teacher' is missing",
    ):
        assert line in said, line


def test_defaults_of_a_task(study):
    tasks = config.resolve(superb_study(study))["tasks"]
    assert tasks["superb_pr"]["metric"] == "per" and tasks["superb_pr"]["protocol"] == "probe"
    assert tasks["superb_sid"]["learning_rates"] == [10.0**-n for n in range(1, 8)]
    assert study_figures.comparable({"tasks": tasks, "corpora": {}}, "superb_pr")
    assert not study_figures.comparable({"tasks": tasks, "corpora": study["corpora"]}, "language")
