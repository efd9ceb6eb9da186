"""What is shipped: whole, small, and what the documents say of it."""

import hashlib

from helpers.checkout import ROOT
from speech_pareto.models.backbone import load
from speech_pareto.reporting.tables import published_scores

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


def test_published_figures_say_where_they_were_read():
    rows = published_scores.read(RESOURCES / "published.csv")
    kinds = {"table", "leaderboard", "abstract", "readme", "digitised", "counted", "issue"}
    assert set(rows["provenance"]) == kinds
    assert (rows["source"] != "").all() and (rows["value"] != "").all()
    assert not rows["source"].str.contains("SECONDARY").any()
    marked = rows["source"].str.contains("DIGITISED|READ OFF")
    assert (marked == (rows["provenance"] == "digitised")).all()
    assert (rows["source"].str.contains("ANALYTIC") == (rows["provenance"] == "counted")).all()
    per = rows[(rows["metric"] == "PER_%") & rows["recipe"].ne("")]
    assert len(per) > 60 and per["value"].astype(float).between(2, 50).all()
