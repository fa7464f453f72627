"""Text and log-probabilities as OpenAI's API shows them."""

from collections.abc import Sequence
from typing import Any

from ..engine.requests import Finished, Scored, Token
from ..state import logprob_of
from .openai_schema import FINISH_REASONS

OPENAI = b"data: "
"""How an event begins."""
DONE = b"data: [DONE]\n\n"
"""The end of a stream."""


def without_stop(finished: Finished, stop: Sequence[str]) -> str:
    """The text before the stop sequence that ended it: OpenAI leaves that out."""
    if finished.reason != "stop_sequence":
        return finished.text
    met = max((word for word in stop if finished.text.endswith(word)), key=len, default="")
    return finished.text[: len(finished.text) - len(met)]


class VisibleText:
    """The text of a stream as far as it may be shown: what may become a stop sequence is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._held = ""
        self._shown = 0

    def add(self, token: Token) -> str:
        """The text that can be shown after this token."""
        if token.scored.special:
            return ""
        self._held += token.scored.text
        keep = 0
        for word in self._stop:
            # Once a stop sequence is there the last token has come: `end` knows the text.
            if word in self._held:
                return ""
            longest = min(len(word) - 1, len(self._held))
            keep = max(keep, next((n for n in range(longest, 0, -1) if self._held.endswith(word[:n])), 0))
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        self._shown += cut
        return shown

    def end(self, finished: Finished) -> str:
        """Rest of the whole text that is to be shown."""
        return without_stop(finished, self._stop)[self._shown :]


class CompletionLogprobs:
    """The `logprobs` of a completion, token by token.

    Args:
        top: how many of the most probable tokens are shown; 0 for none.
    """

    def __init__(self, top: int) -> None:
        self.top, self.offset = top, 0
        self.tokens: list[str] = []
        self.token_logprobs: list[float | None] = []
        self.top_logprobs: list[dict[str, float] | None] = []
        self.text_offset: list[int] = []

    def add(self, token: Scored, top: Sequence[Scored]) -> None:
        """Add a token; the first of a prompt has no log-probability, since nothing predicts it."""
        self.tokens.append(token.text)
        self.text_offset.append(self.offset)
        self.offset += len(token.text)
        self.token_logprobs.append(None if token.logprob is None else logprob_of(token))
        if token.logprob is None or not self.top:
            self.top_logprobs.append(None)
            return
        # Two tokens may have the same text: the more probable one, which comes first, keeps the place.
        shown: dict[str, float] = {}
        for scored in (*top[: self.top], token):
            shown.setdefault(scored.text, logprob_of(scored))
        self.top_logprobs.append(shown)

    def take(self) -> dict[str, Any]:
        """Text that was added since the last call."""
        taken = {
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs if self.top else None,
            "text_offset": self.text_offset,
        }
        self.tokens, self.token_logprobs, self.top_logprobs, self.text_offset = [], [], [], []
        return taken


def chat_logprob(token: Token, top: int) -> dict[str, Any]:
    """One entry of a chat's `logprobs.content`."""
    return {**_chat_token(token.scored), "top_logprobs": [_chat_token(scored) for scored in token.top[:top]]}


def finish_reason(finished: Finished) -> str:
    """OpenAI's name of the reason."""
    return FINISH_REASONS[finished.reason]


def usage(prompt_tokens: int, new_tokens: int) -> dict[str, int]:
    """The `usage` of an answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
    }


def _chat_token(scored: Scored) -> dict[str, Any]:
    return {"token": scored.text, "logprob": logprob_of(scored), "bytes": list(scored.text.encode())}
