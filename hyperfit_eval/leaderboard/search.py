"""Where results are: files, folders and Hub repositories."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import HyperfitError
from ..preference.analysis import PREFERENCE_FILE

SCORES = Path("steps") / "score"
"""In a study's folder, what each of its models got."""
KINDS = ("scores", "demo-results", "published-results", "preference")
"""Formats of ours that hold results, beside lm-eval's own."""
_PATTERNS = ["*results*.json", "*scores*.json", "*preference*.json"]
# In these patterns `*` stands for folders, too: score/base/step.json is one of the first.
_OF_STUDIES = ["*steps/*/step.json", "*steps/*/section.json", "*steps/continue/*/continuations.jsonl"]
_UNFINISHED = "*steps/.partial/*"
_HEAD_BYTES = 200


@dataclass(frozen=True)
class Source:
    """One file of results, or a study's folder."""

    path: Path
    shown: str
    """How it is called in messages and tables: as the user gave it, and no more of the path."""
    model: str | None = None
    """The Hub repository that it was downloaded from, whose model it is of."""
    name: str | None = None
    """What the user calls the model."""


@dataclass(frozen=True)
class Unread:
    """Something that was given or found and cannot be read as results."""

    shown: str
    reason: str


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
                sources.setdefault(source.path.resolve(), source)
        except HyperfitError as error:
            skipped.append(Unread(argument, str(error)))
    return list(sources.values()), skipped


def _expand(argument: str) -> list[Source]:
    name, separator, what = argument.partition("=")
    if not separator or Path(argument).exists():
        name, what = "", argument
    path, model = Path(what), None
    if not path.exists():
        path, model = _download(what), what.removeprefix("datasets/")
    # Of a repository without results nothing was downloaded, not even a folder.
    found = list(_search(path)) if path.is_dir() or model else [path]
    if not found:
        raise HyperfitError("no results in it; make some with `hyperfit eval` or `hyperfit score --json`")
    return [Source(file, _shown(file, path, what), model, name or None) for file in found]


def _shown(file: Path, root: Path, what: str) -> str:
    start = Path(what).name or what if Path(what).exists() else what
    return start if file == root else f"{start}/{file.relative_to(root).as_posix()}"


def _search(folder: Path) -> Iterator[Path]:
    """Result files below a folder in the order of their names; a study's steps are one result, of its folder."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        if (here / SCORES).is_dir():
            folders.clear()
            yield here
            if (here / PREFERENCE_FILE).is_file():  # `hyperfit reproduce --preference` left it
                yield here / PREFERENCE_FILE
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in sorted(names) if name.endswith(".json") and _may_be_results(here / name))


def _may_be_results(path: Path) -> bool:
    if any(path.match(pattern) for pattern in _PATTERNS):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return False
    return any(json.dumps(f"hyperfit-eval/{kind}") in head for kind in KINDS)


def _download(repo: str) -> Path:
    """The result files of a Hub repository."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    kind = "dataset" if repo.startswith("datasets/") else "model"
    try:
        name = repo.removeprefix("datasets/")
        wanted = _PATTERNS + _OF_STUDIES
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=wanted, ignore_patterns=_UNFINISHED))
    except HFValidationError as error:
        raise HyperfitError("no such file or folder, and no Hub id") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".")
        raise HyperfitError(f"no such file or folder, and not to be had from the Hub ({reason})") from error
