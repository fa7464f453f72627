"""Where results are: files, folders and Hub repositories."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import HyperfitError
from ..publish.result_files import PATTERNS, find_results

# In these patterns `*` stands for folders, too: score/base/step.json is one of the first.
_STUDY_PATTERNS = ["*steps/*/step.json", "*steps/*/section.json", "*steps/continue/*/continuations.jsonl"]
_UNFINISHED = "*steps/.partial/*"


@dataclass(frozen=True)
class Source:
    """One file of results, or a study's folder."""

    path: Path
    shown: str
    """How it is called in messages and tables: as the user gave it, and no more of the path."""
    model: str | None = None
    """The Hub repository that it was downloaded from, whose model it is of."""
    name: str | None = None
    """The user's name for the model."""


@dataclass(frozen=True)
class Unread:
    """Something that was given or found and cannot be read as results."""

    shown: str
    reason: str

    @classmethod
    def because(cls, shown: str, error: HyperfitError) -> "Unread":
        """With the text of an error that may begin with the same name."""
        return cls(shown, str(error).removeprefix(shown).lstrip(":, "))


def find(given: Iterable[str]) -> tuple[list[Source], list[Unread]]:
    """Everything that may be results, each file once.

    Args:
        given: files, folders (searched) and Hub ids (`datasets/USER/NAME` for a dataset), each also as
            NAME=WHAT, which names the model.
    """
    sources: dict[Path, Source] = {}
    skipped = []
    for argument in given:
        try:
            for source in _expand(argument):
                sources.setdefault(Path(os.path.realpath(source.path)), source)
        except HyperfitError as error:
            skipped.append(Unread.because(argument, error))
    return list(sources.values()), skipped


def _expand(argument: str) -> list[Source]:
    name, separator, what = argument.partition("=")
    if not separator or _exists(argument):
        name, what = "", argument
    path, model = Path(what), None
    if not _exists(what):
        path, model = _download(what), what.removeprefix("datasets/")
    # Of a repository without results nothing was downloaded, not even a folder.
    found = list(find_results(path)) if path.is_dir() or model else [path]
    if not found:
        raise HyperfitError("no results in it; make some with `hyperfit eval` or `hyperfit score --json`")
    return [Source(file, _shown(file, path, what), model, name or None) for file in found]


def _exists(path: str) -> bool:
    """Whether something of this name is here, though it may be a link that leads nowhere."""
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL in it
        return False


def _shown(file: Path, root: Path, what: str) -> str:
    start = Path(what).name or what if _exists(what) else what
    return start if file == root else f"{start}/{file.relative_to(root).as_posix()}"


def _download(repo: str) -> Path:
    """The result files of a Hub repository."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    kind = "dataset" if repo.startswith("datasets/") else "model"
    try:
        name = repo.removeprefix("datasets/")
        wanted = [*PATTERNS, *_STUDY_PATTERNS]
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=wanted, ignore_patterns=_UNFINISHED))
    except HFValidationError as error:
        raise HyperfitError("no such file or folder, and no Hub id") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".")
        raise HyperfitError(f"no such file or folder, and not to be had from the Hub ({reason})") from error
