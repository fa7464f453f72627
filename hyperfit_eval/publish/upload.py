"""From a checked folder to one commit on the Hub."""

import fnmatch
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import HyperfitError
from .results import FILE
from .staging import COPIED, EVAL_RESULTS

REPLACED = {
    "model": (
        *COPIED,
        "*.safetensors",
        "*.safetensors.index.json",
        "*.bin",
        "training_block*.jsonl",
        FILE,
        EVAL_RESULTS,
    ),
    "dataset": ("data/*",),
}
"""Files of an earlier push that are removed unless this one has them: old weights, or old parts of a tokenizer, would
be loaded beside new ones."""
CONTENT = {"model": ("*.safetensors", "*.bin"), "dataset": ("*.jsonl", "*.json", "*.csv", "*.parquet", "*.arrow")}
MARKS = {"model": {"run.json", "custom_generate/generate.py"}, "dataset": {"data/annotations.jsonl"}}
"""A repository with such content and none of these was not made here."""
WAITS = (1.0, 4.0, 15.0, 60.0)
"""Seconds before each new try after 429, 5xx or a broken connection."""


@dataclass(frozen=True)
class Destination:
    """The destination of a folder."""

    repo: str
    private: bool = False
    revision: str | None = None
    """A branch, made if it is not there; by default main."""
    create_pr: bool = False
    message: str = "Upload a hyperfitted model"
    repo_type: Literal["model", "dataset"] = "model"


