"""The citation blocker as a `custom_generate` repository of its own."""

from collections.abc import Callable
from pathlib import Path

import jinja2

from .. import __version__, blocking
from ..files import write_text
from .card import check
from .publishing import publish
from .staging import CARD
from .upload import Destination

CODE = Path(blocking.__file__).parent / "custom_generate" / "generate.py"


def push_blocker(
    destination: Destination, dry_run: Path | None = None, say: Callable[[str], None] = print
) -> str | None:
    """Publish the blocker, so that checkpoints need no code of their own; returns its address.

    Args:
        dry_run: write the repository to this folder, which must be empty or not there, and upload nothing.
    Raises:
        HyperfitError: as `model.push_model`.
    """
    return publish(lambda folder: _stage(destination.repo, folder), destination, dry_run, say)


def _stage(repo: str, folder: Path) -> None:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hyperfit_eval.publish"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    text = environment.get_template("blocker_card.md.j2").render(repo=repo, name=repo.rpartition("/")[2])
    write_text(folder / CARD, text)
    write_text(folder / "custom_generate" / CODE.name, CODE.read_text(encoding="utf-8"))
    # transformers compares these with what is installed, and names what is missing.
    write_text(folder / "custom_generate" / "requirements.txt", f"hyperfit-eval>={__version__}\n")
    check(folder / CARD)
