"""Publish a run: `hyperfit push`, and what --push_to_hub of the training script calls."""

from collections.abc import Callable
from pathlib import Path

from ..errors import HyperfitError
from . import card
from .publishing import publish
from .staging import Push, stage
from .upload import Destination, require_access


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

    def fill(folder: Path) -> None:
        stage(push, folder, link=dry_run is None, say=say)
        if push.include_index and dry_run is None:
            say("The citation index holds the training passages as token ids; --no-index leaves it out.")

    return publish(fill, destination, dry_run, say)


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
