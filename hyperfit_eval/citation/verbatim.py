"""How much of its training set does a model recite? Counted on generated ids, against the citation index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..tokenizers import plain_ids
from .index import CitationIndex
from .matcher import CitationMatcher


@dataclass(frozen=True)
class VerbatimCopies:
    """Some continuations, and what of them is copied."""

    texts: int
    tokens: int
    citations: int
    """Tokens that continue a matched n-gram and start a word: what the blocker bans."""
    longest: tuple[int, ...]
    """Longest run, for each text, of tokens whose n-grams all occur in the training set; 0 without any."""

    @property
    def mean_longest(self) -> float:
        """In tokens."""
        return sum(self.longest) / len(self.longest)

    def row(self, engine: str, blocker: str) -> str:
        """A row of `TABLE`."""
        return (
            f"| {engine} | {blocker} | {self.citations:,} of {self.tokens:,} | "
            f"{self.mean_longest:.1f} | {max(self.longest)} |"
        )


TABLE = (
    "| engine | blocker | tokens that cite | longest copy, mean | longest copy, most |\n"
    "| --- | --- | ---: | ---: | ---: |"
)


def verbatim_copies(index: CitationIndex, continuations: Sequence[Sequence[int]]) -> VerbatimCopies:
    """Count what `continuations`, token ids without their prompts, recite."""
    matcher = CitationMatcher(index)
    rows = [list(row) for row in continuations]
    citations = sum(
        row[place] in matcher.banned_after(row[place - index.ngram : place]).ids
        for row in rows
        for place in range(index.ngram, len(row))
    )
    longest = tuple(max((overlap.length for overlap in index.find(row)), default=0) for row in rows)
    return VerbatimCopies(len(rows), sum(map(len, rows)), citations, longest)


def training_openings(index: CitationIndex, tokenizer: Any, count: int, tokens: int) -> list[tuple[str, list[int]]]:
    """Beginnings of training sequences whose text has the same ids again, as text and as ids.

    Returns:
        At most `count`, in the corpus's order.
    """
    openings: list[tuple[str, list[int]]] = []
    for row in index.sequences():
        ids = row[:tokens].tolist()
        text = tokenizer.decode(ids)
        if len(ids) == tokens and plain_ids(tokenizer, text) == ids:
            openings.append((text, ids))
        if len(openings) == count:
            break
    return openings
