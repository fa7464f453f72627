"""From corpus to training blocks, with the evaluation texts kept out of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import HyperfitError
from ..texts.blocks import TrainingBlocks, make_blocks
from ..texts.contamination import NGRAM_WORDS, refuse_contamination
from ..texts.contexts import TextSet, demo_texts, read_texts, select_texts
from ..texts.corpus import load_corpus
from .recipe import HyperfitArguments


class BlockDataset(Dataset[torch.Tensor]):
    """Blocks as a causal LM is trained on them: every token is a target, BOS alone is not.

    Args:
        ids: shape (N, T), int64.
        prefix: ids put before each block: [BOS] or nothing.
    """

    def __init__(self, ids: np.ndarray, prefix: Sequence[int] = ()) -> None:
        before = np.tile(np.asarray(prefix, dtype=np.int64), (len(ids), 1))
        self.rows = torch.from_numpy(np.concatenate([before, ids], axis=1))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        """One row of ids, shape (prefix + T,)."""
        return self.rows[index]


def collate(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stack rows of equal length; a causal LM shifts the labels itself."""
    ids = torch.stack(rows)
    return {"input_ids": ids, "labels": ids}


def training_blocks(
    options: HyperfitArguments, tokenizer: Any, say: Callable[[str], None]
) -> tuple[TrainingBlocks, dict[str, Any]]:
    """Cut the blocks from the corpus, none of which shares 13 words in a row with an evaluation text.

    Returns:
        The blocks, and for run.json which evaluation texts they were checked against, or why against none.
    Raises:
        HyperfitError: a corpus or texts that cannot be read, or not enough blocks.
    """
    corpus = load_corpus(
        options.corpus, options.corpus_split, options.text_column, options.corpus_file, options.corpus_config
    )
    texts, check = evaluation_texts(options.evaluation_texts, say)
    blocks = make_blocks(
        corpus,
        tokenizer,
        options.num_train_samples,
        options.sequence_length,
        options.sample_seed,
        options.num_validation_samples,
        avoid=texts.by_id() if texts else None,
    )
    if texts:
        refuse_contamination([*blocks.texts, *blocks.validation_texts], texts.by_id())
        check["blocks_left_out"] = blocks.left_out
    order = block_order(len(blocks.ids), options.shuffle, options.shuffle_seed)
    return replace(blocks, ids=blocks.ids[order], texts=[blocks.texts[place] for place in order]), check


def block_order(blocks: int, shuffle: str, seed: int) -> np.ndarray:
    """Which block comes in which place (paper, Section 6.1).

    Args:
        shuffle: "none" keeps the order, "one" (Shuffle-1) swaps two blocks, "all" (Shuffle-All) draws another.
        seed: which two, or which order.
    Returns:
        Indices, shape (blocks,).
    Raises:
        HyperfitError: a single block cannot be swapped with another.
    """
    order, rng = np.arange(blocks), np.random.default_rng(seed)
    if shuffle == "all":
        return rng.permutation(blocks)
    if shuffle == "one":
        if blocks < 2:
            raise HyperfitError(f"--shuffle one: two blocks are swapped, --num_train_samples is {blocks}")
        pair = rng.choice(blocks, 2, replace=False)
        order[pair] = pair[::-1]
    return order


def evaluation_texts(choice: str | None, say: Callable[[str], None]) -> tuple[TextSet | None, dict[str, Any]]:
    """The texts that training must not see.

    Args:
        choice: "hub", "demo", "none", a file written by `write_texts`, or None for "hub" where it can be loaded.
        say: told in a line when nothing will be checked.
    Returns:
        The texts, or None; and what run.json says of the check.
    Raises:
        HyperfitError: texts that were asked for cannot be loaded.
    """
    texts, reason = None, "not asked for (--evaluation_texts none)"
    if choice is None:
        try:
            texts, choice = select_texts(), "hub"
        except HyperfitError as error:
            reason = str(error)
    elif choice != "none":
        texts = {"hub": select_texts, "demo": demo_texts}.get(choice, lambda: read_texts(choice))()
    if texts is None:
        say(f"Not checked: whether the corpus overlaps the evaluation texts ({reason}).")
        return None, {"checked": False, "reason": reason}
    return texts, {
        "checked": True,
        "texts": choice,
        "count": len(texts.passages),
        "fingerprint": texts.fingerprint,
        "shared_words": NGRAM_WORDS,
    }