def require_name(destination: Destination) -> None:
    """Raise where the options contradict each other or name no repository; a dry run is checked, too.

    Raises:
        HyperfitError: a name that is none, or a branch beside a pull request.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(destination.repo)
    except HFValidationError as error:
        raise HyperfitError(f"--repo {destination.repo}: no Hub repository id; expected USER/NAME") from error
    if destination.repo.count("/") != 1:
        raise HyperfitError(f"--repo {destination.repo}: expected USER/NAME")
    if destination.create_pr and destination.revision:
        raise HyperfitError(
            f"--create-pr opens a pull request against main: leave out --revision {destination.revision}"
        )


def require_access(destination: Destination) -> None:
    """Raise at once where nothing could be uploaded; asks nothing of the Hub.

    Raises:
        HyperfitError: as `require_name`, offline mode, or no token.
    """
    from huggingface_hub import constants, get_token

    require_name(destination)
    if constants.HF_HUB_OFFLINE:
        raise HyperfitError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it, or add --dry-run DIR")
    if get_token() is None:
        raise HyperfitError(
            "no Hub token: run `hf auth login`, or set HF_TOKEN to one that may write; or add --dry-run DIR"
        )


def upload(folder: Path, destination: Destination, say: Callable[[str], None] = print) -> str:
    """Upload all of a folder as one commit; returns its address on the Hub.

    The files' content goes first and changes nothing that can be seen; the commit then names all of it at
    once. So a push that breaks off leaves the revision as it was, and the same command goes on: what the
    Hub has it is not sent again.

    Raises:
        HyperfitError: no token, no permission, no network, a repository that holds something else, or what
            the Hub refuses, in one line.
    """
    from huggingface_hub import HfApi

    require_access(destination)
    api = HfApi(library_name="hyperfit-eval")
    attempt = _Attempts(destination, say)
    repo, kind = destination.repo, destination.repo_type
    attempt(lambda: api.create_repo(repo, repo_type=kind, private=destination.private or None, exist_ok=True))
    brings = _has_content((path.name for path in folder.rglob("*")), destination.repo_type)
    revision, pull_request = _revision(api, attempt, destination, brings)
    # What is committed is decided anew at each try: after a lost answer there is nothing left to commit.
    info = attempt(lambda: _commit(api, folder, destination, revision))
    return pull_request or str(info.commit_url)


def _has_content(names: Iterable[str], kind: str) -> bool:
    """Whether files of these names hold weights, or rows of a dataset."""
    return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in CONTENT[kind])


def _revision(api: Any, attempt: "_Attempts", destination: Destination, brings: bool) -> tuple[str, str | None]:
    """The branch to commit to, after checking what is there; for a pull request its branch and address.

    Args:
        brings: whether the push has weights, or rows, in place of those that are there.
    """
    repo, kind, revision = destination.repo, destination.repo_type, destination.revision or "main"
    info = attempt(lambda: api.repo_info(repo, repo_type=kind))
    if destination.private and info.private is False:
        raise HyperfitError(
            f"{repo} is there already, and public; make it private on the Hub first, or leave out --private"
        )
    if destination.create_pr:
        # Once: after a lost answer another try would open another one.
        opened = attempt(lambda: api.create_pull_request(repo, title=destination.message, repo_type=kind), waits=())
        attempt.say(
            f"Pull request {opened.url}. If this breaks off, go on with --revision {opened.git_reference} in place of "
            "--create-pr."
        )
        return str(opened.git_reference), str(opened.url)
    if destination.revision and not revision.startswith("refs/"):
        attempt(lambda: api.create_branch(repo, branch=revision, repo_type=kind, exist_ok=True))
    names = set(attempt(lambda: api.list_repo_files(repo, revision=revision, repo_type=kind)))
    if _has_content(names, kind) and not (brings and names & MARKS[kind]):
        what = "that was not pushed by this program" if brings else "that this push would take the place of"
        raise HyperfitError(
            f"{repo} ({revision}) holds a {kind} {what}; give another --repo or --revision, or add --create-pr"
        )
    return revision, None


def _commit(api: Any, folder: Path, destination: Destination, revision: str) -> Any:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    repo, kind = destination.repo, destination.repo_type
    head = api.repo_info(repo, revision=revision, repo_type=kind).sha
    there = api.list_repo_files(repo, revision=revision, repo_type=kind)
    stale = [name for name in there if name not in paths and any(fnmatch.fnmatch(name, p) for p in REPLACED[kind])]
    # The files are hashed anew at each try: a commit's operations cannot be used twice.
    operations: list[Any] = [CommitOperationDelete(name) for name in stale]
    operations += [CommitOperationAdd(name, str(path)) for name, path in paths.items()]
    return api.create_commit(
        repo, operations, commit_message=destination.message, revision=revision, parent_commit=head, repo_type=kind
    )


class _Attempts:
    """Calls to the Hub: tried again where that may help, and with one line where it does not."""

    def __init__(self, destination: Destination, say: Callable[[str], None]) -> None:
        self.destination, self.say = destination, say

    def __call__(self, call: Callable[[], Any], waits: tuple[float, ...] | None = None) -> Any:
        """What `call` returns, tried again after each of `waits` seconds, by default WAITS."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        # The class of every failure of the HTTP client, of which there is one or another by version.
        failures: Any = tuple(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
        for wait in (*(WAITS if waits is None else waits), None):
            try:
                return call()
            except OfflineModeIsEnabled as error:
                raise HyperfitError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it") from error
            except (*failures, OSError, RuntimeError, ValueError) as error:
                cause = _http_cause(error, failures)
                if cause is None:
                    raise HyperfitError(f"{self.destination.repo}: not uploaded ({_first_line(error)})") from error
                if wait is None or not _passes(cause):
                    raise HyperfitError(self._explained(cause, error)) from error
                self.say(f"The Hub did not take it ({_first_line(cause)}); trying again in {wait:g} s.")
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _explained(self, error: BaseException, told: BaseException) -> str:
        """One line on an HTTP failure; `told` is what the client made of it."""
        status, repo = _status(error), self.destination.repo
        if status is None:
            return (
                f"the Hub cannot be reached ({_first_line(error)}); check the network and give the same command again"
            )
        if status == 401:
            return (
                f"{repo}: the Hub does not accept the token (401); run `hf auth login`, or set HF_TOKEN to a valid one"
            )
        if status == 403:
            return f"{repo}: the token may not write there (403); use one with write access to {repo.partition('/')[0]}"
        if status == 404:
            revision = f" revision {self.destination.revision}" if self.destination.revision else ""
            return f"{repo}: no such repository{revision} that this token can see (404); check name and token"
        if status in (409, 412):
            return f"{repo}: changed by somebody else during the push ({status}); look at it, then push again"
        if status == 429:
            return f"{repo}: too many requests (429), also after waiting; give the same command again later"
        if status >= 500:
            return f"{repo}: the Hub fails ({status}), also after waiting; give the same command again later"
        return f"{repo}: refused by the Hub ({status}): {' '.join(str(told).split())[:300]}"


def _http_cause(error: BaseException | None, failures: Any) -> BaseException | None:
    """The HTTP failure that an error is or comes from."""
    while error is not None and not isinstance(error, failures):
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _passes(error: BaseException) -> bool:
    """Whether waiting may help."""
    status = _status(error)
    return status is None or status == 429 or status >= 500


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
