"""SUPERB through s3prl itself: what it hears of a student, PR and SID trained for real, scores."""

import csv
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import compress
import prepare_superb
import superb
from conftest import ROOT
from speech_pareto import config, published, result
from speech_pareto import superb as scores
from speech_pareto.corpus import read, samples_file, write
from speech_pareto.model import load
from speech_pareto.states import states
from speech_pareto.tasks.superb import METRICS, PROBLEMS
from speech_pareto.training import collate

TINY = ROOT / "resources" / "teachers" / "tiny"
STUDENTS = {"ffn-pruning": "ffn_pruning", "low-rank": "low_rank"}
KINDS = ("digits", "letters", "phonetic")  # folders of the prompts, for labels
FEATURES = """
import sys
import numpy as np, torch
from s3prl.nn import S3PRLUpstream
from speech_pareto.upstream import register
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
np.savez(f"{folder}/features.npz", **found)
"""
DEFAULTS = """
import json, s3prl.problem
print(json.dumps({name: getattr(s3prl.problem, name)().default_config() for name in RECIPES}))
"""
TRAIN = """
import json, sys, torch
from pathlib import Path
import superb
torch.set_num_threads(1)
for job in json.loads(Path(sys.argv[1]).read_text()):
    superb.main(**job)
"""


@pytest.fixture(scope="session")
def s3prl():
    """Return a function that runs code in the environment with s3prl and returns its output."""
    try:
        python = superb.interpreter()
    except RuntimeError as error:
        pytest.skip(str(error))

    def run(code, *arguments):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow" / "scripts")}
        command = [python, "-W", "ignore", "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert not done.returncode, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def words(prompts_en, tmp_path_factory):
    """Return a folder of short real prompts, labelled by what they are: digits, letters, ..."""
    folder = tmp_path_factory.mktemp("corpora") / "words"
    folder.mkdir()
    chosen = [u for u in read(prompts_en) if u.seconds < 2.5 and u.id.split("/")[1] in KINDS]
    offset = 0
    with samples_file(folder / "audio.npy") as append:
        for utterance in chosen:
            first = utterance.offset
            append(utterance.audio[first : first + utterance.samples])
            utterance.label, utterance.offset = utterance.id.split("/")[1], offset
            offset += utterance.samples
    write(folder, chosen)
    (folder / "README.md").write_text("Licence: none\n")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folders of the tiny teacher and two students of different shape."""
    folder = tmp_path_factory.mktemp("models")
    for name, method in STUDENTS.items():
        compress.main(TINY, [{method: {}}], 0.5, 1, folder / name)
    return {"identity": TINY} | {name: folder / name for name in STUDENTS}
