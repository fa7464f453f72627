"""The rule of the citation blocker read off ids and decoded text, apart from the package's index, matcher and pieces.

It is slow and plain on purpose: any engine's output can be held against it.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


class Violation(NamedTuple):
    """A generated token that goes on with a copy and starts a word."""

    row: int
    position: int
    text: str
    """The n-gram and the token, decoded."""


def violations(
    generated: Iterable[Sequence[int]], corpus: Iterable[Sequence[int]], tokenizer: Any, ngram: int = 5
) -> list[Violation]:
    """Tokens that the blocker must not have let through.

    Args:
        generated: ids of each row without its prompt.
        corpus: the indexed sequences.
    """
    table = defaultdict(set)
    for sequence in corpus:
        for start in range(len(sequence) - ngram):
            table[tuple(sequence[start : start + ngram])].add(sequence[start + ngram])
    return [
        Violation(number, place, tokenizer.decode(row[place - ngram : place + 1]))
        for number, row in enumerate(map(list, generated))
        for place in range(ngram, len(row))
        if row[place] in table.get(tuple(row[place - ngram : place]), ()) and starts_word(tokenizer, row[: place + 1])
    ]


def starts_word(tokenizer: Any, ids: Sequence[int]) -> bool:
    """Does the last of `ids` start a word, by the text with it and without it?"""
    if ids[-1] in tokenizer.all_special_ids:
        return False
    before, after = (tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in (ids[:-1], ids))
    if not after.startswith(before) or after == before or "\ufffd" in (before[-1:], after[len(before)]):
        return False  # inside a character
    first, last = after[len(before)], before[-1:]
    if unicodedata.category(first)[0] == "M" or unicodedata.category(first) == "Cf":
        return False
    if first.isalpha() and unicodedata.name(first, "").startswith(_WITHOUT_SPACES):
        return True
    in_word = last.isalnum() or (_is_apostrophe(last) and before[-2:-1].isalpha())
    if _is_apostrophe(first):
        rest = after[len(before) + 1 :]
        return not (last.isalpha() and (not rest or rest[0].isalpha()))
    return not (in_word and first.isalnum())


def _is_apostrophe(character: str) -> bool:
    return character in ("'", "\u2019")
