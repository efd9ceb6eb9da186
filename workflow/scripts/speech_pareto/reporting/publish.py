"""A student's folder goes to the hub: what would be sent, what hinders it, and the sending."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from speech_pareto.models.model_folder import WEIGHTS
from speech_pareto.runtime.formatting import short_bytes

CARD = "README.md"
NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
MODELS = (WEIGHTS, "*.onnx")  # a folder has one of these at least
HIDDEN = (".*", "*.tmp")


@dataclass
class Push:
    """The files of a folder by name, with their bytes, where they go, and what hinders it."""

    folder: Path
    to: str
    files: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of this in lines."""
        size = short_bytes(sum(self.files.values()))
        lines = [f"{self.folder} to {self.to}: {len(self.files)} files, {size}"]
        lines += [f"  {name}  {short_bytes(own)}" for name, own in self.files.items()]
        return "\n".join([*lines, *(f"  problem: {said}" for said in self.problems)])


def prepare(folder: Path, to: str, licence: str | None = None) -> Push:
    """Return what would be sent of a folder to the model `to`, which is `owner/name`.

    A `licence` is written into the folder's card, in the place of any that it has.
    """
    from huggingface_hub import ModelCard

    push = Push(folder, to)
    if not NAME.fullmatch(to):
        push.problems.append(f"{to!r} is not owner/name")
    if not folder.is_dir():
        push.problems.append(f"{folder} is no folder")
        return push
    own = sorted(path for path in folder.iterdir() if path.is_file())
    shown = [path for path in own if not any(path.match(pattern) for pattern in HIDDEN)]
    if not any(path.match(pattern) for path in shown for pattern in MODELS):
        push.problems.append(f"no model is in it: {' or '.join(MODELS)}")
    if (folder / CARD) in shown:
        card = ModelCard.load(folder / CARD, ignore_metadata_errors=True)
        if licence:
            card.data.license = licence
            card.save(folder / CARD)
        if not card.data.license:
            push.problems.append(
                "its card names no licence; give one that those of teacher and recordings allow: "
                "--licence cc-by-sa-3.0"
            )
    else:
        push.problems.append(f"no model card is in it: {CARD}, which `snakemake deploy` writes")
    push.files = {path.name: path.stat().st_size for path in shown}
    return push


def send(push: Push, private: bool) -> str:
    """Make the model on the hub if it is not there, commit all files to it; return the address.

    ValueError, in one sentence, for what the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(push.to, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=push.to,
            folder_path=push.folder,
            allow_patterns=list(push.files),
            commit_message=f"Add {push.folder.resolve().name}",
        )
    except (HfHubHTTPError, OSError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{push.to}: {said} (what may write is a token: `hf auth login`, or HF_TOKEN)"
        ) from None
    return done.commit_url
