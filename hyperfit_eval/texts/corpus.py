"""Corpora to train on: a Hub dataset or a local file, as a list of texts."""

import json
import lzma
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from .. import files
from ..errors import HyperfitError
from . import sources

SUFFIXES = (".txt", ".jsonl", ".jsonl.xz", ".parquet")


@dataclass(frozen=True)
class Corpus:
    """Texts in their order, with the name they were asked for by."""

    name: str
    texts: list[str]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the texts; their order and borders count."""
        return files.fingerprint(self.texts)


def load_corpus(
    name_or_path: str | Path,
    split: str = "train",
    text_column: str | None = None,
    data_files: str | None = None,
    config: str | None = None,
) -> Corpus:
    """Load a corpus from a local file or from the Hub.

    Args:
        name_or_path: a .txt file (texts are parted by two or more blank lines), a .jsonl, .jsonl.xz or
            .parquet file, or a Hub dataset id. The three ids of `hyperfit_eval.texts.sources` need no
            more than the id: WikiText as detokenized articles, fiction as chapters, news of NEWS_MONTHS.
        split: of a Hub dataset; "train[:5%]" takes a slice (all of WikiText-103 takes two minutes to restore).
        text_column: where the text is, "text" by default.
        data_files, config: as in `datasets.load_dataset`.

    Raises:
        HyperfitError: no such file, dataset, split or column; a file of another kind; no text in it.
    """
    name = str(name_or_path)
    if Path(name).is_file() or name.endswith(SUFFIXES):
        texts = _read_file(Path(name), text_column or "text")
    else:
        texts = _read_hub(name, split, text_column, data_files, config)
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise HyperfitError(f"{name}: the corpus is empty; give one with text in it")
    return Corpus(name, texts)


def _read_file(path: Path, column: str) -> list[str]:
    if not path.is_file():
        raise HyperfitError(f"{path}: no such file; give a {', '.join(SUFFIXES)} file or a Hub dataset id")
    try:
        if path.name.endswith(".txt"):
            return re.split(r"\n(?:[ \t]*\n){2,}", path.read_text(encoding="utf-8"))
        if path.name.endswith(".jsonl"):
            return _read_lines(path, path.read_text(encoding="utf-8"), column)
        if path.name.endswith(".jsonl.xz"):
            with lzma.open(path, "rt", encoding="utf-8") as packed:
                return _read_lines(path, packed.read(), column)
        if path.name.endswith(".parquet"):
            return _read_parquet(path, column)
    except UnicodeDecodeError as error:
        raise HyperfitError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise HyperfitError(f"{path}: cannot be read ({error}); is the file whole?") from error
    raise HyperfitError(f"{path}: not a {', '.join(SUFFIXES)} file; convert it to one of these")


def _read_lines(path: Path, content: str, column: str) -> list[str]:
    texts = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise HyperfitError(f"{path}, line {number}: not JSON ({error.msg}); is the file cut off?") from error
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            found = ", ".join(row) if isinstance(row, dict) else f"a {type(row).__name__}"
            raise HyperfitError(
                f"{path}, line {number}: no text in field '{column}' (found: {found}); name it with --text_column"
            )
        texts.append(row[column])
    return texts


def _read_parquet(path: Path, column: str) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        _require_column(str(path), column, table.schema_arrow.names)
        values = table.read(columns=[column])[column].to_pylist()
    except pyarrow.ArrowException as error:
        raise HyperfitError(f"{path}: no readable parquet file ({str(error).splitlines()[0]})") from error
    return _require_text(str(path), column, values)


def _read_hub(name: str, split: str, column: str | None, data_files: str | None, config: str | None) -> list[str]:
    if name == sources.WIKITEXT[0]:
        rows = sources.load_hub(name, config or sources.WIKITEXT[1], split=split)
        return ["\n\n".join(chain.from_iterable(article.sections)) for article in sources.articles(rows["text"])]
    if name == sources.FICTION[0]:
        options = {"sample_by": "document", "encoding_errors": "replace"}
        rows = sources.load_hub(name, data_files=data_files or sources.FICTION[1], split=split, **options)
        return ["\n\n".join(chapter) for text in rows["text"] for chapter in sources.chapters(text)]
    months = sources.news_months() if name == sources.NEWS and config is None else [config]
    column = column or ("content" if name == sources.NEWS else "text")
    texts = []
    for each in months:
        rows = sources.load_hub(name, each, split=split, data_files=data_files)
        _require_column(name, column, rows.column_names)
        texts += _require_text(name, column, rows[column])
    return texts


def _require_column(name: str, column: str, columns: list[str]) -> None:
    if column not in columns:
        raise HyperfitError(f"{name}: no column '{column}' (found: {', '.join(columns)}); name it with --text_column")


def _require_text(name: str, column: str, values: Iterable[Any]) -> list[str]:
    values = [value for value in values if value is not None]
    if not all(isinstance(value, str) for value in values):
        raise HyperfitError(f"{name}: column '{column}' does not hold text; name one that does with --text_column")
    return values
