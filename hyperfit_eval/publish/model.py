"""Publish a run: `hyperfit push`, and what --push_to_hub of the training script calls."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import HyperfitError
from . import card
from .staging import Push, describe, stage
from .upload import Destination, require_access, upload


def push_model(
    push: Push, destination: Destination, dry_run: Path | None = None, say: Callable[[str], None] = print
) -> str | None:
    """Prepare and check a run's repository, then upload it; returns its address.

    Args:
        push: what is published.
        destination: where it goes.
        dry_run: write it to this folder, which must be empty or not there, and upload nothing.
        say: prints a line.
    Raises:
        HyperfitError: whatever `stage` and `upload` refuse; nothing is uploaded before all of it is ready.
    """
    if dry_run is not None:
        write_folder(dry_run, lambda folder: stage(push, folder))
        _describe(dry_run, say)
        say(f"Written to {dry_run}; nothing was uploaded.")
        return None
    require_access(destination)
    with tempfile.TemporaryDirectory(prefix="hyperfit-push-") as name:
        folder = Path(name)
        stage(push, folder, link=True)
        _describe(folder, say)
        if push.include_index:
            say("The citation index holds the training passages as token ids; --no-index leaves it out.")
        address = upload(folder, destination, say)
    say(f"Published: {address}")
    return address


def write_folder(folder: Path, fill: Callable[[Path], Any]) -> None:
    """Let `fill` write into a folder that takes its name only when all of it is there.

    Raises:
        HyperfitError: the folder is a file, holds something, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HyperfitError(f"--dry-run {folder}: not an empty folder; give another")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
            whole = Path(name) / folder.name
            whole.mkdir()
            fill(whole)
            if folder.exists():
                folder.rmdir()
            whole.rename(folder)
    except OSError as error:
        raise HyperfitError(f"--dry-run {folder}: cannot be written ({error.strerror or error})") from error


def _describe(folder: Path, say: Callable[[str], None]) -> None:
    for line in describe(folder):
        say(line)


def require_pushable(model: str, repo: str | None, private: bool, revision: str | None) -> None:
    """Raise before training where --push_to_hub could not publish what comes of it.

    Args:
        model: the base model, folder or Hub id.
        repo: --hub_model_id.
        private: --hub_private_repo.
        revision: --hub_revision.
    Raises:
        HyperfitError: no repository named, no token, offline, or a base model whose card cannot be named or read.
    """
    if repo is None:
        raise HyperfitError("--push_to_hub: say where to; add --hub_model_id USER/NAME")
    require_access(Destination(repo, private, revision))
    try:
        card.base_of(model, None, None)
    except HyperfitError as error:
        raise HyperfitError(
            f"--push_to_hub: {str(error).partition(';')[0]}; train without it, then give `hyperfit push` what is "
            "missing"
        ) from error


def push_trained(run: Path, repo: str, private: bool, revision: str | None, say: Callable[[str], None] = print) -> None:
    """Publish a run that has just ended, as `hyperfit push RUN --repo REPO` would."""
    push_model(Push(run, repo), Destination(repo, private, revision), say=say)
