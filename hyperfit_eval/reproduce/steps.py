"""Steps of a long study: each leaves a folder, is skipped where that is there, and starts again where it broke off."""

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import __version__
from ..documents import Value
from ..errors import HyperfitError
from ..files import fingerprint, read_json, write_json
from ..machine import default_device, versions

KIND, VERSION = "study-step", 3
MARKER = "step.json"

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work that leaves a folder of files.

    Attributes:
        name: unique, and its folder under the study's folder: `continue/base`.
        make: does the work, see `StepContext`.
        inputs: what the result depends on, JSON values: settings, fingerprints of data. A step whose inputs
            changed is done again, and so is all that needs it.
        needs: steps whose files it reads.
        seconds: how long it takes, roughly, before anything was measured; the time left is made of these.
    """

    name: str
    make: Callable[["StepContext"], None]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple["Step", ...] = ()
    seconds: float = 1.0

    @cached_property
    def key(self) -> str:
        """Fingerprint of everything that the result depends on."""
        inputs = json.dumps(self.inputs, sort_keys=True, ensure_ascii=False)
        return fingerprint([self.name, __version__, inputs, *(step.key for step in self.needs)])


@dataclass(frozen=True)
class StepContext:
    """Folders and output of a step's `make`."""

    folder: Path
    """To write into. After an interruption it still holds what the last try left."""
    root: Path
    say: Say

    def folder_of(self, step: Step) -> Path:
        """The folder of a needed step."""
        return self.root / step.name


class Skipped(Exception):
    """Raised by `make` for what cannot be done here; the report gives the reason."""


def in_order(wanted: Iterable[Step]) -> list[Step]:
    """The wanted steps and all that they need, needed ones first, each once."""
    ordered: dict[str, Step] = {}

    def add(step: Step) -> None:
        for needed in step.needs:
            add(needed)
        known = ordered.setdefault(step.name, step)
        if known.key != step.key:
            raise ValueError(f"two different steps are called {step.name}")

    for step in wanted:
        add(step)
    return list(ordered.values())


def run_steps(
    wanted: Sequence[Step], root: Path, say: Say = print, reasons: dict[str, str] | None = None
) -> dict[str, str]:
    """Do the wanted steps and what they need; skip those that are done.

    A step that refuses leaves out what needs it; everything else is done before the refusal is raised.

    Args:
        root: a folder for each step is made in it, and `step.json` in each folder says what it was made from.
        say: prints a line: what is being done, and how long the rest may take.
        reasons: filled while the steps are done, so that an interruption does not lose it.
    Returns:
        `reasons`: why steps were left out, by name; a step that needs one of them is left out with it.
    Raises:
        HyperfitError: what the first step that refused said; what was done stays, and the same call goes on from
            there.
    """
    steps = in_order(wanted)
    todo = _todo(steps, wanted, root)
    if len(todo) < len(steps):
        say(f"{len(steps) - len(todo)} of {len(steps)} steps need not be done")
    reasons = {} if reasons is None else reasons
    refusals: list[HyperfitError] = []
    spent = expected = 0.0
    for number, step in enumerate(todo, start=1):
        if because := next((reasons[needed.name] for needed in step.needs if needed.name in reasons), None):
            reasons[step.name] = because
            continue
        left = sum(other.seconds for other in todo[number - 1 :] if other.name not in reasons)
        # What was measured so far says how this machine compares with the estimates.
        pace = spent / expected if expected else 1.0
        say(f"[{number}/{len(todo)}] {step.name} (about {duration(left * pace)} left)")
        started = time.monotonic()
        try:
            _make(step, root, say)
        except Skipped as skipped:
            reasons[step.name] = str(skipped)
            say(f"    skipped: {skipped}")
        except HyperfitError as error:
            reasons[step.name] = f"{step.name} was refused: {error}"
            refusals.append(error)
            say(f"    refused: {error}")
        else:
            spent += time.monotonic() - started
            expected += step.seconds
    if refusals:
        raise refusals[0]
    return reasons


