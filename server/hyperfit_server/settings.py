"""Limits of a server, and how many tokens a request gets."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .engine.requests import Request
from .errors import Refusal
from .options import Options


@dataclass(frozen=True)
class Limits:
    """Limits of one request; larger ones are refused, never cut."""

    max_total_tokens: int = 4096
    """Prompt and new tokens together."""
    max_input_tokens: int = 4095
    max_new_tokens: int = 4095
    max_prompts: int = Options.max_prompts
    """Prompts in one request to /v1/completions."""
    max_sequences: int = 128
    """Generations that one request may start: its prompts times `best_of` or `n`."""
    max_best_of: int = 8
    """Also of `n`."""
    max_stop_sequences: int = 16
    max_top_n_tokens: int = 20
    """Also of `logprobs` and `top_logprobs`."""
    max_body_bytes: int = Options.max_body_bytes
    max_messages: int = 1024
    """Messages of a chat; also parts of one message."""
    max_request_cost: int = Options.max_request_cost
    """Tokens that one request may have read and generated, and log-probabilities that it may have returned; of text,
    so many times four characters may be tokenized."""

    def new_tokens(self, asked: int | None, input_tokens: int, default: int) -> int:
        """How many tokens to generate after a prompt of `input_tokens`.

        Args:
            asked: by the request; None for `default`, or what there is room for.
        Raises:
            Refusal: "validation", if prompt, new tokens or both together are too many.
        """
        if input_tokens > self.max_input_tokens:
            raise Refusal("validation", f"the prompt has {input_tokens} tokens, at most {self.max_input_tokens} fit")
        room = self.max_total_tokens - input_tokens
        if asked is None:
            asked = min(default, self.max_new_tokens, max(room, 1))
        if asked > self.max_new_tokens:
            raise Refusal("validation", f"{asked} new tokens are asked for, at most {self.max_new_tokens} are given")
        if asked > room:
            raise Refusal(
                "validation",
                f"{input_tokens} tokens of the prompt and {asked} new ones are {input_tokens + asked}, "
                f"at most {self.max_total_tokens} fit together",
            )
        return asked

    def check_cost(self, requests: Sequence[Request]) -> None:
        """Refuse a request whose generations together are more than the server does for one.

        Raises:
            Refusal: "validation".
        """
        cost = sum(map(cost_of, requests))
        if cost > self.max_request_cost:
            raise Refusal(
                "validation",
                f"the request costs {cost} (tokens read, generated and listed with log-probabilities), at most "
                f"{self.max_request_cost} are allowed (--max-request-cost); ask for less in one request",
            )

    def check_text(self, characters: int) -> None:
        """Refuse texts that are too long to be tokenized. Raises: Refusal, "validation"."""
        most = 4 * self.max_request_cost
        if characters > most:
            raise Refusal(
                "validation",
                f"{characters} characters of text, at most {most} are tokenized (4 times --max-request-cost)",
            )


def cost_of(request: Request) -> int:
    """Tokens that are read and generated, and those listed beside them: they make up time, memory and answer."""
    read, new = len(request.prompt_ids), request.sampling.max_new_tokens
    return read + new + request.top_n_tokens * (new + read * request.prompt_logprobs)


@dataclass(frozen=True)
class Settings:
    """How a server answers."""

    limits: Limits = field(default_factory=Limits)
    has_index: bool = True
    """Whether the engine has a citation index at all."""
    blocking: bool = True
    """Whether the citation blocker is used for a request that does not say."""
    force_blocking: bool = False
    """Refuse a request that asks to switch the blocker off."""
    local_only: bool = False
    """Refuse requests that a web page of another site has sent."""
    api_key: str | None = field(default=None, repr=False)
    log_text: bool = False
    """Write prompts and generated texts into the log."""

    def block(self, header: str | None, given: bool | None) -> bool:
        """Whether to use the blocker for a request.

        Args:
            header: X-Hyperfit-Blocking, "on" or "off".
            given: the `blocking` of the body.
        Raises:
            Refusal: "forbidden" to switch it off where that is not allowed; "validation" for another header, for
                header and body that contradict each other, and for switching it on where there is no index.
        """
        if header is not None:
            word = header.strip().lower()
            if word not in ("on", "off"):
                message = f"X-Hyperfit-Blocking: {header[:20]!r}, expected on or off"
                raise Refusal("validation", message, logged="X-Hyperfit-Blocking: expected on or off")
            if given is not None and given != (word == "on"):
                raise Refusal("validation", f"X-Hyperfit-Blocking is {word}, blocking is {str(given).lower()}")
            given = word == "on"
        if given is None:
            return self.blocking
        if given and not self.has_index:
            raise Refusal(
                "validation", "blocking: this server has no citation index; it was started with --no-blocking"
            )
        if not given and self.force_blocking:
            raise Refusal("forbidden", "citation blocking cannot be switched off on this server (--force-blocking)")
        return given


def at_most(name: str, value: int, limit: int, unit: str = "") -> None:
    """Refuse a parameter that is larger than the server allows."""
    if value > limit:
        raise Refusal("validation", f"{name} is {value}{unit}, at most {limit} are allowed here", name)
