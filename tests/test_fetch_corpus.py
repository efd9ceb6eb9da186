"""Downloads: resumed, verified, and the same corpus whichever way they come."""

import subprocess
import tarfile

import pytest

import fetch_corpus
import prepare_corpus
from loopback import serve
from speech_pareto.corpora import prompts
from speech_pareto.download import download, sha256, unpack


@pytest.fixture
def server(tmp_path):
    """A server on loopback for the folder `served`; yields (url, folder, the server)."""
    with serve(tmp_path / "served") as running:
        yield running.url, running.folder, running


def test_an_interrupted_download_continues(server, tmp_path):
    url, folder, running = server
    (folder / "a.bin").write_bytes(bytes(range(256)) * 8000)
    digest = sha256(folder / "a.bin")
    running.limits["/a.bin"] = 1_500_000
    with pytest.raises(RuntimeError, match="run again to continue"):
        download(f"{url}/a.bin", digest, tmp_path / "a.bin")
    assert (
        download(f"{url}/a.bin", digest, tmp_path / "a.bin").read_bytes()
        == (folder / "a.bin").read_bytes()
    )
    assert running.starts[0] == 0 and running.starts[1] > 0
    assert not (tmp_path / "a.bin.part").exists()


def test_other_content_is_refused_and_removed(server, tmp_path):
    url, folder, _ = server
    (folder / "a.bin").write_bytes(b"not what was promised")
    with pytest.raises(RuntimeError, match="SHA-256 is not"):
        download(f"{url}/a.bin", "0" * 64, tmp_path / "a.bin")
    assert list(tmp_path.glob("a.bin*")) == []


def test_a_missing_file_is_one_plain_sentence(server, tmp_path):
    with pytest.raises(RuntimeError, match="gone.bin"):
        download(f"{server[0]}/gone.bin", "0" * 64, tmp_path / "a.bin")


@pytest.mark.parametrize("name", ["../outside", "inside/../../outside", "link/outside"])
def test_no_tarball_writes_elsewhere(name, tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, ".."
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(subprocess.CalledProcessError):
        unpack(tmp_path / "a.tar.gz", tmp_path / "folder")
    assert not (tmp_path / "outside").exists()


def test_tarballs_give_the_digest_that_packages_give(server, tmp_path, prompts_en, monkeypatch):
    """The pinned digest is checked by prepare_corpus: it must hold for upstream's layout, too."""
    url, folder, _ = server
    downloads = prompts_en.parent / "downloads"
    name = "asterisk-core-sounds-en-g722-1.6.1.tar.gz"
    voice = next(path for path in downloads.rglob("en_US_f_Allison") if path.is_dir())
    with tarfile.open(folder / name, "w:gz") as archive:  # upstream: everything at the top
        for path in sorted(voice.rglob("*.g722")):
            archive.add(path, path.relative_to(voice))
        (tmp_path / "text").write_text("\n".join(f"{k}: {v}" for k, v in _texts(downloads).items()))
        archive.add(tmp_path / "text", "core-sounds-en.txt")
    monkeypatch.setitem(prompts.TARBALLS, "en", sha256(folder / name))
    settings = {"source": "prompts", "languages": ["en"], "mirror": url}
    fetch_corpus.main("prompts", settings, tmp_path / "downloads")
    prepare_corpus.main("prompts", settings, tmp_path / "downloads", tmp_path / "prompts")
    assert (tmp_path / "prompts/manifest.tsv").read_bytes() == (
        prompts_en / "manifest.tsv"
    ).read_bytes()
    assert (tmp_path / "prompts/audio.npy").read_bytes() == (prompts_en / "audio.npy").read_bytes()


def _texts(downloads):
    """Return the transcripts of the packages."""
    return prompts._transcripts(next(downloads.rglob("core-sounds-en.txt*")))
