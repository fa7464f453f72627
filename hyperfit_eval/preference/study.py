"""A study: the pairs that people compare, and what is known of each (docs/preference.md)."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import files
from ..errors import HyperfitError

KIND, PAIRS_KIND = "study", "pairs"
VERSION = 1
STUDY_FILE, PAIRS_FILE, STORE_FILE = "study.json", "pairs.jsonl", "annotations.sqlite"

CHOICES = ("first", "second", "equal")
WORDS_A_MINUTE = 238
"""Silent reading of English non-fiction by adults, mean of 190 studies (Brysbaert, 2019)."""
ORIGINAL, SHUFFLED = "original texts", "shuffled"
"""Names that no model may have: the other side of every pair, and what an attention check puts against it."""
ALL, AVERAGE = "all", "average"
"""Names that no source may have: all sources together, and their mean, each weighing the same (paper, Table 4)."""


@dataclass(frozen=True)
class Pair:
    """The original continuation of a context against another one, cut at the same number of tokens."""

    id: str
    """16 hex digits of a keyed hash: tells nothing to who lacks the study's salt."""
    context: str
    """Id of the evaluation text."""
    source: str
    scenario: int
    """128 or 256, tokens with the context."""
    other: str
    """Name of the model, or SHUFFLED in an attention check."""
    original_first: bool
    context_text: str
    original_text: str
    other_text: str
    ttr: float | None
    """Type-token ratio of the last 96 tokens of the model's continuation, a fraction; None in a check."""

    @property
    def is_check(self) -> bool:
        """Whether this is an attention check."""
        return self.other == SHUFFLED

    @property
    def shown(self) -> tuple[str, str]:
        """The continuations in the order in which people see them."""
        pair = (self.original_text, self.other_text)
        return pair if self.original_first else pair[::-1]


@dataclass(frozen=True)
class Study:
    """A pool of pairs, and how it was drawn."""

    pairs: list[Pair]
    """In random order."""
    seed: int
    """Seed of the order of the sides, the contexts chosen and the shuffled words."""
    salt: str = field(repr=False)
    annotations: int
    """Independent annotations that each pair is to get."""
    check_rate: float
    """Share of attention checks among what an annotator sees."""
    texts: str
    """Fingerprint of the evaluation texts."""
    models: dict[str, dict[str, Any]]
    """How each model's continuations came to be (`records.Generation`), by name."""

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the pairs with all their fields, in whatever order the file has them."""
        return files.fingerprint(sorted(repr(astuple(pair)) for pair in self.pairs))

    @cached_property
    def by_id(self) -> dict[str, Pair]:
        """The pairs by their ids."""
        return {pair.id: pair for pair in self.pairs}

    @property
    def scenarios(self) -> list[int]:
        """The lengths that occur, shorter first."""
        return sorted({pair.scenario for pair in self.pairs})

    @property
    def sources(self) -> list[str]:
        """The sources that occur."""
        return sorted({pair.source for pair in self.pairs})

    @property
    def reading_hours(self) -> float:
        """Hours of one person who reads every word of all annotations once, attention checks at their rate."""
        words = [
            len(f"{pair.context_text} {pair.original_text} {pair.other_text}".split())
            for pair in self.pairs
            if not pair.is_check
        ]
        return self.annotations * sum(words) / (1 - self.check_rate) / WORDS_A_MINUTE / 60

    def count(self, checks: bool) -> int:
        """Number of attention checks, or of the other pairs."""
        return sum(pair.is_check == checks for pair in self.pairs)


def write_study(folder: Path, study: Study) -> None:
    """Write a new study.

    Raises:
        HyperfitError: there is one in this folder.
    """
    if (folder / STUDY_FILE).exists():
        raise HyperfitError(f"{folder}: holds a study already, maybe with answers; give another --out")
    pairs = [asdict(pair) for pair in study.pairs]
    files.write_jsonl(folder / PAIRS_FILE, PAIRS_KIND, VERSION, {"fingerprint": study.fingerprint}, pairs)
    # Last: with this file the study is there.
    body = {"fingerprint": study.fingerprint} | {
        name: getattr(study, name) for name in ("seed", "salt", "annotations", "check_rate", "texts", "models")
    }
    files.write_json(folder / STUDY_FILE, KIND, VERSION, body)


def read_study(folder: Path) -> Study:
    """Read a study back.

    Raises:
        HyperfitError: no study there, or a file that is not whole.
    """
    path, pairs_path = folder / STUDY_FILE, folder / PAIRS_FILE
    if not path.is_file():
        raise HyperfitError(f"{folder}: no study there; make one with `hyperfit pairs RECORDS... --out {folder}`")
    body = files.read_json(path, KIND, VERSION)
    _, rows = files.read_jsonl(pairs_path, PAIRS_KIND, VERSION)
    pairs = []
    for line, row in enumerate(rows, start=2):
        values = {name: files.field(pairs_path, line, row, name, kinds) for name, kinds in _PAIR_FIELDS.items()}
        if not values["original_text"].strip():
            raise HyperfitError(f"{pairs_path}, line {line}: pair '{values['id']}' has no original continuation")
        pair = Pair(**values)
        if pair.ttr is None and not pair.is_check:
            raise HyperfitError(f"{pairs_path}, line {line}: pair '{pair.id}' has no ttr; make the study anew")
        pairs.append(pair)
    _refuse_twice(pairs_path, pairs)
    study = Study(pairs, **{name: files.field(path, 1, body, name, kinds) for name, kinds in _STUDY_FIELDS.items()})
    if body.get("fingerprint") != study.fingerprint:
        raise HyperfitError(f"{pairs_path}: not the pairs of {path} (fingerprint {study.fingerprint}); was it edited?")
    return study


def _refuse_twice(path: Path, pairs: Sequence[Pair]) -> None:
    lines: dict[str, int] = {}
    for line, pair in enumerate(pairs, start=2):
        if lines.setdefault(pair.id, line) != line:
            raise HyperfitError(f"{path}, line {line}: pair '{pair.id}' was on line {lines[pair.id]} already")


_PAIR_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str, "context": str, "source": str, "scenario": int, "other": str, "original_first": bool,
    "context_text": str, "original_text": str, "other_text": str, "ttr": (float, type(None)),
}  # fmt: skip
_STUDY_FIELDS: dict[str, type | tuple[type, ...]] = {
    "seed": int, "salt": str, "annotations": int, "check_rate": (int, float), "texts": str, "models": dict,
}  # fmt: skip
