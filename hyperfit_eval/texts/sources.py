"""The three text sources of the paper (Section 4), loaded with `datasets` from their Hub ids.

A document is what a person would call one text: a Wikipedia article, a news article, a segment of a
novel. It holds sections, and a section holds paragraphs that follow one another.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import HyperfitError
from .detokenize import detokenize

WIKITEXT = ("Salesforce/wikitext", "wikitext-103-raw-v1")
FICTION = ("alasdairforsythe/text-english-code-fiction-nonfiction", "fiction_100mb.txt")
NEWS = "RealTimeData/bbc_news_alltime"

WIKITEXT_SPLITS = ("test", "validation", "train")
"""Held-out articles first: train is part of many training mixtures."""
NEWS_MONTHS = ("2024-01", "2024-02", "2024-03")
"""After the training data of the paper's models ends (Llama 3.1: December 2023)."""
SEGMENT_CHARS = 30_000
"""The fiction file does not mark where a novel ends. A segment stands in for a document: at most one
passage comes from each 30,000 characters, so at most about 17 from a novel of 500,000."""

_TITLE = re.compile(r"^ = [^=].* = \n?$")
_HEADING = re.compile(r"^ = .* = \n?$")
_CHAPTER = re.compile(
    r"(?:chapter|book|part|volume|prologue|epilogue)\b.{0,60}|[ivxlc]+\.?|\d+\.?|[\W_]+", re.IGNORECASE
)
_LINE_OF_SENTENCES = re.compile(r"[.?!…][\"'”’)]*$")


@dataclass(frozen=True)
class Document:
    """One article or one segment of a novel."""

    title: str | None
    sections: list[list[str]]
    """Each a run of paragraphs without a heading between them."""


@dataclass(frozen=True)
class Tier:
    """Documents to be used before those of the next tier; `origin` says where they are from."""

    origin: str
    documents: list[Document]


def wikipedia() -> Iterator[Tier]:
    """Articles of WikiText-103, detokenized: first those of test, then validation, then train."""
    splits = load_hub(*WIKITEXT)
    for split in WIKITEXT_SPLITS:
        if split in splits:
            yield Tier(f"{'/'.join(WIKITEXT)} {split}", list(articles(splits[split]["text"])))


def fiction() -> Iterator[Tier]:
    """Segments of the fiction file: every tenth from the first, then every tenth from the second, and so on."""
    path, name = FICTION
    # One row for the whole file: split by lines, the empty lines that part chapters would be rows too.
    rows = load_hub(path, data_files=name, split="train", sample_by="document", encoding_errors="replace")
    documents = [document for text in rows["text"] for document in segments(chapters(text))]
    # A tenth of the real file is plenty, and spread over it; filtering all of it takes ten times as long.
    for first in range(10):
        yield Tier(f"{path}/{name}", documents[first::10])


def news() -> Iterator[Tier]:
    """News articles month by month."""
    for month in news_months():
        rows = load_hub(NEWS, month, split="train")
        documents = [
            Document(title, [paragraphs(content)])
            for title, content in zip(rows["title"], rows["content"], strict=True)
            if content
        ]
        yield Tier(f"{NEWS} {month}", documents)


def news_months() -> list[str]:
    """Those of NEWS_MONTHS that the dataset has, or where it has none of them every month there is, in order."""
    listed = _call_hub(NEWS, "get_dataset_config_names", NEWS)
    return [month for month in NEWS_MONTHS if month in listed] or sorted(listed)


SOURCES: dict[str, Callable[[], Iterator[Tier]]] = {"wikipedia": wikipedia, "fiction": fiction, "news": news}


def articles(lines: Iterable[str]) -> Iterator[Document]:
    """Rebuild WikiText articles from rows of one line: ' = Title = ', ' = = Section = = ', paragraphs."""
    title: str | None = None
    sections: list[list[str]] = [[]]
    for line in lines:
        if _TITLE.match(line):
            if title is not None:
                yield Document(title, [section for section in sections if section])
            title, sections = detokenize(line.strip()[1:-1]), [[]]
        elif _HEADING.match(line):
            sections.append([])
        elif line.strip():
            sections[-1].append(detokenize(line))
    if title is not None:
        yield Document(title, [section for section in sections if section])


def chapters(text: str) -> list[list[str]]:
    """Split a plain text of novels into chapters of paragraphs: at two blank lines and at chapter headings."""
    found = []
    for part in re.split(r"\n(?:[ \t]*\n){2,}", text.replace("\r\n", "\n")):
        chapter: list[str] = []
        for paragraph in paragraphs(part):
            if _CHAPTER.fullmatch(paragraph):
                found.append(chapter)
                chapter = []
            else:
                chapter.append(paragraph)
        found.append(chapter)
    return [chapter for chapter in found if chapter]


def segments(all_chapters: Iterable[list[str]], size: int = SEGMENT_CHARS) -> Iterator[Document]:
    """Deal chapters, in order, to documents of at least `size` characters; a long chapter goes to several."""
    sections: list[list[str]] = []
    chars = 0
    for chapter in all_chapters:
        section: list[str] = []
        for paragraph in chapter:
            section.append(paragraph)
            chars += len(paragraph)
            if chars >= size:
                yield Document(None, [*sections, section])
                sections, section, chars = [], [], 0
        if section:
            sections.append(section)
    if sections:
        yield Document(None, sections)


def paragraphs(text: str) -> list[str]:
    """Split at blank lines; undo hard wrapping; keep the line breaks of verse, lists and tables.

    Lines that are longer than a page is wide, or each end a sentence, are paragraphs of their own.
    """
    found = []
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        lines = [" ".join(line.split()) for line in block.split("\n") if line.strip()]
        if len(lines) < 2:
            found.extend(lines)
        elif all(45 <= len(line) <= 90 for line in lines[:-1]):
            found.append(" ".join(lines))
        elif sum(map(len, lines)) > 90 * len(lines) or all(map(_LINE_OF_SENTENCES.search, lines)):
            found.extend(lines)
        else:
            found.append("\n".join(lines))
    return found


def load_hub(path: str, config: str | None = None, **options: Any) -> Any:
    """`datasets.load_dataset(path, config, **options)`, with one line for whatever prevents it.

    A folder of that name under the working directory is taken before the Hub, as `datasets` does.

    Raises:
        HyperfitError: not on the Hub, no connection and not cached, no such configuration, split or file.
    """
    return _call_hub(path, "load_dataset", path, config, **options)


def _call_hub(path: str, function: str, *args: Any, **options: Any) -> Any:
    # Imported late: it takes a second, and most commands need no dataset.
    import datasets

    try:
        return getattr(datasets, function)(*args, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        if isinstance(error, ValueError):
            advice = "name a configuration, split and file that it has"
        else:
            advice = (
                f"check the id, and connect to the Hub once (without HF_HUB_OFFLINE) so that it is cached, "
                f"or run from a folder that holds {path}/"
            )
        raise HyperfitError(f"dataset {path} cannot be loaded ({reason}); {advice}") from error
