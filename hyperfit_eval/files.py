"""Reading and writing the files between the rooms (docs/formats.md).

Every file of ours is written to a temporary neighbor and renamed, so that a reader never sees half
of it; every file says what it is and in which version.
"""

import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from . import documents
from .documents import MAX_INTEGER, brief
from .errors import HyperfitError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on error it is removed.

    Raises:
        HyperfitError: the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:12]}.tmp")
        # Unlike mkstemp, which makes files for the owner alone, this follows the umask.
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
    except OSError as error:
        raise HyperfitError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(mode)  # safetensors puts a file of its own in this place, for the owner alone
        temporary.replace(path)
    except OSError as error:
        raise HyperfitError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def follow_umask(folder: Path) -> None:
    """Give the files below a folder the mode of any new file; some libraries write files for their owner alone."""
    probe = folder / f".{uuid.uuid4().hex}"
    probe.touch(exist_ok=False)
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, kind: str, version: int, body: Mapping[str, object]) -> None:
    """Write a JSON object that opens with its format name and version."""
    document = {"format": f"hyperfit-eval/{kind}", "version": version, **body}
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path, kind: str, version: int) -> dict[str, Any]:
    """Read a JSON object written by `write_json`.

    Raises:
        HyperfitError: missing, not JSON, of another format or of a later version.
    """
    document = parse_json(path, read_text(path))
    check_header(path, document, kind, version)
    return document


def read_text(path: str | Path) -> str:
    r"""Read a UTF-8 text file, without the byte order mark that Windows tools put first; newlines become "\n".

    Raises:
        HyperfitError: missing, unreadable or in another encoding.
    """
    return documents.read_regular(Path(path))


def parse_json(path: str | Path, text: str, line: int = 1) -> Any:
    r"""Parse JSON text that begins at a line of a file.

    Raises:
        HyperfitError: with the line, for what is not JSON and for half a character: an emoji that another tool
            cut in two leaves an escape such as \ud83d, which no tokenizer, page or file takes.
    """
    return documents.parse_json(text, str(path), line)


def iter_json_lines(path: str | Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of each line of JSON-lines text that is not blank; errors as in `parse_json`."""
    # Not splitlines(): that also splits at U+2028 and U+0085, which JSON leaves inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, parse_json(path, line, number)


def write_jsonl(
    path: str | Path, kind: str, version: int, header: dict[str, Any], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write JSON lines: a header with format, version and the number of rows, then the rows."""
    rows = list(rows)
    first = {"format": f"hyperfit-eval/{kind}", "version": version, "rows": len(rows), **header}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for row in [first, *rows]:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: str | Path, kind: str, version: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read header and rows of a file written by `write_jsonl`.

    Raises:
        HyperfitError: with the line, when the file is missing, foreign, of a later version or cut off.
    """
    lines = iter_json_lines(path, read_text(path))
    first = next(lines, None)
    if first is None:
        raise HyperfitError(f"{path}: empty, a hyperfit-eval/{kind} file was expected")
    header = first[1]
    check_header(path, header, kind, version)
    rows = []
    for number, row in lines:
        if not isinstance(row, dict):
            raise HyperfitError(f"{path}, line {number}: a {type(row).__name__}, an object was expected")
        rows.append(row)
    if header.get("rows") != len(rows):
        promised = brief(header.get("rows"))
        raise HyperfitError(f"{path}, line {len(rows) + 2}: {len(rows)} rows of {promised}, the file is cut off")
    return header, rows


def field(path: str | Path, line: int, row: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """Return `row[name]`, checked for its type; the error names file, line and field."""
    if name not in row:
        raise HyperfitError(f"{path}, line {line}: no field '{name}'")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    # True is an int to Python, and integers beyond 2**53 overflow arrays.
    is_flag, is_huge = isinstance(row[name], bool), isinstance(row[name], int) and abs(row[name]) > MAX_INTEGER
    if not isinstance(row[name], kinds) or is_huge or (is_flag and bool not in kinds):
        raise HyperfitError(f"{path}, line {line}: field '{name}' is {brief(row[name])}, expected {_type_name(kinds)}")
    return row[name]


def ids_field(path: str | Path, line: int, row: dict[str, Any], name: str) -> list[int]:
    """Return a list of token ids from `row`; the error names file, line and field."""
    ids = field(path, line, row, name, list)
    if not all(type(i) is int and 0 <= i < 2**31 for i in ids):
        raise HyperfitError(f"{path}, line {line}: field '{name}' holds something that is no token id")
    return ids


def fingerprint(parts: Iterable[str | bytes | np.ndarray]) -> str:
    """First 16 hex digits of the SHA-256 of `parts`, each preceded by its length (so that borders count)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else bytes(part)
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def fingerprint_ids(sequences: Iterable[Iterable[int]]) -> str:
    """Fingerprint of token id sequences; order and borders count."""
    return fingerprint(np.asarray(list(row), dtype="<i8").tobytes() for row in sequences)


def check_header(path: str | Path, header: Any, kind: str, version: int) -> None:
    """Check the format and the version that a file's header names.

    Raises:
        HyperfitError: another format, or a later version.
    """
    expected = f"hyperfit-eval/{kind}"
    found = header.get("format") if isinstance(header, dict) else None
    if found != expected:
        raise HyperfitError(f"{path}, line 1: format {brief(found)}, expected '{expected}'")
    found = header.get("version")
    if not isinstance(found, int) or isinstance(found, bool) or abs(found) > MAX_INTEGER:
        raise HyperfitError(f"{path}, line 1: version {brief(found)}, expected a number")
    if found > version:
        raise HyperfitError(f"{path}, line 1: version {found} is later than {version}; pip install -U hyperfit-eval")


def _type_name(kinds: tuple[type, ...]) -> str:
    return " or ".join(k.__name__ for k in kinds)