@dataclass(frozen=True)
class Finished:
    """A finished step, as its `step.json` says."""

    result: str
    """Another one each time the step is done; the first version of the file had none."""
    needs: Mapping[str, str]
    """Results that it was made from, by step."""
    name: str = ""
    key: str = ""
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Value) -> "Finished":
        """Read a `step.json`; errors as `Value`."""
        needs = {step: result.text() for step, result in document["needs"].items()}
        versions = document.get("versions")
        result, name, key, device = (
            document.optional(part, Value.text) or "" for part in ("result", "name", "key", "device")
        )
        used = {package: version.text() for package, version in versions.items()} if versions else {}
        return cls(result, needs, name, key, device, used)


def done(step: Step, root: Path) -> Finished | None:
    """The finished step if it was made with these inputs; None if it is to be done.

    A step is not done either if one that it needs was done again since: the same settings need not give the same
    bits. One whose needed steps were deleted stays done.
    """
    known = finished(step.name, root)
    if known is None or known.key != step.key:
        return None
    return known if unchanged(known, lambda name: finished(name, root)) else None


def unchanged(step: Finished, find: Callable[[str], Finished | None], seen: set[str] | None = None) -> bool:
    """True if nothing that a step was made from was done again since; what was deleted was not.

    Args:
        find: a finished step by name, or None.
        seen: steps that were looked at on the way here; each once, also where a damaged file makes a circle.
    """
    seen = set() if seen is None else seen
    for name, result in step.needs.items():
        needed = find(name)
        if needed and needed.result != result:
            return False
        if needed and name not in seen:
            seen.add(name)
            if not unchanged(needed, find, seen):
                return False
    return True


def finished(name: str, root: Path) -> Finished | None:
    """A finished step with whatever inputs; None if there is none, or its file is damaged or of another version."""
    marker = root / name / MARKER
    if not marker.is_file():
        return None
    try:
        body = read_json(marker, KIND, VERSION)
        return Finished.from_json(Value(body, str(marker))) if body["version"] == VERSION else None
    except HyperfitError:
        return None


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _todo(steps: Sequence[Step], wanted: Sequence[Step], root: Path) -> list[Step]:
    """Those that are not done, what these need, and what needs one of them; `steps` in order."""
    todo: dict[str, Step] = {}

    def require(step: Step) -> None:
        if step.name not in todo:
            todo[step.name] = step
            for needed in step.needs:
                if done(needed, root) is None:
                    require(needed)

    for step in wanted:
        if done(step, root) is None:
            require(step)
    while grown := [
        step
        for step in steps
        if step.name not in todo and finished(step.name, root) and any(n.name in todo for n in step.needs)
    ]:
        for step in grown:
            require(step)
    return [step for step in steps if step.name in todo]


def _make(step: Step, root: Path, say: Say) -> None:
    # Work goes on in a folder of its own, so that a finished folder is always whole.
    folder, partial = root / step.name, root / ".partial" / step.name
    claim = partial / MARKER
    made_from = {needed.name: finished(needed.name, root) for needed in step.needs}
    needs = {name: needed.result for name, needed in made_from.items() if needed}
    description = {"name": step.name, "key": step.key, "inputs": dict(step.inputs), "needs": needs}
    left = json.loads(claim.read_text()) if claim.is_file() else {}
    if any(left.get(name) != description[name] for name in ("key", "needs")):
        shutil.rmtree(partial, ignore_errors=True)
        left = {}
    if left.get("status") != "finished":
        write_json(claim, KIND, VERSION, {**description, "status": "running"})
        started = time.monotonic()
        step.make(StepContext(partial, root, say))
        seconds = round(time.monotonic() - started, 2)
        ending = {"status": "finished", "seconds": seconds, "result": uuid.uuid4().hex}
        made_by = {"versions": versions(), "device": default_device()}
        write_json(claim, KIND, VERSION, {**description, **ending, **made_by})
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(folder)
