"""Corpora to train on: a Hub dataset or a local file, as a list of texts."""

import logging
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

logger = logging.getLogger(__name__)

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

    Blank texts and null ones are left out, whatever the format.

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
    if path.name.endswith(".txt"):
        return re.split(r"\n(?:[ \t]*\n){2,}", files.read_text(path))
    if path.name.endswith(".jsonl"):
        return _read_lines(path, files.read_text(path), column)
    if path.name.endswith(".jsonl.xz"):
        return _read_lines(path, _unpack(path), column)
    if path.name.endswith(".parquet"):
        return _read_parquet(path, column)
    raise HyperfitError(f"{path}: not a {', '.join(SUFFIXES)} file; convert it to one of these")


def _unpack(path: Path) -> str:
    try:
        with lzma.open(path, "rt", encoding="utf-8-sig") as packed:
            return packed.read()
    except UnicodeDecodeError as error:
        raise HyperfitError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise HyperfitError(f"{path}: cannot be read ({error}); is the file whole?") from error


def _read_lines(path: Path, content: str, column: str) -> list[str]:
    values = []
    for number, row in files.iter_json_lines(path, content):
        if not isinstance(row, dict):
            raise HyperfitError(f"{path}, line {number}: a {type(row).__name__}, an object was expected")
        if column not in row:
            raise HyperfitError(
                f"{path}, line {number}: no field '{column}' (found: {', '.join(row)}); name it with --text_column"
            )
        if not isinstance(row[column], (str, type(None))):
            raise HyperfitError(
                f"{path}, line {number}: field '{column}' is {row[column]!r:.60}, text was expected; name a field that "
                "holds text with --text_column"
            )
        values.append(row[column])
    return _texts_alone(str(path), values)


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
    values = list(values)
    if not all(isinstance(value, (str, type(None))) for value in values):
        raise HyperfitError(f"{name}: column '{column}' does not hold text; name one that does with --text_column")
    return _texts_alone(name, values)


def _texts_alone(name: str, values: list[str | None]) -> list[str]:
    """The texts without the nulls, which a dataset of any format holds where a text is missing."""
    texts = [value for value in values if value is not None]
    if len(texts) < len(values):
        logger.warning(
            "%s: %d of %d rows have null for a text and are left out", name, len(values) - len(texts), len(values)
        )
    return texts
