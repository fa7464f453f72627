"""Facts about tokenizers that this package needs; nothing here imports torch or transformers."""

from typing import Any

from .files import fingerprint


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """16 hex digits that change whenever the tokenizer would give other ids for plain text.

    Taken from normalizer, pre-tokenizer, model and added tokens of a fast tokenizer. What stays out changes no id
    of plain text: the post-processor (`add_bos_token=True`), the decoder, truncation, padding, and special tokens
    (lm-eval adds `<|pad|>` where there is none). For a slow tokenizer from its vocabulary.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _vocabulary_fingerprint(tokenizer)
    # Each part in turn: one JSON of everything would have to be parsed, seconds for a vocabulary of 128,256.
    parts = [part.__getstate__() for part in (backend.normalizer, backend.pre_tokenizer, backend.model) if part]
    added = [f"{i}\t{token!r}" for i, token in backend.get_added_tokens_decoder().items() if not token.special]
    return fingerprint([*sorted(added), *parts])


def former_fingerprint(tokenizer: Any) -> str:
    """The fingerprint that files of version 0.1.0 hold: it also covered post-processor, decoder, special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _vocabulary_fingerprint(tokenizer)
    # Truncation and padding, which calls change, stand before this key.
    state = backend.to_str()
    return fingerprint([state[state.index('"added_tokens"') :]])


def has_fingerprint(tokenizer: Any, stored: str) -> bool:
    """Whether a file's fingerprint is the tokenizer's, as this version or as version 0.1.0 takes it."""
    return stored == tokenizer_fingerprint(tokenizer) or stored == former_fingerprint(tokenizer)


def _vocabulary_fingerprint(tokenizer: Any) -> str:
    return fingerprint(f"{piece}\t{index}" for piece, index in sorted(tokenizer.get_vocab().items()))


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` alone, without BOS, EOS or any other special token added."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def bos_ids(tokenizer: Any) -> list[int]:
    """The ids that a model reads before a text: [BOS], or [] where the tokenizer has no BOS.

    Also where the tokenizer's template does not add it (GPT-2, models pretrained on joined texts):
    there too BOS opened every text in pretraining, and with it the first token has a prediction.
    """
    return [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
