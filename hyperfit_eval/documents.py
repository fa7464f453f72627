"""JSON and YAML that somebody else may have written, read with types and one error path.

A `Value` is one value with the file and the field that it stands in. Its methods return what the caller
expects, or raise a HyperfitError that names both.
"""

import json
import math
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from .errors import HyperfitError

T = TypeVar("T")

MAX_BYTES = 256 * 2**20
MAX_YAML_BYTES = 2**20
MAX_DEPTH = 64
"""Most objects and lists inside one another; what walks a document later may recurse."""
MAX_TEXT = 2000
"""Characters of a name, a title or a signature."""
MAX_INTEGER = 2**53
"""Larger integers are not exact in JSON."""
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Value:
    """One value of a document."""

    content: Any
    file: str
    """How the file is called in errors."""
    field: str = ""
    """Such as `evaluations[0].title`; empty for the whole document."""

    def __getitem__(self, name: str) -> "Value":
        """The field `name` of an object, which must be there."""
        value = self.get(name)
        if value is None:
            raise HyperfitError(f"{self.file}: {self._of_field()}no '{name}', or null")
        return value

    def get(self, name: str) -> "Value | None":
        """The field `name` of an object; None where it is missing or null."""
        content = self._of_type(dict, "an object").get(name)
        return None if content is None else self._inner(name, content)

    def items(self) -> Iterator[tuple[str, "Value"]]:
        """Names and values of an object that are not null."""
        for name, content in self._of_type(dict, "an object").items():
            Value(name, self.file, f"a name in {self.field}").text()
            if content is not None:
                yield name, self._inner(name, content)

    def names(self) -> set[str]:
        """The names of an object's fields."""
        return {name for name, _ in self.items()}

    def elements(self) -> "list[Value]":
        """The elements of a list."""
        contents = self._of_type(list, "a list")
        return [Value(content, self.file, f"{self.field}[{at}]") for at, content in enumerate(contents)]

    def text(self, limit: int = MAX_TEXT) -> str:
        """A text of at most `limit` characters that can be encoded."""
        content: str = self._of_type(str, "text")
        if len(content) > limit:
            raise self.error(f"at most {limit:,} characters")
        if not content.isascii() and any("\ud800" <= character <= "\udfff" for character in content):
            raise self.error("text without lone surrogates")
        return content

    def number(self) -> float:
        """A finite number."""
        content = self._of_type((int, float), "a number")
        if not abs(content) <= 1e300:  # NaN compares as false
            raise self.error("a finite number")
        return float(content)

    def integer(self, low: int = 0, high: int = MAX_INTEGER) -> int:
        """An integer from `low` to `high`; 5.0 is one."""
        content = self._of_type((int, float), "an integer")
        if not low <= content <= high or content != int(content):
            raise self.error(f"an integer from {low} to {high}")
        return int(content)

    def flag(self) -> bool:
        """True or false."""
        return bool(self._of_type(bool, "true or false"))

    def is_number(self) -> bool:
        """Whether it is a number at all, finite or not."""
        return isinstance(self.content, int | float) and not isinstance(self.content, bool)

    def is_finite(self) -> bool:
        """Whether it is a number that `number` returns."""
        return self.is_number() and abs(self.content) <= 1e300

    def optional(self, name: str, read: Callable[["Value"], T]) -> T | None:
        """`read` of the field `name`; None where it is missing or null."""
        value = self.get(name)
        return None if value is None else read(value)

    def error(self, expected: str) -> HyperfitError:
        """The error that this value is not what was expected."""
        return HyperfitError(f"{self.file}: {self._of_field()}{brief(self.content)}, expected {expected}")

    def _of_type(self, kinds: Any, expected: str) -> Any:
        is_flag = isinstance(self.content, bool) and kinds is not bool
        if is_flag or not isinstance(self.content, kinds):
            raise self.error(expected)
        return self.content

    def _inner(self, name: str, content: Any) -> "Value":
        return Value(content, self.file, f"{self.field}.{name:.80}".lstrip("."))

    def _of_field(self) -> str:
        return f"field '{self.field}' is " if self.field else ""


def read_document(path: Path, shown: str | None = None) -> Value:
    """The JSON value in a file; NaN and Infinity are let through to where a number is read.

    Args:
        shown: how the file is called in errors; by default its path.
    Raises:
        HyperfitError: no regular file, too large, not UTF-8, not JSON, or nested too deeply.
    """
    name = shown or str(path)
    return Value(parse_json(read_regular(path, MAX_BYTES, name), name), name)


