"""The file of a citation index: written with checksums, and checked when it is read (docs/citation.md)."""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from .. import files
from ..errors import HyperfitError
from .mapped import open_mapped

FORMAT = "hyperfit-eval/citation-index"
VERSION = 2
WITHOUT_CHECKSUMS = 1
"""The version of files that 0.1.0 wrote, which are read with structural checks alone."""
COMPARED_BYTES = 1 << 30
"""Files up to this size are compared with their checksums whenever they are read."""
NEVER_BANNED, INSIDE_WORD, STARTS_WORD = range(3)
"""Kinds of continuations: no token or a special one, one that goes on with a word, one that starts a word."""
SEPARATOR = -1
_METADATA = "citation_index"
_PLACES = (np.int32, np.int64)
_TYPES: dict[str, tuple[type, ...]] = {
    "keys": (np.int64,),
    "buckets": _PLACES,
    "starts": _PLACES,
    "positions": _PLACES,
    "kinds": (np.uint8,),
    "tokens": (np.int32,),
    "multipliers": (np.int64,),
}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class IndexHeader:
    """Origin of an index; written into its file and into the records of blocked generations."""

    ngram: int
    corpus: str
    """Fingerprint of the token ids (`files.fingerprint_ids`)."""
    tokenizer: str
    """Fingerprint of the tokenizer (`tokenizers.tokenizer_fingerprint`)."""
    sequences: int
    tokens: int
    ngrams: int
    """Distinct n-grams."""
    continuations: int
    """Distinct pairs of an n-gram and a token after it."""
    word_starts: int
    """Continuations that start a word: what the blocker bans."""
    most_continuations: int
    """The largest number of entries of one n-gram."""
    widest_bucket: int
    """The largest number of n-grams in one bucket."""
    largest_id: int


