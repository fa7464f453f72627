"""The folder of a run: what it may hold before, whether the run in it goes on, and run.json."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .. import files
from ..errors import HyperfitError
from .checkpoint import checkpoints, clear_remains, damage, remove

KIND = "run"
VERSION = 1

RUN = "run.json"
HISTORY, PLOT, RECIPE = "history.jsonl", "history.png", "recipe.yaml"
LOCK = ".lock"

RUNNING, FINISHED = "running", "finished"


def read_run(folder: str | Path) -> dict[str, Any]:
    """Read run.json of a run's folder.

    Raises:
        HyperfitError: there is none, or it is not such a file.
    """
    return files.read_json(Path(folder) / RUN, KIND, VERSION)


def write_run(folder: str | Path, body: dict[str, Any]) -> None:
    """Write run.json; "status" says whether the run is running or finished."""
    files.write_json(Path(folder) / RUN, KIND, VERSION, body)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and keep other runs out of it; the lock ends with the process, however that ends.

    Raises:
        HyperfitError: another run is in it, or it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise HyperfitError(
            f"--output_dir {folder}: another run is training into it; wait for it, or give another folder"
        ) from error
    except OSError as error:
        raise HyperfitError(f"--output_dir {folder}: cannot be written ({error.strerror}); give another") from error
    try:
        yield
    finally:
        lock.release()


def refuse_output_dir(folder: Path, model: str, overwrite: bool, resume: bool) -> None:
    """Raise when training into `folder` would destroy what it holds; looks only, changes nothing.

    Raises:
        HyperfitError: it is a file, the model's own folder, a finished run, in use by another run, or holds a
            model of other origin.
    """
    if folder.exists() and not folder.is_dir():
        raise HyperfitError(f"--output_dir {folder}: that is a file; give a folder")
    if folder.is_dir() and Path(model).is_dir() and folder.resolve() == Path(model).resolve():
        raise HyperfitError(f"--output_dir {folder}: the model to start from is there; give another folder")
    if (folder / LOCK).exists():
        with locked(folder):
            pass
    if overwrite or resume or not folder.is_dir():
        return
    advice = "give another folder, or add --overwrite_output_dir"
    if (folder / RUN).exists():
        if read_run(folder).get("status") == FINISHED:
            raise HyperfitError(f"--output_dir {folder}: it holds a finished run; {advice}")
    elif any(folder.glob("*.safetensors")) or any(folder.glob("checkpoint-*")):
        raise HyperfitError(f"--output_dir {folder}: it holds a model that is no run of this program; {advice}")


def enter_output_dir(
    folder: Path, identity: dict[str, Any], overwrite: bool, resume: str | None, say: Callable[[str], None]
) -> Path | None:
    """Decide where training starts: at the beginning, or at a checkpoint of the same run.

    Args:
        folder: locked by this run; what was being written there when an earlier one ended is removed.
        identity: what must be the same for a run to go on: data, model and recipe.
        overwrite: remove the checkpoints of the run that was in the folder.
        resume: a checkpoint folder, "last" (or "true") for the last one in `folder`, or None: then a run
            that was interrupted goes on by itself.
        say: told of checkpoints that are not whole.
    Returns:
        The checkpoint to go on from, or None.
    Raises:
        HyperfitError: no such checkpoint, or one of another run; says what differs.
    """
    clear_remains(folder)
    if overwrite and resume is None:
        for old in folder.glob("checkpoint-*"):
            remove(old)
        return None
    checkpoint: Path | None
    if resume is None or resume.lower() in ("last", "true"):
        found = checkpoints(folder, say)
        if not found and resume is not None:
            raise HyperfitError(f"--resume_from_checkpoint {resume}: no whole checkpoint in {folder}")
        checkpoint = found[-1] if found else None
    else:
        checkpoint = Path(resume)
        if wrong := damage(checkpoint):
            raise HyperfitError(f"--resume_from_checkpoint {resume}: not a whole checkpoint of a run ({wrong})")
    if checkpoint is None or not (checkpoint.parent / RUN).exists():
        return checkpoint
    home = checkpoint.parent
    before = read_run(home).get("identity", {})
    changed = [name for name in sorted(before.keys() | identity.keys()) if before.get(name) != identity.get(name)]
    if changed:
        differences = ", ".join(f"{name} {before.get(name)} -> {identity.get(name)}" for name in changed)
        raise HyperfitError(
            f"{home}: the run there was of other settings ({differences}); use those, give another --output_dir, "
            f"or add --overwrite_output_dir"
        )
    return checkpoint
