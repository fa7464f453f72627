"""From token ids to text, one token at a time."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

_UNFINISHED = "\ufffd"
"""Character that a decoder writes for bytes that are none, or not yet."""
_LONGEST_CHARACTER = 4
"""Tokens: a character has at most 4 bytes."""
_CONTEXT = 4
"""Tokens of the prompt that are decoded with the first new ones: decoders drop the space before the first word."""


class TokenTexts:
    """A tokenizer as far as decoding goes, without the cost of its Python layers.

    Ids that the tokenizer does not know (models have vocabularies rounded up) have no text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self.special: frozenset[int] = frozenset(tokenizer.all_special_ids)
        self._alone: dict[int, str] = {}

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_vocab().values())

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of token ids."""
        if self._backend is not None:
            return self._backend.decode(ids, skip_special_tokens=skip_special)
        known = [token for token in ids if token in self._known]
        return self._tokenizer.decode(known, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)

    def alone(self, token_id: int) -> str:
        """Text of one token in the middle of a text; special tokens as they are written."""
        text = self._alone.get(token_id)
        if text is None:
            text = self.decode([token_id], skip_special=False)
            piece = self._tokenizer.convert_ids_to_tokens(token_id)
            if piece and piece.startswith("▁") and not text.startswith(" "):
                text = " " + text
            self._alone[token_id] = text
        return text


class TextStream:
    """The text of a growing list of ids: each token's part of it as soon as its characters are complete.

    Args:
        context: ids before the first one; not part of the text.
        skip_special: leave special tokens out of the text.
    """

    def __init__(self, texts: TokenTexts, context: Sequence[int] = (), skip_special: bool = True) -> None:
        self._texts, self._skip_special = texts, skip_special
        self.text = ""
        self._window = list(context[-_CONTEXT:])
        """The ids that are decoded together: those not told yet, after some that have been."""
        before = self._decode()
        if before.endswith(_UNFINISHED):
            self._window, before = [], ""
        self._told = len(before)
        """Characters of the window's text that are told already."""
        self._seen = len(self._window)
        """Ids of the window whose text has been told completely."""
        self._waiting = 0
        """Tokens since text was last told."""

    def push(self, token_id: int) -> str:
        """Text that `token_id` adds: "" while a character is not complete."""
        self._window.append(token_id)
        self._waiting += 1
        text = self._decode()
        complete = text.rstrip(_UNFINISHED)
        if len(complete) < len(text) and self._waiting >= _LONGEST_CHARACTER:
            complete = text[:-1]  # bytes that will never be a character; only the last may still become one
        return self._tell(text, len(complete))

    def finish(self) -> str:
        """The rest: the beginning of a character that never came to its end."""
        text = self._decode()
        return self._tell(text, len(text))

    def _tell(self, text: str, stop: int) -> str:
        new = text[self._told : stop]
        if new:
            self.text += new
            self._told, self._waiting = stop, 0
        if stop < len(text):
            return new
        if new:
            # The ids told before now leave the window; those told just now stay, as context of what follows.
            self._window = self._window[self._seen :]
            self._told, self._seen = len(self._decode()), len(self._window)
        elif self._seen:
            del self._window[self._seen :]  # ids without text
            self._waiting = 0
        return new

    def _decode(self) -> str:
        return self._texts.decode(self._window, self._skip_special)


def cut_at_stop(text: str, new: int, stops: Sequence[str]) -> int | None:
    """Where `text` must end because a stop sequence is complete: behind the first that is; None if none is.

    Args:
        new: so many characters at the end of `text` are new; before them nothing was met.
    """
    ends = []
    for stop in stops:
        found = text.find(stop, max(0, len(text) - new - len(stop) + 1))
        if found >= 0:
            ends.append(found + len(stop))
    return min(ends, default=None)
