"""Training blocks: random, disjoint sequences of 256 tokens of one corpus (paper, Section 3)."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import files
from ..errors import HyperfitError
from ..tokenizers import plain_ids, tokenizer_fingerprint
from .contamination import word_ngrams
from .corpus import Corpus

KIND = "blocks"
VERSION = 1

SEGMENT_CHARS_PER_TOKEN = 32
"""Long texts are tokenized in segments of about eight blocks, so that a large corpus is sampled, not read through."""
POOL = 2
"""Blocks are drawn from at least this many times as many, unless the corpus has fewer."""
TEXTS_TO_HOLD_OUT = 10
"""From this many texts on, validation blocks come from texts that give no training block."""


@dataclass(frozen=True, eq=False)
class TrainingBlocks:
    """Blocks that a model is hyperfitted on, and those that it is validated on."""

    ids: np.ndarray
    """Token ids, shape (N, T), dtype int64, in training order."""
    texts: list[str]
    """The decoded text of each block, for metrics on words."""
    validation_ids: np.ndarray
    """Shape (V, T), dtype int64; V may be 0."""
    validation_texts: list[str]
    tokenizer: str
    """Fingerprint (`hyperfit_eval.tokenizers.tokenizer_fingerprint`)."""
    corpus: str
    corpus_fingerprint: str
    seed: int
    left_out: int
    """Blocks drawn but not taken because they share 13 words in a row with a text to avoid."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the training blocks' content, whatever their order (paper, Section 6.1: Shuffle)."""
        return files.fingerprint(sorted(row.astype("<i8").tobytes() for row in self.ids))

    @cached_property
    def order_hash(self) -> str:
        """16 hex digits of the training blocks in their order."""
        return files.fingerprint_ids(self.ids)


def make_blocks(
    corpus: Corpus,
    tokenizer: Any,
    num_samples: int = 2000,
    sequence_length: int = 256,
    seed: int = 0,
    num_validation: int = 0,
    avoid: Mapping[str, str] | None = None,
) -> TrainingBlocks:
    """Draw training and validation blocks from a corpus, at random by `seed`.

    A block is `sequence_length` ids in a row of one text, and no two overlap. Only where the texts
    that are long enough do not give enough blocks are the shorter ones joined, each closed by EOS.

    Args:
        tokenizer: a transformers tokenizer; no BOS is added.
        num_validation: blocks held out besides; of other texts where the corpus has at least ten.
        avoid: id to text of evaluation passages; a block that shares 13 words in a row with one is left out.

    Raises:
        HyperfitError: the corpus does not give enough blocks, or a number is below one.
    """
    if num_samples < 1 or sequence_length < 2 or num_validation < 0:
        raise HyperfitError(
            f"{num_samples} blocks of {sequence_length} tokens and {num_validation} for validation: expected at "
            f"least 1, 2 and 0"
        )
    rng = np.random.default_rng(seed)
    source = _Source(
        corpus, tokenizer, sequence_length, rng, {g for text in (avoid or {}).values() for g in word_ngrams(text)}
    )
    if len(corpus.texts) >= TEXTS_TO_HOLD_OUT and num_validation:
        validation = source.hold_out(num_validation)
        held_out = {text for block in validation for text in block.owners}
        training = source.draw(num_samples, exclude=held_out)
    else:
        both = source.draw(num_validation + num_samples)
        validation, training = both[:num_validation], both[num_validation:]
    if len(validation) < num_validation or len(training) < num_samples:
        avoided = f" and {len(source.left_out)} that share 13 words with evaluation texts" if source.left_out else ""
        advice = f"type --num_train_samples {len(training)}" if training else "give a longer corpus"
        raise HyperfitError(
            f"{corpus.name}: {len(validation) + len(training)} blocks of {sequence_length} tokens{avoided}, "
            f"{num_samples} for training and {num_validation} for validation are needed; {advice}"
        )
    return TrainingBlocks(
        ids=_as_array([block.ids for block in training], sequence_length),
        texts=[block.text for block in training],
        validation_ids=_as_array([block.ids for block in validation], sequence_length),
        validation_texts=[block.text for block in validation],
        tokenizer=tokenizer_fingerprint(tokenizer),
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        seed=seed,
        left_out=len(source.left_out),
    )


def write_blocks(path: str | Path, blocks: TrainingBlocks) -> None:
    """Write the blocks as JSON lines, training first, each part in order (docs/formats.md)."""
    header = {
        "tokenizer": blocks.tokenizer,
        "corpus": blocks.corpus,
        "corpus_fingerprint": blocks.corpus_fingerprint,
        "seed": blocks.seed,
        "left_out": blocks.left_out,
        "sequence_length": blocks.ids.shape[1],
        "fingerprint": blocks.fingerprint,
        "order_hash": blocks.order_hash,
    }
    parts = (("train", blocks.ids, blocks.texts), ("validation", blocks.validation_ids, blocks.validation_texts))
    rows = [
        {"part": part, "ids": row.tolist(), "text": text}
        for part, ids, texts in parts
        for row, text in zip(ids, texts, strict=True)
    ]
    files.write_jsonl(path, KIND, VERSION, header, rows)


