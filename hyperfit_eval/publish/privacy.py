"""Nothing that is published may name a folder of the machine it was made on."""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import HyperfitError

LOCAL_SETTINGS = {"output_dir", "logging_dir", "resume_from_checkpoint", "run_name", "hub_model_id"}
"""Settings of a run that name a place of its own machine; they are left out."""
TEXT_FILES = {".md", ".json", ".jsonl", ".yaml", ".py", ".txt", ".jinja"}
VOCABULARIES = {"tokenizer.json", "vocab.json"}
"""Their pieces may look like anything."""
_PATH = re.compile(r"[/~\\]|\.\.?[/\\]|[A-Za-z]:[/\\]")
_INSIDE = re.compile(r"(?<![\w.:/])/[\w.+-]+(?:/[\w.+-]+)+")
"""A path in a sentence; replaced if it is there."""


def is_hub_id(name: str) -> bool:
    """Whether a name can be a Hub repository, and is no path of this machine."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def without_paths(value: Any, replacements: Mapping[str, str | None]) -> Any:
    """A JSON value with every local path replaced, and the settings that are nothing but paths left out.

    Args:
        replacements: what stands for a string instead; any other path becomes its last part.
    Example:
        without_paths({"model": "/home/ada/base", "output_dir": "out"}, {}) == {"model": "base"}
    """
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in LOCAL_SETTINGS}
        return {key: without_paths(item, replacements) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_paths(item, replacements) for item in value]
    if not isinstance(value, str):
        return value
    if value in replacements:
        return replacements[value]
    if _PATH.match(value) and not any(character.isspace() for character in value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return _INSIDE.sub(lambda found: Path(found[0]).name if Path(found[0]).exists() else found[0], value)


def refuse_local_paths(folder: Path, *others: str, remedy: str = "remove it from the run's file") -> None:
    """Raise when a text file in `folder` names the home folder, the working folder or one of `others`.

    Args:
        remedy: what the error tells to do.
    Raises:
        HyperfitError: with file and path.
    """
    known = {str(Path.home()), str(Path.cwd()), tempfile.gettempdir(), *others}
    # "/" and the like stand in any text.
    paths = sorted((path for path in known if path.count("/") + path.count("\\") and len(path) > 3), key=len)
    for file in sorted(folder.rglob("*")):
        if file.suffix not in TEXT_FILES or file.name in VOCABULARIES or not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        for path in paths:
            # As it stands in text, and as JSON writes it; not as the beginning of a longer name.
            if re.search(rf"(?<![\w.])(?:{re.escape(path)}|{re.escape(json.dumps(path)[1:-1])})(?![\w-])", text):
                raise HyperfitError(f"{file.relative_to(folder)}: names {path}, a path of this machine; {remedy}")
