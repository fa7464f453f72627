"""What all pushes share: a folder is filled and shown, and becomes one commit or stays here."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import HyperfitError
from .staging import describe
from .upload import Destination, require_access, require_name, upload


def publish(
    fill: Callable[[Path], Any], destination: Destination, dry_run: Path | None, say: Callable[[str], None]
) -> str | None:
    """Upload what `fill` writes into an empty folder, or leave it at `dry_run`; returns its address on the Hub.

    Args:
        destination: where it goes.
        dry_run: a folder, which must be empty or not there; then nothing is uploaded.
        say: prints a line.
    Raises:
        HyperfitError: whatever `fill` and `upload` refuse; nothing is uploaded before all of it is ready.
    """
    require_name(destination)
    if dry_run is not None:
        _write_folder(dry_run, fill)
        _show(dry_run, say)
        say(f"Written to {dry_run}; nothing was uploaded.")
        return None
    require_access(destination)
    with tempfile.TemporaryDirectory(prefix="hyperfit-push-") as name:
        folder = Path(name)
        fill(folder)
        _show(folder, say)
        address = upload(folder, destination, say)
    say(f"Published: {address}")
    return address


def _show(folder: Path, say: Callable[[str], None]) -> None:
    for line in describe(folder):
        say(line)


def _write_folder(folder: Path, fill: Callable[[Path], Any]) -> None:
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
