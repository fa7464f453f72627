"""Continuation records: what generation writes and metrics read (docs/formats.md)."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import files
from .documents import Value
from .errors import HyperfitError

KIND = "continuations"
VERSION = 1

CONTEXT_TOKENS = 32
SHORT, LONG = 96, 224
"""New tokens of the paper's 128-token and 256-token scenarios; the short one is the head of the long."""


@dataclass(frozen=True)
class Continuation:
    """One context with its original and its generated continuation.

    Ids are those of the generating model's tokenizer, exactly as generated: no BOS, no padding, and
    never the re-tokenization of the text beside them.
    """

    id: str
    source: str
    context_ids: list[int]
    original_ids: list[int]
    generated_ids: list[int]
    context_text: str
    original_text: str
    generated_text: str
    original_text_at_128: str
    """Text of the first 96 tokens, the 128-token scenario; kept because text cannot be cut by tokens."""
    generated_text_at_128: str


@dataclass(frozen=True)
class Generation:
    """How a file of continuations came to be: everything that its numbers depend on."""

    model: str
    tokenizer: str
    """Fingerprint of the tokenizer (`hyperfit_eval.tokenizers.tokenizer_fingerprint`)."""
    decoding: dict[str, Any]
    """For instance {"method": "greedy", "min_new_tokens": 224, "max_new_tokens": 224}."""
    blocker: dict[str, Any] | None = None
    """None when off, else {"ngram": 5, "index": fingerprint, ...}."""
    seed: int = 0
    dtype: str = "float32"
    texts: str = ""
    """Fingerprint of the evaluation texts."""
    versions: dict[str, str] = field(default_factory=dict)


def generated_fingerprint(continuations: Iterable[Continuation]) -> str:
    """Of the generated ids in the order of the records: whether two files hold what one run wrote."""
    return files.fingerprint_ids(record.generated_ids for record in continuations)


def write_continuations(path: str | Path, generation: Generation, continuations: Sequence[Continuation]) -> None:
    """Write the records atomically, in the order given."""
    files.write_jsonl(path, KIND, VERSION, asdict(generation), map(asdict, continuations))


def read_continuations(path: str | Path) -> tuple[Generation, list[Continuation]]:
    """Read the records back.

    Raises:
        HyperfitError: with file, line and field, for anything that is not such a file.
    """
    header, rows = files.read_jsonl(path, KIND, VERSION)
    generation = Generation(
        model=files.field(path, 1, header, "model", str),
        tokenizer=files.field(path, 1, header, "tokenizer", str),
        decoding=files.field(path, 1, header, "decoding", dict),
        blocker=files.field(path, 1, header, "blocker", (dict, type(None))),
        seed=files.field(path, 1, header, "seed", int),
        dtype=files.field(path, 1, header, "dtype", str),
        texts=files.field(path, 1, header, "texts", str),
        versions=files.field(path, 1, header, "versions", dict),
    )
    _check_settings(Value(header, f"{path}, line 1"))
    continuations: list[Continuation] = []
    seen: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        values: dict[str, Any] = {name: files.field(path, line, row, name, str) for name in _TEXT_FIELDS}
        values |= {name: files.ids_field(path, line, row, name) for name in _ID_FIELDS}
        record = Continuation(**values)
        if record.id in seen:
            raise HyperfitError(f"{path}, line {line}: id '{record.id}' was on line {seen[record.id]} already")
        seen[record.id] = line
        continuations.append(record)
    return generation, continuations


def _check_settings(header: Value) -> None:
    """Raise unless the settings are what signatures are made of: names with a text, a number or true or false each."""
    for name in ("decoding", "versions"):
        for _, setting in header[name].items():
            if setting.is_number():
                setting.number()
            elif not isinstance(setting.content, bool):
                setting.text()
    if "method" in header["decoding"].content:  # null is none
        header["decoding"]["method"].text()
    if blocker := header.get("blocker"):
        blocker["ngram"].integer(low=1)
        blocker.optional("max_overlap_tokens", Value.integer)
        blocker.optional("include_prompt", Value.flag)
    for name in ("model", "tokenizer", "dtype", "texts"):
        header[name].text()


_TEXT_FIELDS = (
    "id", "source", "context_text", "original_text", "generated_text", "original_text_at_128", "generated_text_at_128",
)  # fmt: skip
_ID_FIELDS = ("context_ids", "original_ids", "generated_ids")
