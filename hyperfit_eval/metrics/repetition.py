"""How varied and how repetitive texts are: type-token ratio, rep-n, distinct-n, compression, Zipf.

The type-token ratio is the paper's measure (Table 1, Appendix A.1). The others are those that readers
of work on degeneration look for beside it; each says where it comes from.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from ..errors import HyperfitError
from .ngrams import GramIndex, ranks_in_runs
from .tokens import Corpus, Tokens, encode_sequences


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
    rows, distinct_tokens = encode_sequences(sequences)
    lengths = rows.lengths
    longest = int(lengths.max())
    if longest < window:
        raise HyperfitError(f"longest text: {longest} tokens, the type-token ratio needs {window}")
    steps = longest - window + 1
    # One sorted integer for each token: text, token, place. A token is new in the windows that begin
    # after the place where it occurred before.
    row = np.repeat(np.arange(len(rows)), lengths)
    place = np.arange(len(row)) - rows.offsets[row]
    keys = np.sort((row * (distinct_tokens + 1) + rows.tokens) * longest + place)
    texts_and_tokens, place = np.divmod(keys, longest)
    again = np.flatnonzero(np.diff(texts_and_tokens) == 0) + 1
    begin = np.maximum(place - window + 1, 0)
    begin[again] = np.maximum(begin[again], place[again - 1] + 1)
    end = np.minimum(place + 1, steps)
    begin = np.minimum(begin, end)
    base = texts_and_tokens // (distinct_tokens + 1) * (steps + 1)
    size = len(rows) * (steps + 1)
    changes = np.bincount(base + begin, minlength=size) - np.bincount(base + end, minlength=size)
    curve = changes.reshape(len(rows), steps + 1).cumsum(axis=1)[:, :steps] / window
    curve[np.arange(steps) > (lengths - window)[:, None]] = np.nan
    return curve


def repetition(token_ids: Tokens, n: int = 4) -> float:
    """rep-n: share of the n-grams of a text that occurred before in it (Welleck et al., 2020; Su et al., 2022).

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
    return float(repetitions([token_ids], n)[0])


def repetitions(sequences: Corpus, n: int = 4) -> np.ndarray:
    """`repetition` of each of N texts, shape (N,), float64."""
    index = _gram_index(sequences, n)
    total = np.maximum(np.diff(index.starts) - n, 0)
    if (total == 0).any():
        raise HyperfitError(f"text {int(total.argmin())}: {n}-grams need at least {n} tokens")
    row = np.repeat(np.arange(len(total)), total)
    repeated = ranks_in_runs(np.sort(row * index.count(n) + index.own(n).ids)) > 0
    return np.bincount(row, weights=repeated) / total


def diversity(token_ids: Tokens) -> float:
    """Product of 1 - rep-n for n = 2, 3, 4 (Su et al., 2022); arguments and errors as in `repetition`.

    Example:
        diversity([1, 2, 1, 2, 1]) == 2/4 * 2/3 * 2/2
    """
    return float(diversities([token_ids])[0])


def diversities(sequences: Corpus) -> np.ndarray:
    """`diversity` of each of N texts, shape (N,), float64."""
    return np.prod([1 - repetitions(sequences, n) for n in (2, 3, 4)], axis=0)


def distinct_n(sequences: Corpus, n: int = 1) -> float:
    """distinct-n: share of distinct n-grams among all those of all texts (Li et al., 2016).

    It falls as texts are added: only sets of the same size can be compared.

    Raises:
        HyperfitError: no text of n tokens.
    """
    index = _gram_index(sequences, n)
    total = len(index.own(n).ids)
    if total == 0:
        raise HyperfitError(f"no text of {n} tokens, which {n}-grams need")
    return index.count(n) / total


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


def _gram_index(sequences: Corpus, n: int) -> GramIndex:
    if n < 1:
        raise HyperfitError(f"n = {n}, expected 1 or more")
    return GramIndex(*encode_sequences(sequences))
