"""The evaluation texts: 100 of each source, the same for every model (paper, Section 4)."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path

from .. import files
from ..errors import HyperfitError
from .contamination import word_ngrams
from .filters import MIN_TOKENS, min_tokens, problem
from .sources import SOURCES, Document

KIND = "texts"
VERSION = 1

MAX_PER_DOCUMENT = {"wikipedia": 3, "fiction": 1, "news": 1}
"""From one article or segment (`sources.SEGMENT_CHARS`): WikiText holds out 60 articles in each split."""
STARTS_TRIED = 3
"""Paragraphs of a section at which a passage may start: past these a text is no longer at its opening."""

_DEMO = Path(__file__).parent.parent / "demo" / "texts"


@dataclass(frozen=True)
class Passage:
    """A text to be cut to context and original continuation with the evaluated model's tokenizer."""

    id: str
    """Readable, and the same as long as the text is: wikipedia-3f2a9c1b."""
    source: str
    title: str | None
    text: str


@dataclass(frozen=True)
class TextSet:
    """The evaluation texts of a run, dealt in turn from each source, so that a `--limit` sees them all."""

    passages: list[Passage]
    dropped: dict[str, Counter[str]]
    """For each source how many candidate passages were dropped for which reason."""
    origins: dict[str, list[str]]
    """For each source the dataset, configuration and splits that were read."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of sources and texts; their order counts."""
        return files.fingerprint(part for p in self.passages for part in (p.source, p.text))

    def by_id(self) -> dict[str, str]:
        """Passage id to text."""
        return {passage.id: passage.text for passage in self.passages}


def select_texts(per_source: int = 100, sources: Sequence[str] = ("wikipedia", "fiction", "news")) -> TextSet:
    """Choose the evaluation texts, deterministically and without a tokenizer.

    Candidates start at a paragraph and run to the end of the paragraph with their 256th sure token.
    Those that pass the filters are ordered by tier (held-out splits, earlier months), by their place
    in the document (the lead first, openings of sections before later paragraphs) and by the SHA-256
    of the text; the first `per_source` that share no 13-gram with one before are taken. So the texts
    for a smaller `per_source` are among those for a larger one, and later tiers are not read when the
    earlier ones give enough.

    Raises:
        HyperfitError: an unknown source, a dataset that cannot be loaded, or too few texts.
    """
    for source in sources:
        if source not in SOURCES:
            raise HyperfitError(f"unknown source '{source}'; choose from {', '.join(SOURCES)}")
    if per_source < 1 or not sources:
        raise HyperfitError(f"{per_source} texts of {len(sources)} sources: at least one of each is needed")
    chosen: list[list[Passage]] = []
    dropped: dict[str, Counter[str]] = {}
    origins: dict[str, list[str]] = {}
    for source in dict.fromkeys(sources):
        dropped[source], origins[source] = Counter(), []
        passages = list(_take(source, per_source, dropped[source], origins[source]))
        if len(passages) < per_source:
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped[source].most_common())
            raise HyperfitError(
                f"{source}: {len(passages)} texts found, {per_source} are needed (read: {', '.join(origins[source])}; "
                f"dropped: {reasons or 'none'}); ask for {len(passages)} a source or give a fuller copy of the dataset"
            )
        chosen.append(passages)
    return TextSet([passage for turn in zip(*chosen, strict=True) for passage in turn], dropped, origins)


