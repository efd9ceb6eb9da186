"""What is shipped: whole, small, and what the documents say of it."""

import hashlib

from conftest import ROOT
from speech_pareto.model import load

RESOURCES = ROOT / "resources"


def test_shipped_weights_are_those_of_the_checksums():
    listed = dict(
        reversed(line.split()) for line in (RESOURCES / "SHA256SUMS").read_text().splitlines()
    )
    found = {p.relative_to(RESOURCES).as_posix(): p for p in RESOURCES.rglob("*.safetensors")}
    assert set(listed) == set(found) != set()
    for name, path in found.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name
        assert path.stat().st_size <= 8 * 2**20, name


def test_shipped_teachers_load_and_have_cards():
    for folder in sorted((RESOURCES / "teachers").iterdir()):
        assert sum(p.numel() for p in load(folder).parameters()) == 2_995_808
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "CC-BY-SA 3.0" in card and "GPL-2" in card, folder