def write_index(path: str | Path, header: IndexHeader, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one safetensors file, atomically."""
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in _TYPES}
    checksums = {name: _checksum(array) for name, array in ordered.items()}
    # One metadata entry: safetensors writes several in random order, and equal indexes should be equal files.
    fields = {"format": FORMAT, "version": VERSION, **asdict(header), "checksums": checksums}
    with files.atomic_path(path) as temporary:
        save_file(ordered, temporary, metadata={_METADATA: json.dumps(fields)})


def read_index(path: str | Path, full: bool) -> tuple[IndexHeader, dict[str, np.ndarray], str]:
    """Map the file of an index, and check it.

    Types, sizes, order and bounds of all arrays are always checked; checksums if the file has them and `full` is
    true or the file has at most COMPARED_BYTES.

    Returns:
        The header, the arrays (read-only), and why no checksums were compared, "" if they were.
    Raises:
        HyperfitError: a missing, foreign or damaged file, or one of another version.
    """
    metadata, arrays = open_mapped(path)
    header, checksums = _read_header(path, metadata)
    damage = _damage(header, arrays)
    if damage:
        raise HyperfitError(f"{path}: {damage}; the file is damaged, build the index again")
    if checksums is None:
        return header, arrays, "written by 0.1.0 without checksums, build the index again to have them"
    if not full and Path(path).stat().st_size > COMPARED_BYTES:
        return header, arrays, f"more than {COMPARED_BYTES / 2**30:.0f} GiB, add --full to compare the checksums"
    for name, array in arrays.items():
        if checksums[name] != _checksum(array):
            raise HyperfitError(
                f"{path}: {name} has checksum {_checksum(array)}, its header says {checksums[name]!r:.12}; the file is "
                "damaged, build the index again"
            )
    return header, arrays, ""


def _read_header(path: str | Path, metadata: Mapping[str, Any]) -> tuple[IndexHeader, dict[str, str] | None]:
    try:
        fields = json.loads(metadata.get(_METADATA, "{}"))
        found, version = fields.pop("format", None), fields.pop("version", None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise HyperfitError(f"{path}: its header is damaged ({error}); build the index again") from error
    if found != FORMAT:
        raise HyperfitError(f"{path}: format {found!r:.60}, expected '{FORMAT}'")
    if version not in (WITHOUT_CHECKSUMS, VERSION):
        raise HyperfitError(
            f"{path}: version {str(version)[:60]}, this package reads {WITHOUT_CHECKSUMS} and {VERSION}; "
            "build the index again or pip install -U hyperfit-eval"
        )
    checksums = fields.pop("checksums", None)
    is_complete = isinstance(checksums, dict) and set(checksums) == set(_TYPES)
    expected = {name: type(value) for name, value in fields.items()}
    if expected != IndexHeader.__annotations__ or is_complete != (version == VERSION):
        raise HyperfitError(f"{path}: its header is damaged; build the index again")
    return IndexHeader(**fields), checksums if is_complete else None


def _damage(header: IndexHeader, arrays: Mapping[str, np.ndarray]) -> str | None:
    """Damage of the arrays, read once from end to end; None if all that a lookup relies on holds."""
    for name, types in _TYPES.items():
        array = arrays.get(name)
        if array is None or array.ndim != 1 or array.dtype.type not in types:
            what = "is missing" if array is None else f"is {array.dtype} of {array.ndim} dimensions"
            return f"{name} {what}, expected {' or '.join(kind.__name__ for kind in types)} of 1 dimension"
    if len(arrays) != len(_TYPES):
        return f"{sorted(set(arrays) - set(_TYPES))[0][:60]!r} is no array of an index"
    keys, starts, positions, kinds, tokens = (
        arrays[name] for name in ("keys", "starts", "positions", "kinds", "tokens")
    )
    buckets, bits = arrays["buckets"], bucket_bits(len(keys))
    fits = len(starts) == len(keys) + 1 == header.ngrams + 1 >= 2 and len(positions) == len(kinds) >= len(keys)
    fits = fits and len(arrays["multipliers"]) == header.ngram >= 1 and len(buckets) == 2**bits + 1
    if not fits or len(tokens) != header.tokens + header.sequences:
        return "its arrays do not fit together"
    # In this order: a check may rely on those before it.
    checks: dict[str, Callable[[], bool]] = {
        "keys": lambda: _ascend(keys),
        "buckets": lambda: _are_buckets(buckets, keys, bits) and _widest(buckets) == header.widest_bucket,
        "starts": lambda: (
            starts[0] == 0
            and starts[-1] == len(positions)
            and _ascend(starts)
            and _widest(starts) == header.most_continuations
        ),
        "positions": lambda: positions.min() >= 0 and positions.max() < len(tokens) - header.ngram,
        "kinds": lambda: kinds.max() <= STARTS_WORD and _count(kinds, STARTS_WORD) == header.word_starts,
        "tokens": lambda: (
            tokens.min() == SEPARATOR == tokens[-1]
            and tokens.max() == header.largest_id
            and _count(tokens, SEPARATOR) == header.sequences
        ),
    }
    wrong = next((name for name, holds in checks.items() if not holds()), None)
    return wrong and f"{wrong} cannot be those of an index"


def bucket_bits(keys: int) -> int:
    """How many of a key's highest bits number its bucket: 4 to 8 keys in a bucket on average."""
    return max(1, (keys - 1).bit_length() - 3)


def bucket_starts(keys: np.ndarray, bits: int, first: int, stop: int) -> np.ndarray:
    """Where the keys of the buckets from `first` to `stop` begin, int64."""
    borders = (np.arange(first, stop, dtype=np.int64) << (64 - bits)) + np.int64(-(2**63))
    return keys.searchsorted(borders)


def _are_buckets(buckets: np.ndarray, keys: np.ndarray, bits: int) -> bool:
    return buckets[-1] == len(keys) and all(
        np.array_equal(buckets[first:stop], bucket_starts(keys, bits, first, stop))
        for first, stop in _chunks(len(buckets) - 1)
    )


def _ascend(array: np.ndarray) -> bool:
    pairs = ((array[first:stop], array[first + 1 : stop + 1]) for first, stop in _chunks(len(array) - 1))
    return all(bool((one < other).all()) for one, other in pairs)


def _widest(borders: np.ndarray) -> int:
    """The largest difference of neighbors in ascending borders."""
    return max(int(np.diff(borders[first : stop + 1]).max()) for first, stop in _chunks(len(borders) - 1))


def _count(array: np.ndarray, value: int) -> int:
    return sum(int(np.count_nonzero(array[first:stop] == value)) for first, stop in _chunks(len(array)))


def _chunks(length: int) -> Iterator[tuple[int, int]]:
    """First and last of pieces that keep temporary arrays small beside a large index."""
    return ((first, min(first + _CHUNK, length)) for first in range(0, length, _CHUNK))


def _checksum(array: np.ndarray) -> str:
    """CRC-32 of the bytes, 8 hex digits: against damage, not against forgery."""
    return f"{zlib.crc32(array.data):08x}"
