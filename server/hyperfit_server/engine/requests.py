"""Requests to an engine, and what comes back, token by token. No HTTP and no torch."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

from hyperfit_eval.citation import Counters

FinishReason = Literal["length", "eos_token", "stop_sequence"]
"""As text-generation-inference names them."""


@dataclass(frozen=True)
class Sampling:
    """How one request's next token is chosen. The default is greedy, as in the paper (Section 4)."""

    max_new_tokens: int = 100
    min_new_tokens: int = 0
    """EOS is masked until then."""
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    """0 switches it off."""
    top_p: float = 1.0
    typical_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    """Seed of this request alone: what it gives does not depend on what runs beside it. None: the engine draws."""
    stop: tuple[str, ...] = ()
    """Texts that end the generation; the text ends with the one that was met."""


@dataclass(frozen=True)
class Request:
    """One generation."""

    prompt_ids: tuple[int, ...]
    """As the model reads them, BOS included where it wants one; at least one."""
    sampling: Sampling = Sampling()
    blocking: bool = True
    """Use the citation blocker, where the engine has an index."""
    top_n_tokens: int = 0
    """So many of the most probable tokens are told beside each token."""
    prompt_logprobs: bool = False
    """Also score the prompt's tokens; with max_new_tokens=0 that is all that is done."""


@dataclass(frozen=True)
class Scored:
    """A token and its log-probability under the model itself: before temperature, penalties and blocking."""

    id: int
    text: str
    logprob: float | None
    """Nats; None for the first token of a prompt."""
    special: bool = False


@dataclass(frozen=True)
class Token:
    """One generated token."""

    scored: Scored
    """Its `text` is what the token adds to the text so far; empty where a character is not complete yet."""
    top: tuple[Scored, ...] = ()
    """The most probable tokens, most probable first."""
    blocked: bool = False
    """The citation blocker banned at least one token at this position."""


@dataclass(frozen=True)
class Finished:
    """The last that comes of a request."""

    reason: FinishReason
    text: str
    """All of it: special tokens left out, ending with the stop sequence if one was met."""
    prompt: tuple[Scored, ...] = ()
    """With `prompt_logprobs`: one for each token of the prompt."""
    prompt_top: tuple[tuple[Scored, ...], ...] = ()
    """With `prompt_logprobs` and `top_n_tokens`: the most probable tokens at each of the prompt's tokens."""
    blocked_tokens: int = 0
    """Positions at which the citation blocker banned something."""
    seed: int | None = None
    """Sampled again with it, the same comes out; None where nothing was drawn, or with a seed that is not known."""


class Overloaded(Exception):
    """The queue is full."""


class Failed(Exception):
    """The engine could not go on with a request; the message says why, in one line."""


class Generation(Protocol):
    """A request under way: iterate over it to get each Token and, last, one Finished."""

    queue_seconds: float | None
    """From `submit` to the start of its work; None while it waits."""

    def __aiter__(self) -> AsyncIterator[Token | Finished]:
        """Raises: Failed."""
        ...

    async def whole(self) -> tuple[list[Token], Finished]:
        """All of it at once, when it has ended: without waking up for every token. Raises: Failed."""
        ...

    def cancel(self) -> None:
        """Nobody waits for it any more. Safe to call at any time, from the event loop, more than once."""
        ...


class Engine(Protocol):
    """An engine, as the HTTP side knows it."""

    model_id: str
    max_total_tokens: int
    """Prompt and new tokens together."""
    max_input_tokens: int

    @property
    def counters(self) -> Counters | None:
        """Counts of the citation blocker since the start; None without an index."""
        ...

    @property
    def running(self) -> int:
        """Requests in the batch."""
        ...

    @property
    def queued(self) -> int:
        """Requests that wait for a place in it."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it works: false once it was drained or has failed for good."""
        ...

    def submit(self, request: Request) -> Generation:
        """Queue a request; from the event loop.

        Raises: Overloaded; Failed if the engine has stopped; HyperfitError for a request that can never be served.
        """
        ...

    async def drain(self) -> None:
        """Take no more requests, finish what was accepted, stop."""
        ...
