"""Requests to the OpenAI routes, and what their parameters mean for an engine."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hyperfit_eval.serving.requests import FinishReason, Sampling

from .errors import Refusal, refusal_of
from .settings import Limits, at_most

FINISH_REASONS: Mapping[FinishReason, str] = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}
DEFAULT_COMPLETION_TOKENS = 16
_UNSUPPORTED = {
    "suffix": "text cannot be inserted before a suffix; put it into the prompt",
    "logit_bias": "biases on tokens are not supported",
    "tools": "tools are not supported",
    "functions": "functions are not supported",
}
_SEED = 2**63

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, Field(min_length=1)]


class StreamOptions(BaseModel):
    """`stream_options`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool | None = None


class ResponseFormat(BaseModel):
    """`response_format`: text and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]


class Common(BaseModel):
    """What both routes take. A field that is null counts as not given; unknown fields are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: str | None = None
    """Not looked at: a server serves one model, and the answer names it."""
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-_SEED, lt=_SEED)] | None = None
    stop: Stop | list[Stop] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    """0 is greedy; by default 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    user: str | None = None
    """Not looked at."""
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    """As min_p, repetition_penalty and min_tokens an addition to OpenAI's parameters, named as vLLM names it."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    blocking: bool | None = None
    """The citation blocker; not in OpenAI's API."""
    logit_bias: Any = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop sequences."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, max_new_tokens: int) -> Sampling:
        """What the parameters mean."""
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sampling(
            max_new_tokens=max_new_tokens,
            min_new_tokens=min(self.min_tokens or 0, max_new_tokens),
            do_sample=temperature > 0,
            temperature=temperature or 1.0,
            top_k=max(self.top_k or 0, 0),
            top_p=self.top_p or 1.0,
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            seed=None if self.seed is None else self.seed % 2**64,
            stop=self.stops,
        )


class CompletionRequest(Common):
    """Body of POST /v1/completions."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    best_of: Annotated[int, Field(ge=1)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0)] | None = None
    suffix: Any = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, one or many."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return self.prompt  # type: ignore[return-value]

    @property
    def copies(self) -> int:
        """Generations of each prompt."""
        return max(self.n or 1, self.best_of or 1)


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: Annotated[str, Field(min_length=1)]
    content: str | list[TextPart]
    name: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As chat templates read it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": content, **({"name": self.name} if self.name else {})}


class ChatRequest(Common):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    response_format: ResponseFormat | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None


AnyRequest = TypeVar("AnyRequest", bound=Common)


def parse_completion(body: bytes, limits: Limits) -> CompletionRequest:
    """Read a request to /v1/completions and check all that needs no tokenizer.

    Raises:
        Refusal: "validation".
    """
    request = _parse(CompletionRequest, body, limits)
    prompts = len(request.prompts)
    if not prompts:
        raise Refusal("validation", "prompt: an empty list; give a text, texts, token ids or lists of them", "prompt")
    if prompts > limits.max_prompts:
        raise Refusal("validation", f"prompt: {prompts} prompts, at most {limits.max_prompts} are taken", "prompt")
    at_most("best_of", request.best_of or 1, limits.max_best_of)
    at_most("logprobs", request.logprobs or 0, limits.max_top_n_tokens)
    if request.best_of is not None and request.best_of < (request.n or 1):
        raise Refusal("validation", f"best_of is {request.best_of}, n is {request.n}: expected best_of >= n", "best_of")
    if prompts * request.copies > limits.max_sequences:
        raise Refusal(
            "validation",
            f"{prompts} prompts and {request.copies} generations of each, at most {limits.max_sequences} together",
            "n",
        )
    if request.max_tokens == 0 and not request.echo:
        raise Refusal("validation", "max_tokens is 0: without echo nothing would come back", "max_tokens")
    if request.stream:
        if request.copies > (request.n or 1):
            raise Refusal("validation", f"best_of is {request.best_of}: it cannot be had in a stream", "best_of")
        if request.echo and request.logprobs is not None:
            raise Refusal("validation", "echo with logprobs cannot be had in a stream", "stream")
    return request


def parse_chat(body: bytes, limits: Limits) -> ChatRequest:
    """Read a request to /v1/chat/completions and check all that needs no tokenizer.

    Raises:
        Refusal: "validation".
    """
    request = _parse(ChatRequest, body, limits)
    at_most("top_logprobs", request.top_logprobs or 0, limits.max_top_n_tokens)
    if request.top_logprobs and not request.logprobs:
        raise Refusal("validation", "top_logprobs needs logprobs: true", "top_logprobs")
    if request.max_tokens == 0:
        raise Refusal("validation", "max_tokens is 0: expected 1 or more", "max_tokens")
    return request


def _parse(kind: type[AnyRequest], body: bytes, limits: Limits) -> AnyRequest:
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        raise refusal_of(error) from error
    for name, why in _UNSUPPORTED.items():
        if getattr(request, name, None):
            raise Refusal("validation", f"{name}: {why}", name)
    at_most("n", request.n or 1, limits.max_best_of)
    at_most("stop", len(request.stops), limits.max_stop_sequences, " sequences")
    return request
