"""Fetch files: Debian packages through apt's signatures, tarballs by their digests."""

import hashlib
import logging
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

log = logging.getLogger(__name__)


ALGORITHMS = {32: "md5", 64: "sha256"}  # by the digits of a digest


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 in hex."""
    return digest_of(path, "sha256")


def digest_of(path: str | Path, algorithm: str) -> str:
    """Return a file's digest in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def download(url: str, digest: str, path: Path) -> Path:
    """Fetch `url` to `path`, continuing an interrupted try; refuse all but what has the `digest`.

    That is a SHA-256, or an MD5 where its publisher states nothing better.
    Raises RuntimeError with one plain sentence if the server fails or the content is another.
    """
    algorithm = ALGORITHMS[len(digest)]
    if path.is_file() and digest_of(path, algorithm) == digest:
        return path
    part = path.with_name(path.name + ".part")
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            resumed = response.status == 206
            done = done if resumed else 0
            total = done + int(response.headers.get("Content-Length", 0)) or None
            with (
                part.open("ab" if resumed else "wb") as file,
                tqdm(desc=path.name, initial=done, total=total, unit="B", unit_scale=True) as bar,
            ):
                while block := response.read(1 << 20):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is already whole
            raise RuntimeError(f"{url}: the server answered {error.code} {error.reason}") from None
    except OSError as error:
        raise RuntimeError(f"{url}: {error}; run again to continue the download") from None
    if total and part.stat().st_size < total:
        raise RuntimeError(f"{url}: the connection ended early; run again to continue the download")
    if digest_of(part, algorithm) != digest:
        part.unlink()
        name = {"md5": "MD5", "sha256": "SHA-256"}[algorithm]
        raise RuntimeError(f"{url}: {name} is not {digest}; the file was deleted")
    return part.replace(path)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tarball below `folder`; CalledProcessError if a member would leave it.

    By tar, which refuses such members: Python's own does so from 3.11.4 on, Debian 12 has 3.11.2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["tar", "--no-same-owner", "-xf", archive.resolve(), "-C", folder]
    subprocess.run(command, check=True)


def from_apt(packages: list[str], folder: Path) -> bool:
    """Download and unpack Debian packages below `folder` without root; False if apt has them not.

    apt checks every package against the distribution's signatures.  Its lists live in `folder`,
    so neither the system's package state nor a lock is touched.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    state = (folder / "apt").resolve()
    for sub in ("lists/partial", "cache/archives/partial"):
        (state / sub).mkdir(parents=True, exist_ok=True)
    apt = [
        "apt-get",
        "-qq",
        "-o",
        f"Dir::State::lists={state}/lists",
        "-o",
        f"Dir::Cache={state}/cache",
    ]
    apt += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]  # "": no switch to user _apt
    for command in (["update"], ["download", *packages]):
        run = subprocess.run([*apt, *command], cwd=state, capture_output=True, text=True)
        if run.returncode != 0:
            log.warning("apt-get %s failed: %s", command[0], run.stderr.strip()[-300:])
            return False
    for archive in tqdm(sorted(state.glob("*.deb")), desc="unpack", unit="package"):
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    shutil.rmtree(state)
    return True
