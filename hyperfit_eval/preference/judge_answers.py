"""A judge's raw answers: a file of its own for each judge, apart from what people said."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from ..errors import HyperfitError
from .study import CHOICES, Study
from .verdicts import parse_verdict

KIND = "judge"
VERSION = 1
VERDICT, UNPARSED, REFUSED = "verdict", "unparsed", "refused"
STATES = (VERDICT, UNPARSED, REFUSED)

_REFUSAL = re.compile(
    r"\s*(i(['’]m| am) (sorry|unable|not able)|sorry,|i apologi[sz]e|i can(no|['’])t\b|as an ai\b)",
    re.IGNORECASE,
)


def looks_refused(reply: str) -> bool:
    """Whether a reply without a verdict opens as refusals do."""
    return _REFUSAL.match(reply) is not None


@dataclass(frozen=True)
class JudgeCounts:
    """How many answers of a judge were verdicts, and how the two orders of a pair compare.

    Attributes:
        answers: all of them: `verdict`, `unparsed` and `refused` ones.
        pairs: with verdicts in both orders.
        cut_off: unparsed answers that reached the limit of tokens.
        contradictory: pairs whose two verdicts contradict each other.
        first_position: percent of "first" among the verdicts that prefer a side; None without any.
    """

    answers: int
    verdict: int
    unparsed: int
    refused: int
    pairs: int
    cut_off: int
    contradictory: int
    first_position: float | None


@dataclass(frozen=True)
class JudgeAnswers:
    """The answers of one judge.

    Attributes:
        header: settings of the judge: name, model, base_url, prompt (fingerprint), request.
        rows: one for each pair and order: {"pair", "swapped", "status", "verdict", "reply", ...}, the
            verdict in the order in which the judge saw the two texts.
    """

    header: Mapping[str, object]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the judge in results."""
        return str(self.header["name"])

    @property
    def model(self) -> str:
        """Name of the model at the endpoint."""
        return str(self.header["model"])

    def verdicts(self) -> dict[str, str]:
        """One choice for each pair with verdicts in both orders, in the study's order of the sides.

        Where the two orders contradict each other the judge follows the place, not the text: "equal".
        """
        verdicts: dict[str, dict[bool, str]] = {}
        for row in self.rows:
            if row["status"] == VERDICT:
                verdicts.setdefault(row["pair"], {})[row["swapped"]] = in_study_order(row["verdict"], row["swapped"])
        return {
            pair: orders[False] if orders[False] == orders[True] else "equal"
            for pair, orders in verdicts.items()
            if len(orders) == 2
        }

    def counts(self) -> JudgeCounts:
        """How many answers were verdicts, unparsed and refused, and how the two orders compare."""
        verdicts: dict[str, set[str]] = {}
        for row in self.rows:
            if row["status"] == VERDICT:
                verdicts.setdefault(row["pair"], set()).add(in_study_order(row["verdict"], row["swapped"]))
        pairs = self.verdicts()
        decided = [row["verdict"] for row in self.rows if row["status"] == VERDICT and row["verdict"] != "equal"]
        count = Counter(row["status"] for row in self.rows)
        return JudgeCounts(
            answers=len(self.rows),
            verdict=count[VERDICT],
            unparsed=count[UNPARSED],
            refused=count[REFUSED],
            pairs=len(pairs),
            cut_off=sum(row["status"] == UNPARSED and row.get("finish_reason") == "length" for row in self.rows),
            contradictory=sum(len(verdicts[pair]) == 2 for pair in pairs),
            first_position=100 * decided.count("first") / len(decided) if decided else None,
        )


def in_study_order(verdict: str, swapped: bool) -> str:
    """A verdict on texts shown the other way round, in the study's order."""
    return {"first": "second", "second": "first"}.get(verdict, verdict) if swapped else verdict


def judge_path(folder: Path, name: str) -> Path:
    """The file of a judge's answers, `judge_NAME.jsonl`."""
    return folder / f"judge_{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}.jsonl"


def read_judges(folder: Path, study: Study) -> list[JudgeAnswers]:
    """All judges of a study that answered anything."""
    judges = []
    for path in sorted(folder.glob("judge_*.jsonl")):
        judge, _ = _read(path)
        _check_study(path, judge, study)
        judges.append(judge)
    return [judge for judge in judges if judge.rows]


@contextmanager
def appending(path: Path, header: Mapping[str, object], study: Study) -> Iterator[tuple[JudgeAnswers, Any]]:
    """Open a judge's file to go on with it; yields what is there and a function that appends one row.

    A row is on the disk when the function returns. A last line that was cut off by a crash is dropped.

    Raises:
        HyperfitError: the file was made with other settings or is in use by another process.
    """
    import fcntl

    with path.open("ab+") as lines:
        try:
            fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HyperfitError(f"{path}: another `hyperfit judge` is writing to it; wait for it") from error
        judge = JudgeAnswers(header)

        def append(row: dict[str, Any]) -> None:
            lines.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
            lines.flush()
            os.fsync(lines.fileno())

        if path.stat().st_size:
            judge, complete_bytes = _read(path)
            _check_study(path, judge, study)
            # The same model may have moved to another address.
            changed = [key for key in header if key != "base_url" and judge.header.get(key) != header[key]]
            if not judge.rows:
                judge, complete_bytes = JudgeAnswers(header), 0  # nothing was answered yet: the settings may change
            elif changed:
                key = changed[0]
                raise HyperfitError(
                    f"{path}: its answers were made with {key} {judge.header.get(key)!r:.60}, not {header[key]!r:.60}; "
                    "give another --name"
                )
            lines.truncate(complete_bytes)
        if not path.stat().st_size:
            append({"format": f"hyperfit-eval/{KIND}", "version": VERSION, **header})
        yield judge, append


def _read(path: Path) -> tuple[JudgeAnswers, int]:
    """The answers, and the bytes of the file up to its last whole line."""
    data = path.read_bytes()
    complete_bytes = data.rfind(b"\n") + 1
    # Lines are appended, so the header cannot hold their number, and a cut last line is no damage.
    rows = []
    for number, line in enumerate(data[:complete_bytes].split(b"\n")[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise HyperfitError(f"{path}, line {number}: not JSON; remove the line and judge again") from error
    if not rows:
        return JudgeAnswers({"name": "", "model": ""}), 0
    header = rows[0]
    files.check_header(path, header, KIND, VERSION)
    for number, row in enumerate(rows[1:], start=2):
        files.field(path, number, row, "pair", str)
        files.field(path, number, row, "swapped", bool)
        if row.get("status") not in STATES or (row["status"] == VERDICT) != (row.get("verdict") in CHOICES):
            raise HyperfitError(f"{path}, line {number}: status {row.get('status')!r}, verdict {row.get('verdict')!r}")
        # An earlier version may not have read what this one reads, and an answer was paid for.
        if row["status"] == UNPARSED and (verdict := parse_verdict(files.field(path, number, row, "reply", str))):
            row |= {"status": VERDICT, "verdict": verdict}
    return JudgeAnswers(header, rows[1:]), complete_bytes


def _check_study(path: Path, judge: JudgeAnswers, study: Study) -> None:
    if judge.rows and judge.header.get("study") != study.fingerprint:
        raise HyperfitError(f"{path}: answers to another study ({judge.header.get('study')}); move the file away")
