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
    """For instance {"method": "greedy", "new_tokens": 224}."""
    blocker: dict[str, Any] | None = None
    """None when off, else {"ngram": 5, "index": fingerprint, ...}."""
    seed: int = 0
    dtype: str = "float32"
    texts: str = ""
    """Fingerprint of the evaluation texts."""
    versions: dict[str, str] = field(default_factory=dict)
    bos: bool = True
    """False where the tokenizer has a BOS and it was not read before the contexts (`add_bos_token=False`)."""
    former_tokenizer: str = ""
    """Fingerprint that version 0.1.0 gave the tokenizer; training blocks and records of that version name it."""

    @property
    def tokenizers(self) -> frozenset[str]:
        """All fingerprints of the tokenizer; ids with one of them in common may be compared."""
        return frozenset({self.tokenizer, self.former_tokenizer} - {""})


def generated_fingerprint(continuations: Iterable[Continuation]) -> str:
    """Fingerprint of the generated ids in the order of the records: whether two files hold what one run wrote."""
    return files.fingerprint_ids(record.generated_ids for record in continuations)


def write_continuations(path: str | Path, generation: Generation, continuations: Sequence[Continuation]) -> None:
    """Write the records atomically, in the order given."""
    files.write_jsonl(path, KIND, VERSION, asdict(generation), map(asdict, continuations))


def read_continuations(path: str | Path) -> tuple[Generation, list[Continuation]]:
    """Read the records of `write_continuations`, or those in the samples that lm-eval logs of our tasks.

    Raises:
        HyperfitError: with file, line and field, for anything that is not such a file.
    """
    first = next(files.iter_json_lines(path, files.read_text(path)), (1, None))[1]
    if isinstance(first, dict) and "doc_id" in first:
        return _read_samples(Path(path))
    header, rows = files.read_jsonl(path, KIND, VERSION)
    return _generation(path, header), _continuations(path, enumerate(rows, start=2))


def _read_samples(path: Path) -> tuple[Generation, list[Continuation]]:
    """The records in lm-eval's `samples_*.jsonl`, by id as `hyperfit eval` writes them."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for line, sample in files.iter_json_lines(path, files.read_text(path)):
        row = sample.get("texts") if isinstance(sample, dict) else None
        if not isinstance(row, dict):
            raise HyperfitError(
                f"{path}, line {line}: a sample without continuation; give lm-eval's samples of hyperfit_openended or "
                "one of its variants"
            )
        if row.get("generated_ids") is None:
            raise HyperfitError(
                f"{path}, line {line}: the model gave text alone, scores need token ids; evaluate with --model hf"
            )
        rows.append((line, row))
    # lm-eval puts its samples into a folder that it names after the model.
    header = {"model": path.resolve().parent.name, "texts": "", "versions": {}} | rows[0][1]
    return _generation(path, header), sorted(_continuations(path, rows), key=lambda record: record.id)


def _generation(path: str | Path, header: dict[str, Any]) -> Generation:
    optional = {"bos": True, "former_tokenizer": ""} | header  # version 0.1.0 wrote neither
    generation = Generation(
        model=files.field(path, 1, header, "model", str),
        tokenizer=files.field(path, 1, header, "tokenizer", str),
        decoding=files.field(path, 1, header, "decoding", dict),
        blocker=files.field(path, 1, header, "blocker", (dict, type(None))),
        seed=files.field(path, 1, header, "seed", int),
        dtype=files.field(path, 1, header, "dtype", str),
        texts=files.field(path, 1, header, "texts", str),
        versions=files.field(path, 1, header, "versions", dict),
        bos=files.field(path, 1, optional, "bos", bool),
        former_tokenizer=files.field(path, 1, optional, "former_tokenizer", str),
    )
    _check_settings(Value(header, f"{path}, line 1"))
    return generation


def _continuations(path: str | Path, rows: Iterable[tuple[int, dict[str, Any]]]) -> list[Continuation]:
    continuations: list[Continuation] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        values: dict[str, Any] = {name: files.field(path, line, row, name, str) for name in _TEXT_FIELDS}
        values |= {name: files.ids_field(path, line, row, name) for name in _ID_FIELDS}
        record = Continuation(**values)
        if record.id in seen:
            raise HyperfitError(f"{path}, line {line}: id '{record.id}' was on line {seen[record.id]} already")
        seen[record.id] = line
        continuations.append(record)
    return continuations


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
