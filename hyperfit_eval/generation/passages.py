"""From evaluation texts to continuation records, with exact token ids."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ..machine import versions
from ..records import CONTEXT_TOKENS, LONG, SHORT, Continuation, Generation
from ..texts.contexts import Passage, cut
from ..tokenizers import bos_ids, plain_ids, tokenizer_fingerprint
from .continuing import Decoding, continue_ids


def cut_passages(tokenizer: Any, passages: Sequence[Passage]) -> list[tuple[list[int], list[int]]]:
    """Cut each text to 32 ids of context and 224 of original continuation (paper, Section 4).

    Raises:
        HyperfitError: a text with fewer than 256 tokens.
    """
    total = CONTEXT_TOKENS + LONG
    return [cut(plain_ids(tokenizer, passage.text), CONTEXT_TOKENS, total, passage.id) for passage in passages]


def continue_texts(
    model: Any,
    tokenizer: Any,
    passages: Sequence[Passage],
    decoding: Decoding | None = None,
    *,
    name: str = "",
    texts: str = "",
    prefix: Sequence[int] | None = None,
    blocker: Callable[..., Any] | None = None,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> tuple[Generation, list[Continuation]]:
    """Continue the first 32 tokens of each text by 224 tokens, greedily unless `decoding` says otherwise.

    Args:
        model: a transformers causal LM, on its device, in eval mode.
        name, texts: name of the model and fingerprint of the texts, for the header.
        prefix: ids read before each context; by default [BOS] where the tokenizer has one.
        blocker: a CitationBlocker, or any logits processor.
        batch_size: largest batch of contexts.
        progress: called with the number of texts just finished.
    Returns:
        The header of a file of continuation records (`records.Generation`), and a record for each text, in order; ids
        as generated, texts decoded from them.
    """
    cuts = cut_passages(tokenizer, passages)
    prefix = bos_ids(tokenizer) if prefix is None else list(prefix)
    decoding = decoding or Decoding(LONG)
    generated = continue_ids(
        model,
        [prefix + context for context, _ in cuts],
        decoding,
        logits_processor=blocker,
        batch_size=batch_size,
        progress=progress,
    )
    continuations = [
        Continuation(
            id=passage.id,
            source=passage.source,
            context_ids=context,
            original_ids=original,
            generated_ids=ids,
            context_text=tokenizer.decode(context),
            original_text=tokenizer.decode(original),
            generated_text=tokenizer.decode(ids),
            original_text_at_128=tokenizer.decode(original[:SHORT]),
            generated_text_at_128=tokenizer.decode(ids[:SHORT]),
        )
        for passage, (context, original), ids in zip(passages, cuts, generated, strict=True)
    ]
    header = Generation(
        model=name,
        tokenizer=tokenizer_fingerprint(tokenizer),
        decoding=decoding.describe(),
        blocker=describe_blocker(blocker),
        seed=decoding.seed,
        dtype=str(model.dtype).removeprefix("torch."),
        bos=bool(prefix) or not bos_ids(tokenizer),
        texts=texts,
        versions=versions(),
    )
    return header, continuations


def describe_blocker(blocker: Any) -> dict[str, Any] | None:
    """Description of a CitationBlocker for records: n-gram length, corpus fingerprint, counts; None without one."""
    if blocker is None:
        return None
    header = blocker.index.header
    return {
        "ngram": header.ngram,
        "corpus": header.corpus,
        "include_prompt": blocker.include_prompt,
        "max_overlap_tokens": blocker.max_overlap_tokens,
        **asdict(blocker.counters),
    }