def parse_json(text: str, name: str, line: int = 1) -> Any:
    r"""A JSON value from text that begins at a line of the file `name`.

    Raises:
        HyperfitError: with the line, for what is not JSON, nested too deeply, or half a character: an emoji that
            another tool cut in two leaves an escape such as \ud83d, which no tokenizer, page or file takes.
    """
    where = name if "\n" in text else f"{name}, line {line}"
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        at = f"{name}, line {line + error.lineno - 1}"
        raise HyperfitError(f"{at}: not JSON ({error.msg}); is the file cut off?") from error
    except RecursionError as error:
        raise _too_deep(where) from error
    except ValueError as error:  # an integer of thousands of digits
        raise HyperfitError(f"{where}: a number has too many digits") from error
    _require_depth(content, where)
    # Escapes of whole characters come in pairs, and most files have none: only the suspicious are looked at.
    half = _HALF.search(json.dumps(content, ensure_ascii=False)) if _SURROGATE_ESCAPE.search(text) else None
    if half:
        raise HyperfitError(
            f"{where}: half a character (\\u{ord(half[0]):04x}); was a text cut inside an emoji? Write it whole"
        )
    return content


def parse_yaml(text: str, name: str, *, as_text: bool = False) -> Any:
    """A YAML value. Aliases are refused: a few lines of them stand for gigabytes.

    Args:
        as_text: leave scalars as they are written, `no` and `1.10` too.
    Raises:
        HyperfitError: not YAML, longer than 1 MiB, with aliases, or nested too deeply.
    """
    if len(text) > MAX_YAML_BYTES:
        raise HyperfitError(f"{name}: {len(text):,} characters of YAML, expected at most {MAX_YAML_BYTES:,}")
    try:
        content = yaml.load(text, Loader=_TextLoader if as_text else _PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise HyperfitError(f"{name}{place}: not YAML ({problem})") from error
    except RecursionError as error:
        raise _too_deep(name) from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        # PyYAML's constructors let these through: a date such as 2024-99-99, an int such as 0b.
        raise HyperfitError(f"{name}: not YAML ({error})") from error
    _require_depth(content, name)
    return content


def read_regular(path: Path, max_bytes: int | None = None, shown: str | None = None) -> str:
    """The UTF-8 text of a regular file, or of one that a link leads to; a byte order mark is left out.

    Raises:
        HyperfitError: missing, a folder, a pipe, a loop of links, too large, or not UTF-8.
    """
    name = shown or str(path)
    size = regular_size(path, name)
    if max_bytes is not None and size > max_bytes:
        raise HyperfitError(f"{name}: {size:,} bytes, expected at most {max_bytes:,}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise HyperfitError(f"{name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise HyperfitError(f"{name}: cannot be read ({error.strerror})") from error


def regular_size(path: Path, shown: str | None = None) -> int:
    """Size in bytes of a regular file, or of one that a link leads to. Opens nothing: a pipe would wait for ever.

    Raises:
        HyperfitError: missing, a folder, a pipe, or a loop of links.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise HyperfitError(f"{shown or path}: cannot be read ({reason})") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise HyperfitError(f"{shown or path}: cannot be read ({kind}, a file was expected)")
    return status.st_size


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not read", self.peek_event().start_mark)
        return super().compose_node(parent, index)


class _TextLoader(_PlainLoader):
    """The same with every scalar a text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _require_depth(content: Any, name: str) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]
        if not level:
            return
    raise _too_deep(name)


def _inside(outer: dict[str, Any] | list[Any]) -> Any:
    return outer.values() if isinstance(outer, dict) else outer


def _too_deep(name: str) -> HyperfitError:
    return HyperfitError(f"{name}: nested more than {MAX_DEPTH} levels deep")


def brief(content: Any) -> str:
    """A value for an error: short, and never by a repr of something large."""
    if isinstance(content, dict | list):
        return f"{'an object' if isinstance(content, dict) else 'a list'} of {len(content)}"
    if isinstance(content, int) and not isinstance(content, bool) and abs(content) > MAX_INTEGER:
        return f"an integer of {content.bit_length()} bits"
    if isinstance(content, float) and not math.isfinite(content):
        return {math.inf: "infinity", -math.inf: "-infinity"}.get(content, "NaN")
    return repr(content[:60] if isinstance(content, str) else content)
