"""Training text that shares 13-grams with evaluation text.

Thirteen words in a row is the length by which language model papers call two texts overlapping:
long enough that chance and set phrases stay below it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import HyperfitError

NGRAM_WORDS = 13

_WORD = re.compile(r"\w+(?:['’]\w+)*")


class Overlap(NamedTuple):
    """One training text and one evaluation text with the first n-gram that they share."""

    training: str
    evaluation: str
    ngram: str


def normalized_words(text: str) -> list[str]:
    """Lower-case words without punctuation; a typographic apostrophe counts as a plain one."""
    return _WORD.findall(text.lower().replace("’", "'"))


def word_ngrams(text: str, n: int = NGRAM_WORDS) -> list[tuple[str, ...]]:
    """All n-grams of normalized words, in order; [] for a text of fewer than `n` words."""
    words = normalized_words(text)
    return list(zip(*(words[start:] for start in range(n)), strict=False))


def shared_ngrams(training: Mapping[str, str], evaluation: Mapping[str, str], n: int = NGRAM_WORDS) -> list[Overlap]:
    """Pairs of texts that share an n-gram of words, in the order of `training`.

    Args:
        training: name to text, for instance "block 17" to its decoded text.
        evaluation: id to text of the evaluation passages.
    """
    owners = {gram: name for name, text in evaluation.items() for gram in word_ngrams(text, n)}
    overlaps: list[Overlap] = []
    for name, text in training.items():
        first_by_owner: dict[str, tuple[str, ...]] = {}
        for gram in word_ngrams(text, n):
            if gram in owners:
                first_by_owner.setdefault(owners[gram], gram)
        overlaps.extend(Overlap(name, owner, " ".join(gram)) for owner, gram in first_by_owner.items())
    return overlaps


def refuse_contamination(training: Iterable[str], evaluation: Mapping[str, str]) -> None:
    """Raise when a training text shares a 13-gram with an evaluation text.

    Args:
        training: texts of the training blocks, in order; blocks are named by their number, from 0.
        evaluation: id to text of the evaluation passages (`TextSet.by_id()`).

    Raises:
        HyperfitError: names the first pair and how many training texts overlap.
    """
    overlaps = shared_ngrams({f"training block {i}": text for i, text in enumerate(training)}, evaluation)
    if overlaps:
        first = overlaps[0]
        count = len({overlap.training for overlap in overlaps})
        raise HyperfitError(
            f"{first.training} and evaluation text {first.evaluation} share '{first.ngram}' ({count} training blocks "
            f"overlap); cut the blocks again with the evaluation texts left out, or choose another --corpus"
        )
