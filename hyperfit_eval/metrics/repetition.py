"""How varied and how repetitive texts are: type-token ratio, rep-n, distinct-n, compression, Zipf.

The type-token ratio is the paper's measure (Table 1, Appendix A.1). The others are those that readers
of work on degeneration look for beside it; each says where it comes from.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from ..errors import HyperfitError
from .tokens import Corpus, Tokens, TokenRows, encode_sequences


def type_token_ratio(token_ids: Tokens, window: int = 96) -> float:
    """Share of distinct tokens among the last `window` ones of a continuation (paper, A.1).

    The ratio falls with length: only ratios over the same window can be compared.

    Args:
        token_ids: shape (T,), ids or words of the continuation only: no context, EOS or padding.
        window: in tokens, counted from the end.
    Returns:
        Fraction in (0, 1]; reports show it x100.
    Raises:
        HyperfitError: fewer than `window` tokens.
    Example:
        type_token_ratio([1, 2, 1, 3], window=4) == 0.75
    """
    _check_window(window)
    if len(token_ids) < window:
        raise HyperfitError(f"{len(token_ids)} tokens, the type-token ratio needs {window}; generate longer texts")
    rows, size = encode_sequences([token_ids[len(token_ids) - window :]])
    return size / len(rows.tokens)


def ttr_curve(sequences: Corpus, window: int = 96) -> np.ndarray:
    """Type-token ratio of the most recent `window` tokens as each text grows (paper, Figure 9).

    Args:
        sequences: N sequences of token ids or words.
        window: in tokens.
    Returns:
        Shape (N, T - window + 1), float64, with T the longest text: column c is the ratio after
        window + c tokens; NaN beyond the end of a shorter text.
    Raises:
        HyperfitError: no text of `window` tokens.
    """
    _check_window(window)
    rows, _ = encode_sequences(sequences)
    lengths = rows.lengths
    longest = int(lengths.max())
    if longest < window:
        raise HyperfitError(f"longest text: {longest} tokens, the type-token ratio needs {window}")
    count, steps = len(rows), longest - window + 1
    row = np.repeat(np.arange(count), lengths)
    place = np.arange(len(row)) - rows.offsets[row]
    # A token is the first of its type in the windows that begin after its previous occurrence.
    order = np.argsort(_sortable(row, rows.tokens), kind="stable")
    same = (np.diff(rows.tokens[order]) == 0) & (np.diff(row[order]) == 0)
    previous = np.full(len(row), -1)
    previous[order[1:][same]] = place[order[:-1][same]]
    begin = np.clip(np.maximum(previous, place - window) + 1, 0, steps)
    end = np.minimum(place + 1, steps)
    firsts = np.zeros((count, steps + 1), dtype=np.int64)
    np.add.at(firsts, (row, begin), 1)
    np.add.at(firsts, (row, np.maximum(begin, end)), -1)
    curve = firsts.cumsum(axis=1)[:, :steps] / window
    curve[np.arange(steps) > (lengths - window)[:, None]] = np.nan
    return curve


def repetition(token_ids: Tokens, n: int = 4) -> float:
    """rep-n: share of n-grams that occurred before (Welleck et al., 2020; Su et al., 2022).

    Args:
        token_ids: ids or words of one text.
        n: order, 1 or more.
    Returns:
        1 - distinct / all, in [0, 1).
    Raises:
        HyperfitError: fewer than n tokens.
    Example:
        repetition([1, 2, 1, 2, 1], n=2) == 0.5
    """
    return 1.0 - distinct_n([token_ids], n)


def diversity(token_ids: Tokens) -> float:
    """Product of 1 - rep-n for n = 2, 3, 4 (Su et al., 2022); errors as in `repetition`.

    Example:
        diversity([1, 2, 1, 2, 1]) == 1/2 * 2/3 * 1
    """
    return float(np.prod([1 - repetition(token_ids, n) for n in (2, 3, 4)]))


def distinct_n(sequences: Corpus, n: int = 1) -> float:
    """distinct-n: share of distinct n-grams among all those of all texts (Li et al., 2016).

    It falls as texts are added: only sets of the same size can be compared.

    Raises:
        HyperfitError: no text of n tokens.
    """
    if n < 1:
        raise HyperfitError(f"n = {n}, expected 1 or more")
    rows, _ = encode_sequences(sequences)
    ids = _ngram_ids(rows, n)
    if len(ids) == 0:
        raise HyperfitError(f"no text of {n} tokens; {n}-grams need at least one")
    return len(np.unique(ids)) / len(ids)


def compression_ratio(texts: Sequence[str]) -> float:
    """Size of the texts, one a line, over their size when compressed by zlib, level 9 (Shaib et al., 2024).

    Higher is more redundant, within texts and between them. It grows with the number of texts.

    Raises:
        HyperfitError: a single string, or no characters at all.
    """
    if isinstance(texts, str):
        raise HyperfitError(f"texts: the string {texts[:20]!r}, expected a list of texts")
    data = "\n".join(texts).encode()
    if not data:
        raise HyperfitError("texts: no characters; a compression ratio needs some")
    return len(data) / len(zlib.compress(data, 9))


def zipf_slope(sequences: Corpus, max_rank: int = 5000) -> float:
    """Slope of log frequency over log rank of the tokens of all texts (Zipf; Holtzman et al., 2020).

    Args:
        sequences: token ids or words.
        max_rank: the rarer types beyond this rank are left out.
    Returns:
        A negative number, about -1 for English words; Holtzman et al. print it without the sign.
    Raises:
        HyperfitError: fewer than two distinct tokens, through which no line can be laid.
    """
    rows, size = encode_sequences(sequences)
    if size < 2:
        raise HyperfitError(f"{size} distinct tokens, a Zipf slope needs at least 2")
    frequencies = np.sort(np.bincount(rows.tokens)[1:])[::-1][:max_rank]
    ranks = np.log(np.arange(1, len(frequencies) + 1))
    centred = ranks - ranks.mean()
    return float(centred @ np.log(frequencies) / (centred @ centred))


def _check_window(window: int) -> None:
    if window < 1:
        raise HyperfitError(f"window {window}, expected 1 token or more")


def _sortable(row: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return row * (int(tokens.max(initial=0)) + 1) + tokens


def _ngram_ids(rows: TokenRows, n: int) -> np.ndarray:
    """An integer for each n-gram of each row, equal for equal n-grams, shape (number of n-grams,)."""
    row = np.repeat(np.arange(len(rows)), rows.lengths)
    ids = rows.tokens.astype(np.int64)
    for _ in range(n - 1):
        inside = row[:-1] == row[1:]
        pairs = (ids[:-1] * (ids.max(initial=0) + 1) + ids[1:])[inside]
        row, ids = row[:-1][inside], np.unique(pairs, return_inverse=True)[1]
    return ids
