"""Downloads: resumed, verified, and the same corpus whichever way they come."""

import contextlib
import socket
import subprocess
import tarfile
import threading
import time

import pytest

import fetch_corpus
import prepare_corpus
from helpers.loopback import serve
from speech_pareto.data.corpora import prompts
from speech_pareto.data.download import download, unpack
from speech_pareto.runtime.hashing import sha256


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


def test_a_download_that_was_whole_needs_no_server(tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"all of it")
    digest = sha256(tmp_path / "a.bin.part")
    assert download("http://127.0.0.1:9/a.bin", digest, tmp_path / "a.bin").read_bytes()


def test_a_part_that_is_longer_than_the_file_is_fetched_anew(server, tmp_path):
    url, folder, _ = server
    (folder / "a.bin").write_bytes(b"what was promised")
    (tmp_path / "a.bin.part").write_bytes(b"something else, and more of it")  # the server says 416
    digest = sha256(folder / "a.bin")
    assert download(f"{url}/a.bin", digest, tmp_path / "a.bin").read_bytes() == b"what was promised"


def test_a_part_of_another_file_is_refused_once(server, tmp_path):
    url, folder, _ = server
    (folder / "a.bin").write_bytes(b"what was promised")
    (tmp_path / "a.bin.part").write_bytes(b"other")
    digest = sha256(folder / "a.bin")
    with pytest.raises(RuntimeError, match="SHA-256 is not"):
        download(f"{url}/a.bin", digest, tmp_path / "a.bin")
    assert download(f"{url}/a.bin", digest, tmp_path / "a.bin").read_bytes() == b"what was promised"


@pytest.fixture
def raw():
    """Return a function that serves one answer, byte by byte if `wait` is set; yields its URL."""
    with contextlib.ExitStack() as stack:

        def answer(data, wait=0.0):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve_once():
                with contextlib.suppress(OSError):
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(4096)
                        for i in range(0, len(data), 1 if wait else len(data) or 1):
                            connection.sendall(data[i:][: 1 if wait else len(data)])
                            time.sleep(wait)

            threading.Thread(target=serve_once, daemon=True).start()
            return f"http://127.0.0.1:{listening.getsockname()[1]}/a.bin"

        yield answer


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"this is no HTTP\r\n\r\n", "this is no HTTP"),
        (OK + b"Content-Length: abc\r\n\r\nx", "SHA-256 is not"),
        (OK + b"Content-Length: 10\r\n\r\nx", "the connection ended early"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx", "run again"),
        (OK + b"X: " + b"y" * 70_000 + b"\r\n\r\n", "more than 65536 bytes"),
        (OK + b"Content-Length: 99999999999999\r\n\r\nx", "99,999,999,999,999 bytes"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "the server answered 503 Busy"),
        (b"", "run again"),
    ],
)
def test_whatever_a_server_says_the_message_names_the_address(raw, data, said, tmp_path):
    url = raw(data)
    with pytest.raises(RuntimeError) as caught:
        download(url, "0" * 64, tmp_path / "a.bin")
    assert str(caught.value).startswith(url) and said in str(caught.value)
    assert not (tmp_path / "a.bin").exists()


def test_an_address_that_is_none_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"nowhere/a\.bin: "):
        download("nowhere/a.bin", "0" * 64, tmp_path / "a.bin")


def test_a_server_that_drips_is_given_up(raw, tmp_path, monkeypatch):
    monkeypatch.setattr("speech_pareto.data.download.PATIENCE", 1)
    url = raw(OK + b"\r\n" + b"x" * 10_000, wait=0.01)
    with pytest.raises(RuntimeError, match="bytes a second for 1 s; run again"):
        download(url, "0" * 64, tmp_path / "a.bin")


def test_a_server_that_never_ends_is_given_up(raw, tmp_path, monkeypatch):
    monkeypatch.setattr("speech_pareto.data.download.LIMIT", 1_000)
    with pytest.raises(RuntimeError, match="goes on after 1,000 bytes"):
        download(raw(OK + b"\r\n" + b"x" * 100_000), "0" * 64, tmp_path / "a.bin")


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


@pytest.mark.slow
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
