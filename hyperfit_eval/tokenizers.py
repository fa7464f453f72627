"""What this package needs to know of a tokenizer; nothing here imports torch or transformers."""

from typing import Any

from .files import fingerprint


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """16 hex digits that change whenever the tokenizer would give other ids.

    Taken from the serialized fast tokenizer (model, normalizer, pre-tokenizer, added tokens) without
    the truncation and padding state, which calls change; for a slow tokenizer from its vocabulary.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return fingerprint(f"{piece}\t{index}" for piece, index in sorted(tokenizer.get_vocab().items()))
    # Truncation and padding stand before this key; parsing a vocabulary of 128,256 would take seconds.
    state = backend.to_str()
    return fingerprint([state[state.index('"added_tokens"') :]])


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` alone, without BOS, EOS or any other special token added."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def bos_ids(tokenizer: Any) -> list[int]:
    """The ids that a model reads before a text: [BOS], or [] where the tokenizer has no BOS.

    Also where the tokenizer's template does not add it (GPT-2, models pretrained on joined texts):
    there too BOS opened every text in pretraining, and with it the first token has a prediction.
    """
    return [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
