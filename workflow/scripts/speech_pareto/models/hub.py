"""Models of the Hugging Face hub: one commit, in the cache that all programs share, checked.

What `huggingface_hub` reads from the environment holds: HF_ENDPOINT (a mirror), HF_HOME (where the
cache is), HF_TOKEN, HF_HUB_OFFLINE. It goes on with a broken connection, but it compares sizes
alone: so every file is compared here with its digest before anyone reads it.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from speech_pareto.models.model_folder import (
    CONFIG,
    INDEX,
    PICKLE,
    PREPROCESSOR,
    PROCESSOR,
    WEIGHTS,
)
from speech_pareto.runtime.hashing import sha256

TEXTS = (CONFIG, PREPROCESSOR, PROCESSOR)
SAFETENSORS = (WEIGHTS, f"{WEIGHTS}{INDEX}", "model-*.safetensors")
PICKLES = (PICKLE, f"{PICKLE}{INDEX}", "pytorch_model-*.bin")
log = logging.getLogger(__name__)


def fetch(model: str, revision: str, digests: Mapping[str, str] | None = None) -> Path:
    """Return the folder with config and weights of `model` at the commit `revision`.

    Weights are the files that `digests` (SHA-256 by name) names, else safetensors, else a pickle.
    A file is compared with its digest there, or with the one by which the hub names it. Raises
    RuntimeError with one plain sentence for whatever hinders; a damaged file is removed.
    """
    digests = dict(digests or {})
    named = [name for name in digests if name not in TEXTS]
    folder = _download(model, revision, [*TEXTS, *(named or SAFETENSORS)])
    if not named and not any(folder.glob("*.safetensors")):
        folder = _download(model, revision, [*TEXTS, *PICKLES])
    files = sorted(path for path in folder.iterdir() if path.is_file())
    missing = {CONFIG, *digests} - {path.name for path in files}
    if not any(path.suffix in (".safetensors", ".bin") for path in files):
        missing.add(f"{WEIGHTS} or {PICKLE}")
    if missing:
        raise RuntimeError(f"{model} has no {', '.join(sorted(missing))} at revision {revision}")
    for path in files:
        _check(path, model, digests.get(path.name))
    return folder


def _download(model: str, revision: str, names: list[str]) -> Path:
    """Return the folder of a commit with the files of these names (patterns) that it has."""
    from huggingface_hub import constants, errors, snapshot_download

    at = f"{model}, revision {revision}"
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=names))
    except errors.GatedRepoError:
        reason = (
            f"{model} is gated: accept its terms on its page of the hub, log in with `hf auth "
            "login` (or set HF_TOKEN), and run again"
        )
    except errors.RevisionNotFoundError:
        reason = f"{model} has no revision {revision} on the hub"
    except errors.RepositoryNotFoundError:
        reason = f"the hub has no model {model}, or it is private and HF_TOKEN does not open it"
    except errors.LocalEntryNotFoundError:
        reason = (
            f"{at}: the hub cannot be reached, and the cache {constants.HF_HUB_CACHE} does not "
            "hold it whole; run `snakemake teachers` where there is internet"
        )
    except (errors.HTTPError, OSError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        reason = f"{at}: {said}; run again to try once more"
    raise RuntimeError(reason)


def _check(path: Path, model: str, pinned: str | None) -> None:
    """Compare a file with its pinned SHA-256, or else with what the hub says of it.

    In the cache a file is a link to a blob whose name is the hub's: SHA-256 of a large file, git's
    SHA-1 of a small one.
    """
    blob = Path(os.readlink(path)) if path.is_symlink() else None
    wanted = pinned or (blob.name if blob else None)
    if wanted is None or len(wanted) not in (40, 64):
        raise RuntimeError(
            f"{model}: nothing tells the digest of {path.name}; state it in the config, as "
            f"`sha256: {{{path.name}: ...}}`"
        )
    found = sha256(path) if len(wanted) == 64 else _git_sha1(path)
    if found != wanted:
        path.resolve().unlink()
        path.unlink()
        raise RuntimeError(
            f"{model}: the digest of {path.name} is {found}, not {wanted}; it was removed from the "
            "cache, run again to download it anew"
        )
    log.info("%s: %s has the digest %s%s", model, path.name, found, " (pinned)" if pinned else "")


def _git_sha1(path: Path) -> str:
    """Return the name that git gives to a file's content."""
    data = path.read_bytes()
    header = f"blob {len(data)}\0".encode()
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()
