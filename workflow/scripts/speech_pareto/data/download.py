"""Fetch files: Debian packages through apt's signatures, tarballs by their digests.

Why not pooch: it begins a broken download from the start, and LibriSpeech's archives have up to
30 GB. huggingface_hub's downloader continues, but only what is on its hub; `hub.py` uses it.
"""

import http.client
import logging
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from speech_pareto.runtime.hashing import digest_of

log = logging.getLogger(__name__)

ALGORITHMS = {32: "md5", 64: "sha256"}  # by the digits of a digest
NAMES = {"md5": "MD5", "sha256": "SHA-256"}
LIMIT = 100 << 30  # bytes of a file; the largest archive has 30 GB
PATIENCE = 60  # seconds that a server may be silent, or slow
SLOWEST = 1000  # bytes per second


def download(url: str, digest: str, path: Path) -> Path:
    """Fetch `url` to `path`, continuing an interrupted try; refuse all but what has the `digest`.

    That is a SHA-256, or an MD5 where its publisher states nothing better.
    Raises RuntimeError with one plain sentence, which names the URL, if the server fails, stalls or
    sends more than `LIMIT` or than the disk holds, or if the content is another.
    """
    algorithm = ALGORITHMS[len(digest)]
    if path.is_file() and digest_of(path, algorithm) == digest:
        return path
    part = path.with_name(path.name + ".part")
    try:
        if not (part.is_file() and digest_of(part, algorithm) == digest):  # else it is all there
            _fetch(url, part)
            found = digest_of(part, algorithm)
            if found != digest:
                part.unlink()
                said = f"{url}: {NAMES[algorithm]} is not {digest}, but {found}"
                raise RuntimeError(f"{said}; the file was deleted")
        return part.replace(path)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url}: the server answered {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise RuntimeError(f"{url}: {said}; run again to continue the download") from None


def _fetch(url: str, part: Path) -> None:
    """Append to `part` what it lacks of `url`, or fetch it whole if the server cannot go on."""
    from tqdm import tqdm  # planning reads this module, and may have no tqdm

    done = part.stat().st_size if part.is_file() else 0
    try:
        answer = _ask(url, done)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        done, answer = 0, _ask(url, 0)  # what is there is longer than the file, so it is no part
    with answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(
            f"bytes {done}-"
        ):
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        most = min(LIMIT, done + shutil.disk_usage(part.parent).free)
        if total and total > most:
            raise OSError(f"it has {total:,} bytes, and there is room for {most:,}")
        with (
            part.open("ab" if done else "wb") as file,
            tqdm(desc=part.stem, initial=done, total=total, unit="B", unit_scale=True) as bar,
        ):
            began, since = time.monotonic(), done
            while block := answer.read1(1 << 20):
                file.write(block)
                bar.update(len(block))
                done += len(block)
                if done > most:
                    raise OSError(f"it goes on after {most:,} bytes")
                if time.monotonic() - began > PATIENCE:
                    if done - since < SLOWEST * PATIENCE:
                        raise OSError(f"fewer than {SLOWEST} bytes a second for {PATIENCE} s")
                    began, since = time.monotonic(), done
    if total and done < total:
        raise OSError("the connection ended early")


def _ask(url: str, start: int) -> http.client.HTTPResponse:
    """Return the server's answer, from the byte `start` on if it can."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    return urllib.request.urlopen(request, timeout=PATIENCE)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tarball below `folder`; CalledProcessError if a member would leave it.

    By tar, which refuses such members: Python's own does so from 3.11.4 on, Debian 12 has 3.11.2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["tar", "--no-same-owner", "-xf", str(archive.resolve()), "-C", str(folder)]
    subprocess.run(command, check=True)


def from_apt(packages: list[str], folder: Path) -> bool:
    """Download and unpack Debian packages below `folder` without root; False if apt lacks one.

    apt checks every package against the distribution's signatures.  Its lists live in `folder`,
    so neither the system's package state nor a lock is touched.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    state = (folder / "apt").resolve()
    for sub in ("lists/partial", "cache/archives/partial"):
        (state / sub).mkdir(parents=True, exist_ok=True)
    options = [f"Dir::State::lists={state}/lists", f"Dir::Cache={state}/cache"]
    options += ["Debug::NoLocking=1", "APT::Sandbox::User="]  # "": no switch to user _apt
    apt = ["apt-get", "-qq", *(f"--option={option}" for option in options)]
    for command in (["update"], ["download", *packages]):
        run = subprocess.run([*apt, *command], cwd=state, capture_output=True, text=True)
        if run.returncode != 0:
            log.warning("apt-get %s failed: %s", command[0], run.stderr.strip()[-300:])
            return False
    from tqdm import tqdm

    for archive in tqdm(sorted(state.glob("*.deb")), desc="unpack", unit="package"):
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    shutil.rmtree(state)
    return True