def read_blocks(path: str | Path) -> TrainingBlocks:
    """Read what `write_blocks` wrote.

    Raises:
        HyperfitError: with line and field, for anything that is not such a file or was changed since.
    """
    header, rows = files.read_jsonl(path, KIND, VERSION)
    length = files.field(path, 1, header, "sequence_length", int)
    ids: dict[str, list[list[int]]] = {"train": [], "validation": []}
    texts: dict[str, list[str]] = {"train": [], "validation": []}
    for line, row in enumerate(rows, start=2):
        part = files.field(path, line, row, "part", str)
        if part not in ids:
            raise HyperfitError(f"{path}, line {line}: field 'part' is '{part}', expected 'train' or 'validation'")
        block = files.ids_field(path, line, row, "ids")
        if len(block) != length:
            raise HyperfitError(f"{path}, line {line}: field 'ids' holds {len(block)} ids, expected {length}")
        ids[part].append(block)
        texts[part].append(files.field(path, line, row, "text", str))
    blocks = TrainingBlocks(
        ids=_as_array(ids["train"], length),
        texts=texts["train"],
        validation_ids=_as_array(ids["validation"], length),
        validation_texts=texts["validation"],
        tokenizer=files.field(path, 1, header, "tokenizer", str),
        corpus=files.field(path, 1, header, "corpus", str),
        corpus_fingerprint=files.field(path, 1, header, "corpus_fingerprint", str),
        seed=files.field(path, 1, header, "seed", int),
        left_out=files.field(path, 1, header, "left_out", int),
    )
    for name, found in (("fingerprint", blocks.fingerprint), ("order_hash", blocks.order_hash)):
        if files.field(path, 1, header, name, str) != found:
            raise HyperfitError(f"{path}, line 1: field '{name}' does not match the blocks; were they edited?")
    return blocks


class _Block(NamedTuple):
    owners: tuple[int, ...]
    """Numbers of the corpus texts that it comes from: one, or several short ones."""
    ids: list[int]
    text: str


class _Source:
    """Draws blocks from a corpus and remembers which it left out."""

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Any,
        length: int,
        rng: np.random.Generator,
        avoid: set[tuple[str, ...]],
    ) -> None:
        size = SEGMENT_CHARS_PER_TOKEN * length
        self.segments = [(n, span) for n, text in enumerate(corpus.texts) for span in _segments(text, size)]
        self.texts = corpus.texts
        self.tokenizer, self.length, self.rng, self.avoid = tokenizer, length, rng, avoid
        self.left_out: set[tuple[int, ...]] = set()

    def hold_out(self, wanted: int) -> list[_Block]:
        """Draw from a random tenth of the texts, or from as many tenths as it takes."""
        texts = self.rng.permutation(len(self.texts))
        step = len(texts) // 10
        for end in range(step, len(texts), step):
            blocks = self.draw(wanted, exclude=set(texts[end:]))
            if len(blocks) == wanted:
                break
        return blocks

    def draw(self, wanted: int, exclude: Collection[int] = ()) -> list[_Block]:
        """Draw up to `wanted` blocks that share nothing with the texts to avoid."""
        blocks, drawn = self._blocks(exclude), []
        while pool := list(islice(blocks, POOL * wanted)):
            for place in self.rng.permutation(len(pool)):
                owners, ids = pool[place]
                text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
                if self.avoid and not self.avoid.isdisjoint(word_ngrams(text)):
                    self.left_out.add(tuple(ids))
                    continue
                drawn.append(_Block(owners, ids, text))
                if len(drawn) == wanted:
                    return drawn
        return drawn

    def _blocks(self, exclude: Collection[int]) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        """Yield (owners, ids) of all blocks: segment by segment in random order, then of joined short texts."""
        short = []
        for place in self.rng.permutation(len(self.segments)):
            text, span = self.segments[place]
            if text in exclude:
                continue
            ids = plain_ids(self.tokenizer, self.texts[text][span].strip())
            if len(ids) < self.length:
                short.append((text, ids))
            for start in range(0, len(ids) - self.length + 1, self.length):
                yield (text,), ids[start : start + self.length]
        yield from self._joined(short)

    def _joined(self, short: Iterable[tuple[int, list[int]]]) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        owners, joined = [], []
        for text, ids in short:
            owners.append(text)
            joined += ids + end
            if len(joined) >= self.length:
                yield tuple(owners), joined[: self.length]
                owners, joined = [], []


def _segments(text: str, size: int) -> Iterator[slice]:
    """Cut a text into equal parts of about `size` characters, at the next paragraph or else the next blank."""
    parts = max(1, round(len(text) / size))
    start = 0
    for number in range(1, parts + 1):
        end = len(text) if number == parts else number * len(text) // parts
        for border in ("\n\n", " "):
            if (found := text.find(border, end, end + size // 4)) >= 0:
                end = found
                break
        yield slice(start, end)
        start = end


def _as_array(rows: list[list[int]], length: int) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(len(rows), length)
