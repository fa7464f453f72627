"""Text from elsewhere, made harmless for what it is shown in: a terminal, Markdown, HTML, or a CSV cell.

The one place for it: names of models, titles and signatures come out of files that others publish.
"""

import html
import re
import unicodedata
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters that a spreadsheet takes for the beginning of a formula, the full-width forms included."""
_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")
_BLOCK = re.compile(r"^(\s*)(#|[-+](?=\s))")
_ADDRESS = re.compile(r"(?i)\b(https?|ftp|www)(?=[:.])")
_KEPT = {"‌", "‍"}
"""Joiners that some scripts need, though they belong to the format characters."""


def for_terminal(text: str) -> str:
    r"""One line without control characters: escape sequences, line breaks, reversals of direction are shown as codes.

    Example:
        for_terminal("a\\x1b[2J\\nb") == "a\\\\x1b[2J b"
    """
    return "".join(map(_visible, " ".join(text.splitlines()) if not text.isprintable() else text))


def for_markdown(text: str) -> str:
    r"""One line of plain text in Markdown, also inside a table cell: no links, emphasis, code, HTML or new rows.

    Example:
        for_markdown("[a](b)|<i>") == "\\[a\\](b)\\|&lt;i&gt;"
    """
    plain = _MARKDOWN.sub(r"\\\1", for_terminal(text))
    plain = html.escape(plain, quote=False)
    plain = _BLOCK.sub(r"\1\\\2", plain)
    # Renderers make links of bare addresses, too; an entity in place of the letter stops that.
    return _ADDRESS.sub(lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", plain)


def markdown_code(text: str) -> str:
    """The same as code, for signatures and file names: between more backticks than it has in a row."""
    plain = for_terminal(text)
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{ticks}{space}{plain}{space}{ticks}"


def for_csv(value: Any) -> Any:
    """A cell of a CSV file: a text that a spreadsheet would run as a formula gets an apostrophe in front.

    Line breaks stay, for the texts of a study: the csv module quotes them. Numbers are left as they are.
    """
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.lstrip(" ")[:1] in _FORMULA and value else value


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and character not in _KEPT):
        return character.encode("unicode_escape", "backslashreplace").decode()
    return character
