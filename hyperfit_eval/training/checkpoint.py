"""Checkpoints that are whole or not there: written aside, flushed, listed, renamed.

A process can be killed between any two bytes. So a checkpoint gets its name, `checkpoint-STEP`, only once
everything in it is on disk; `checkpoint.json`, its list of files and their sizes, shows later damage.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .. import files
from ..errors import HyperfitError

KIND = "checkpoint"
VERSION = 1

LIST = "checkpoint.json"
UNFINISHED = ".unfinished"
"""Folders that are being written; removed when the next run enters the folder."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"checkpoint-{step}"


@contextmanager
def written_aside(folder: Path, what: str) -> Iterator[Path]:
    """Yield a folder to write into; a write that fails becomes one line, and nothing of it stays.

    Raises:
        HyperfitError: the disk is full or the folder cannot be written; says what remains to go on from.
    """
    aside = folder / UNFINISHED
    try:
        aside.mkdir(exist_ok=True)
        yield aside
    # torch.save and safetensors do not raise OSError when a disk is full.
    except (OSError, RuntimeError, SafetensorError, HyperfitError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise HyperfitError(
            f"{folder}: {what} cannot be written ({_reason(error, folder)}); {_left(folder)}"
        ) from error


def flush(folder: Path) -> None:
    """Have every file below `folder` on disk, as readable as any new file.

    A rename may otherwise outlive a power cut that its files do not.
    """
    files.follow_umask(folder)
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def finish(aside: Path, folder: Path, step: int, progress: dict[str, Any]) -> None:
    """List the files of `aside`/checkpoint-STEP, and give them their place in `folder`.

    Args:
        progress: of our own, beside what Trainer keeps; `read_progress` returns it.
    """
    written = checkpoint_path(aside, step)
    sizes = {str(path.relative_to(written)): path.stat().st_size for path in _files(written)}
    files.write_json(written / LIST, KIND, VERSION, {"step": step, "files": sizes, "progress": progress})
    flush(written)
    place = checkpoint_path(folder, step)
    # A damaged one, that was left out when the run went on.
    remove(place)
    written.replace(place)
    aside.rmdir()


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """The progress that `finish` was given."""
    return files.read_json(checkpoint / LIST, KIND, VERSION)["progress"]


def damage(checkpoint: Path) -> str | None:
    """The damage of a checkpoint; None for a whole one."""
    try:
        sizes = files.read_json(checkpoint / LIST, KIND, VERSION)["files"]
    except HyperfitError as error:
        return str(error)
    for name, size in sizes.items():
        path = checkpoint / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            return f"{name}: {found} bytes of {size}"
    return None


def clear_remains(folder: Path) -> None:
    """Remove what was being written or deleted when a run ended."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for path in folder.glob("checkpoint-*"):
        if not (path / LIST).exists():
            shutil.rmtree(path, ignore_errors=True)


def checkpoints(folder: Path, say: Callable[[str], None] | None = None) -> list[Path]:
    """Whole checkpoints in the folder, by their step; `say` is told of the others."""
    found = []
    for path in sorted(folder.glob("checkpoint-*"), key=_step):
        wrong = damage(path)
        if wrong is None:
            found.append(path)
        elif say:
            say(f"{path} is not whole and is left out ({wrong}).")
    return found


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint, its list first: half deleted it is not taken for a whole one."""
    (checkpoint / LIST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _step(path: Path) -> int:
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _reason(error: Exception, folder: Path) -> str:
    text = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
    free = shutil.disk_usage(folder).free
    return f"{text}; {free / 1e9:.1f} GB are free there"


def _left(folder: Path) -> str:
    found = checkpoints(folder)
    if not found:
        return "make room or mend that, and give the same command to start again"
    return f"make room or mend that, and give the same command: it goes on from {found[-1].name}, which is whole"
