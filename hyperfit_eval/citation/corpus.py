"""Token sequences to index, from a file of training blocks or from plain texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import HyperfitError
from ..texts import blocks
from ..texts.corpus import load_corpus
from ..tokenizers import has_fingerprint, plain_ids, tokenizer_fingerprint


def read_sequences(source: str | Path, tokenizer: Any) -> list[np.ndarray]:
    """Token ids of a training-blocks file as they are, or of texts by `tokenizer`: int arrays of shape (T,).

    A model that saw the texts cut into blocks elsewhere saw no n-gram that is not in them, so indexing
    whole texts only blocks more.

    Args:
        source: a file of training blocks, or whatever `load_corpus` reads: .txt, .jsonl, a Hub dataset id.
    Raises:
        HyperfitError: an unreadable source, or blocks of another tokenizer.
    """
    if not _is_blocks(Path(source)):
        texts = load_corpus(source).texts
        return [np.array(plain_ids(tokenizer, text), dtype=np.int32) for text in texts]
    read = blocks.read_blocks(source)
    if not has_fingerprint(tokenizer, read.tokenizer):
        raise HyperfitError(
            f"{source}: blocks of tokenizer {read.tokenizer}, this one is {tokenizer_fingerprint(tokenizer)}; "
            "give the tokenizer that the model was trained with"
        )
    return list(read.ids)  # rows of one array: Python's integers would take 36 bytes a token


def _is_blocks(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as lines:
        first = lines.readline(1 << 16)
    try:
        header = json.loads(first)
    except ValueError:
        return False
    return isinstance(header, dict) and header.get("format") == f"hyperfit-eval/{blocks.KIND}"
