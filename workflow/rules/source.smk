"""Where all other rules and the library lie: beside this file, or unpacked from its repository.

A workflow that uses this one by `github(...)`, or by `git+file://...@v1`, gets single files, when
Snakemake asks for them. Scripts need the library beside them, so everything is taken from that
repository at once, for each commit a folder below .snakemake.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from snakemake.sourcecache import LocalSourceFile


def unpacked(source):
    """Return the folder that holds all files of a repository as they are at a source file's commit."""
    clone = getattr(source, "repo_path", None) or source.hosted_repo.repo_clone
    git = ["git", "-C", str(clone)]
    named = [*git, "rev-parse", f"{source.ref}^0"]  # the commit that a tag names
    commit = subprocess.check_output(named, text=True).strip()
    folder = Path(".snakemake/speech-pareto", commit).resolve()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            archive = subprocess.check_output(
                [*git, "archive", "--prefix=whole/", commit]
            )
            subprocess.run(["tar", "-x", "-C", scratch], input=archive, check=True)
            os.replace(Path(scratch, "whole"), folder)
    return folder


if isinstance(workflow.current_basedir, LocalSourceFile):
    RULES = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve()
else:
    RULES = unpacked(workflow.current_basedir) / "workflow" / "rules"
SCRIPTS = RULES.with_name("scripts")
# first: a copy of the package that pip installed must not win
sys.path.insert(0, str(SCRIPTS))
