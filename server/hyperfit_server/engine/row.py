"""One request on its way through the model."""

import secrets
from collections.abc import Sequence

import torch

from .requests import Finished, FinishReason, Request, Scored, Token
from .sampling import penalize_
from .text import TextStream, TokenTexts, cut_at_stop

TopTokens = Sequence[tuple[int, float]]
"""Ids and log-probabilities, most probable first."""


class Row:
    """All that is needed to go on with a request, also after its cache was lost.

    Attributes:
        ids: the prompt and what was generated.
        generated: how many of the last ids are new.
        finished: set with the last token.
        failed: why it ends without one, where something of its own went wrong; the others go on.
        cancelled: set from any thread; the row leaves before the next step.
    """

    def __init__(self, request: Request, texts: TokenTexts, device: torch.device, history_from_prompt: bool) -> None:
        self.request, self.sampling = request, request.sampling
        self.ids = list(request.prompt_ids)
        self.prompt_tokens = len(self.ids)
        self.seed: int | None = None
        self.generator: torch.Generator | None = None
        if self.sampling.do_sample:
            # 53 bits: JSON readers that hold numbers as float64 can give the seed back.
            self.seed = secrets.randbits(53) if self.sampling.seed is None else self.sampling.seed
            self.generator = torch.Generator(device).manual_seed(self.seed)
        self.prompt_scored = not request.prompt_logprobs
        self.finished: Finished | None = None
        self.failed: str | None = None
        self.cancelled = False
        self._texts = texts
        self._text = TextStream(texts, self.ids)
        self._blocked_tokens = 0
        self._history_start = 0 if history_from_prompt else self.prompt_tokens
        self.begin_scores()

    @property
    def generated(self) -> int:
        """How many tokens have been generated."""
        return len(self.ids) - self.prompt_tokens

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.finished is not None or self.failed is not None

    @property
    def total_tokens(self) -> int:
        """Columns that it may come to need in the cache."""
        return self.prompt_tokens + self.sampling.max_new_tokens

    def history(self, most: int) -> list[int]:
        """The last ids, at most so many, that the citation blocker looks at."""
        return self.ids[max(self._history_start, len(self.ids) - most) :]

    def penalize_(self, scores: torch.Tensor) -> None:
        """Apply its penalties to its scores, float32 (vocabulary,), in place."""
        penalize_(scores, self.sampling, self.request.prompt_ids, self.ids[self.prompt_tokens :])

    def begin_scores(self) -> None:
        """Forget what an attempt that failed has told of the prompt."""
        self._prompt: list[Scored] = []
        self._prompt_top: list[tuple[Scored, ...]] = []
        self._prompt_text = TextStream(self._texts, skip_special=False)

    def add_prompt_scores(self, logprobs: Sequence[float | None], tops: Sequence[TopTokens]) -> None:
        """Log-probabilities of the prompt's next tokens; None for the first."""
        for logprob in logprobs:
            token = self.ids[len(self._prompt)]
            self._prompt.append(Scored(token, self._prompt_text.push(token), logprob, token in self._texts.special))
        self._prompt_top += [self._scored(top) for top in tops]

    def take(self, token_id: int, logprob: float, top: TopTokens, blocked: bool, is_eos: bool) -> Token:
        """Append the chosen token; sets `finished` if it is the last."""
        self.ids.append(token_id)
        self._blocked_tokens += blocked
        new = self._text.push(token_id)
        last = self.generated >= self.sampling.max_new_tokens
        reason: FinishReason | None = "eos_token" if is_eos else "length" if last else None
        if reason:
            new += self._text.finish()
        text = self._text.text
        if new and self.sampling.stop:
            end = cut_at_stop(text, len(new), self.sampling.stop)
            if end is not None:
                reason, new, text = "stop_sequence", new[: len(new) - (len(text) - end)], text[:end]
        if reason:
            self.finish(reason, text)
        special = token_id in self._texts.special
        return Token(Scored(token_id, new, logprob, special), self._scored(top), blocked)

    def finish(self, reason: FinishReason, text: str = "") -> None:
        """End it."""
        self.prompt_scored = True
        prompt_top = tuple(self._prompt_top) if self.request.top_n_tokens else ()
        self.finished = Finished(reason, text, tuple(self._prompt), prompt_top, self._blocked_tokens, self.seed)

    def _scored(self, top: TopTokens) -> tuple[Scored, ...]:
        texts = self._texts
        return tuple(Scored(token, texts.alone(token), logprob, token in texts.special) for token, logprob in top)