def further_texts(number: int, after: int = 100, sources: Sequence[str] = ("wikipedia", "fiction", "news")) -> TextSet:
    """Choose texts that are not among `select_texts(after, sources)`, by the same rules (paper, Section 4.2: 1000).

    Args:
        number: how many, in equal parts from the sources; where a source has no more there are fewer.
        after: how many of each source are left out.
    """
    chosen: list[list[Passage]] = []
    dropped: dict[str, Counter[str]] = {}
    origins: dict[str, list[str]] = {}
    for source in sources:
        dropped[source], origins[source] = Counter(), []
        wanted = after + -(-number // len(sources))
        chosen.append(list(_take(source, wanted, dropped[source], origins[source]))[after:])
    in_turn = [passage for turn in zip_longest(*chosen) for passage in turn if passage is not None]
    return TextSet(in_turn[:number], dropped, origins)


def cut(
    passage_ids: Sequence[int], context_tokens: int = 32, total_tokens: int = 256, name: str = "text"
) -> tuple[list[int], list[int]]:
    """Cut the ids of a passage to (context, original continuation), by default 32 and 224 tokens.

    Args:
        passage_ids: ids by the evaluated model's tokenizer, shape (T,), no BOS or other special token.
        name: the passage's id, for the error.

    Raises:
        HyperfitError: fewer than `total_tokens` ids.
    """
    if not 0 < context_tokens < total_tokens:
        raise HyperfitError(f"{context_tokens} context tokens of {total_tokens}: expected 0 < context < total")
    if len(passage_ids) < total_tokens:
        raise HyperfitError(
            f"{name}: {len(passage_ids)} tokens, {total_tokens} are needed ({context_tokens} of context and "
            f"{total_tokens - context_tokens} of original continuation); give a longer text"
        )
    return list(passage_ids[:context_tokens]), list(passage_ids[context_tokens:total_tokens])


def write_texts(path: str | Path, texts: TextSet) -> None:
    """Write the texts as JSON lines (docs/formats.md)."""
    header = {"fingerprint": texts.fingerprint, "dropped": texts.dropped, "origins": texts.origins}
    files.write_jsonl(path, KIND, VERSION, header, map(asdict, texts.passages))


def read_texts(path: str | Path) -> TextSet:
    """Read what `write_texts` wrote.

    Raises:
        HyperfitError: with line and field, for anything that is not such a file or was changed since.
    """
    header, rows = files.read_jsonl(path, KIND, VERSION)
    reasons = files.field(path, 1, header, "dropped", dict)
    dropped = {source: Counter(files.field(path, 1, reasons, source, dict)) for source in reasons}
    passages: list[Passage] = []
    lines: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        values = {name: files.field(path, line, row, name, str) for name in ("id", "source", "text")}
        passage = Passage(title=files.field(path, line, row, "title", (str, type(None))), **values)
        if passage.id in lines:
            raise HyperfitError(f"{path}, line {line}: id '{passage.id}' was on line {lines[passage.id]} already")
        lines[passage.id] = line
        passages.append(passage)
    texts = TextSet(passages, dropped, files.field(path, 1, header, "origins", dict))
    if texts.fingerprint != files.field(path, 1, header, "fingerprint", str):
        raise HyperfitError(f"{path}: the texts do not match the fingerprint in line 1; were they edited?")
    return texts


def demo_texts() -> TextSet:
    """The 60 prompt passages that ship with the package: 20 each of fiction, encyclopedic and news style."""
    return read_texts(_DEMO / "prompts.jsonl")


def demo_corpus_path() -> Path:
    """The training passages that ship with the package, a JSON-lines corpus with a "text" field."""
    return _DEMO / "train.jsonl"


def _take(source: str, wanted: int, dropped: Counter[str], origins: list[str]) -> Iterator[Passage]:
    """Yield up to `wanted` passages of a source, and note what was dropped and read for them."""
    taken = 0
    seen: set[tuple[str, ...]] = set()
    for tier in SOURCES[source]():
        if tier.origin not in origins:
            origins.append(tier.origin)
        candidates = chain.from_iterable(_candidates(source, document, dropped) for document in tier.documents)
        for _, digest, title, text in sorted(candidates, key=lambda candidate: candidate[:2]):
            ngrams = word_ngrams(text)
            if not seen.isdisjoint(ngrams):
                dropped["shares 13 words with another"] += 1
                continue
            seen.update(ngrams)
            yield Passage(f"{source}-{digest[:8]}", source, title, text)
            taken += 1
            if taken == wanted:
                return


def _candidates(
    source: str, document: Document, dropped: Counter[str]
) -> Iterator[tuple[tuple[int, int], str, str | None, str]]:
    """Yield (place, digest, title, text) of a document's passages that pass the filters, one a section."""
    place = 0
    for section in document.sections:
        for start in range(min(STARTS_TRIED, len(section))):
            text = _from(section, start)
            reason = problem(text)
            if reason is None:
                yield (place, start), _digest(text), document.title, text
                place += 1
                break
            dropped[reason] += 1
        if place == MAX_PER_DOCUMENT[source]:
            return


def _from(section: list[str], start: int) -> str:
    """Paragraphs from `start` up to the one in which MIN_TOKENS is reached, or to the section's end."""
    end, tokens = start, 0
    while end < len(section) and tokens < MIN_TOKENS:
        tokens += min_tokens(section[end])
        end += 1
    return "\n\n".join(section[start:end])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
