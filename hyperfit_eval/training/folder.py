"""The folder of a run: what it may hold before, whether the run in it goes on, and run.json."""

import shutil
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from .. import files
from ..errors import HyperfitError

KIND = "run"
VERSION = 1

RUN, BLOCKS, INDEX = "run.json", "training_blocks.jsonl", "citation_index.safetensors"
HISTORY, PLOT = "history.jsonl", "history.png"

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


def refuse_output_dir(folder: Path, model: str, overwrite: bool, resume: bool) -> None:
    """Raise when training into `folder` would destroy what it holds; looks only, changes nothing.

    Raises:
        HyperfitError: it is a file, the model's own folder, a finished run, or holds a model of other origin.
    """
    if folder.exists() and not folder.is_dir():
        raise HyperfitError(f"--output_dir {folder}: that is a file; give a folder")
    if folder.is_dir() and Path(model).is_dir() and folder.resolve() == Path(model).resolve():
        raise HyperfitError(f"--output_dir {folder}: the model to start from is there; give another folder")
    if overwrite or resume or not folder.is_dir():
        return
    advice = "give another folder, or add --overwrite_output_dir"
    if (folder / RUN).exists():
        if read_run(folder).get("status") == FINISHED:
            raise HyperfitError(f"--output_dir {folder}: it holds a finished run; {advice}")
    elif any(folder.glob("*.safetensors")) or checkpoints(folder):
        raise HyperfitError(f"--output_dir {folder}: it holds a model that is no run of this program; {advice}")


def enter_output_dir(folder: Path, identity: dict[str, Any], overwrite: bool, resume: str | None) -> Path | None:
    """Decide where training starts: at the beginning, or at a checkpoint of the same run.

    Args:
        identity: what must be the same for a run to go on: data, model and recipe.
        overwrite: remove the checkpoints of the run that was in the folder.
        resume: a checkpoint folder, "last" (or "true") for the last one in `folder`, or None: then a run
            that was interrupted goes on by itself.
    Returns:
        The checkpoint to go on from, or None.
    Raises:
        HyperfitError: no such checkpoint, or one of another run; says what differs.
    """
    if overwrite and resume is None:
        for old in checkpoints(folder):
            shutil.rmtree(old)
        return None
    checkpoint: Path | None
    if resume is None or resume.lower() in ("last", "true"):
        found = checkpoints(folder)
        if not found and resume is not None:
            raise HyperfitError(f"--resume_from_checkpoint {resume}: no whole checkpoint in {folder}")
        checkpoint = found[-1] if found else None
    else:
        checkpoint = Path(resume)
        if not (checkpoint / TRAINER_STATE_NAME).is_file():
            raise HyperfitError(f"--resume_from_checkpoint {resume}: not a whole checkpoint of a training run")
    home = checkpoint.parent if checkpoint else folder
    if not (home / RUN).exists():
        return checkpoint
    before = read_run(home).get("identity", {})
    changed = [name for name in sorted(before.keys() | identity.keys()) if before.get(name) != identity.get(name)]
    if changed:
        differences = ", ".join(f"{name} {before.get(name)} -> {identity.get(name)}" for name in changed)
        raise HyperfitError(
            f"{home}: the run there was of other settings ({differences}); use those, give another --output_dir, "
            f"or add --overwrite_output_dir"
        )
    return checkpoint


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints in the folder, by their step; Trainer writes the state file of one last."""
    states = folder.glob(f"checkpoint-*/{TRAINER_STATE_NAME}")
    return sorted((state.parent for state in states), key=lambda path: int(path.name.rpartition("-")[2]))
