"""Requests to the OpenAI routes, and what their parameters mean for an engine."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, FailFast, Field, ValidationInfo, model_validator

from ..bodies import Strict, check_prompt, check_stop, limits_of, read_body
from ..engine.requests import FinishReason, Sampling
from ..errors import Refusal, problem, short
from ..settings import Limits, at_most

FINISH_REASONS: Mapping[FinishReason, str] = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}
DEFAULT_COMPLETION_TOKENS = 16
_UNSUPPORTED = {
    "suffix": "text cannot be inserted before a suffix; put it into the prompt",
    "logit_bias": "biases on tokens are not supported",
    "tools": "tools are not supported",
    "functions": "functions are not supported",
    "audio": "audio is not supported",
}
_NO_CHOICE = ("none", "auto")
"""Values of tool_choice and function_call that mean nothing where there are no tools."""
_SEED = 2**63

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, Field(min_length=1)]


class StreamOptions(Strict):
    """`stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Not looked at: nothing is added to hide lengths."""


class ResponseFormat(Strict):
    """`response_format`: text and nothing else."""

    type: Literal["text"]


class Common(Strict):
    """Parameters of both routes. Unknown fields are refused; those that cannot change the text are not looked at."""

    model: str | None = None
    """Not looked at: a server serves one model, and the answer names it."""
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-_SEED, lt=_SEED)] | None = None
    stop: Annotated[Stop | list[Stop] | None, BeforeValidator(check_stop)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    """0 is greedy; by default 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    user: str | None = None
    """Not looked at, as the next five: they do not change the text."""
    metadata: Any = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    return_token_ids: bool | None = None
    """Also give the ids of prompt and answer; named as in vLLM."""
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

    def token_ids(self, name: str, ids: Sequence[int]) -> dict[str, list[int]]:
        """A field of the answer, if ids were asked for."""
        return {name: list(ids)} if self.return_token_ids else {}

    def min_new_tokens(self, max_new_tokens: int) -> int:
        """`min_tokens`, which may not be more than there will be. Raises: Refusal."""
        least = self.min_tokens or 0
        if least > max_new_tokens:
            message = f"min_tokens is {least}, at most {max_new_tokens} new tokens are generated: expected no more"
            raise Refusal("validation", message, "min_tokens")
        return least

    def sampling(self, max_new_tokens: int) -> Sampling:
        """Sampling that the parameters ask for."""
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sampling(
            max_new_tokens=max_new_tokens,
            min_new_tokens=self.min_new_tokens(max_new_tokens),
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

    prompt: Annotated[str | list[str] | list[TokenId] | list[list[TokenId]], BeforeValidator(check_prompt)]
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
            return [self.prompt]
        return self.prompt  # type: ignore[return-value]

    @property
    def copies(self) -> int:
        """Generations of each prompt."""
        return max(self.n or 1, self.best_of or 1)


_PARTS = {
    "image_url": "images",
    "input_image": "images",
    "image": "images",
    "input_audio": "sounds",
    "audio_url": "sounds",
    "video_url": "videos",
    "file": "files",
}
"""Parts of a message that other servers know, by their type."""


class TextPart(BaseModel):
    """A part of a message."""

    type: Literal["text"]
    text: str


def check_content(value: Any, info: ValidationInfo) -> str:
    """The text of a message: a text, or a list of parts that are texts; other parts are refused by name."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise problem(f"{short(value)}, expected a text or a list of text parts")
    most = limits_of(info).max_messages
    if len(value) > most:
        raise problem(f"{len(value)} parts, at most {most} are taken")
    return "".join(_text_of(part, number) for number, part in enumerate(value))


def _text_of(part: Any, number: int) -> str:
    if not isinstance(part, dict):
        raise problem(f"{short(part)}, expected an object with type and text", number)
    kind = part.get("type")
    if isinstance(kind, str) and kind in _PARTS:
        raise problem(f"{kind}: {_PARTS[kind]} are not supported", number)
    if kind != "text":
        raise problem(f'{short(kind)}, expected "text"', number, "type")
    for name, value in part.items():
        if name not in TextPart.model_fields and value is not None:
            raise problem("not a parameter of this server", number, name, client_text=True)
    if not isinstance(part.get("text"), str):
        raise problem(f"{short(part.get('text'))}, expected a text", number, "text")
    return part["text"]


def check_messages(value: Any, info: ValidationInfo) -> Any:
    """Their number; that each is a message is checked after it."""
    most = limits_of(info).max_messages
    if not isinstance(value, list) or not value:
        raise problem(f"{short(value)}, expected a list of at least one message")
    if len(value) > most:
        raise problem(f"{len(value)} messages, at most {most} are taken")
    return value


class Message(Strict):
    """A message of a chat. What answers hold beside their text comes back from clients, mostly empty."""

    empty_is_null: ClassVar[bool] = True

    role: Annotated[str, Field(min_length=1)]
    content: Annotated[str | list[TextPart] | None, BeforeValidator(check_content)] = None
    """Only an assistant's message may be without."""
    name: str | None = None
    type: Literal["text", "message"] | None = None
    """Not looked at."""

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise problem("missing, expected a text", "content")
        return self

    def as_dict(self) -> dict[str, Any]:
        """As chat templates read it."""
        return {"role": self.role, "content": self.content or "", **({"name": self.name} if self.name else {})}


class ChatRequest(Common):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], FailFast(), BeforeValidator(check_messages), Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    response_format: ResponseFormat | None = None
    tools: Any = None
    tool_choice: Any = None
    """"none" or "auto", as function_call: there are no tools to choose from."""
    parallel_tool_calls: bool | None = None
    """Not looked at."""
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    modalities: Any = None
    """["text"]"""
    prediction: Any = None
    """Not looked at: it would only save time."""


AnyRequest = TypeVar("AnyRequest", bound=Common)


def parse_completion(body: bytes, limits: Limits) -> CompletionRequest:
    """Read a request to /v1/completions and check all that needs no tokenizer.

    Raises:
        Refusal: "validation".
    """
    request = _parse(CompletionRequest, body, limits)
    prompts = len(request.prompts)
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
    if request.modalities not in (None, ["text"]):
        raise Refusal("validation", 'modalities: only ["text"] is supported', "modalities")
    for name in ("tool_choice", "function_call"):
        if getattr(request, name) not in (None, *_NO_CHOICE):
            raise Refusal("validation", f"{name}: tools are not supported", name)
    return request


def _parse(kind: type[AnyRequest], body: bytes, limits: Limits) -> AnyRequest:
    request = read_body(kind, body, limits)
    for name, why in _UNSUPPORTED.items():
        if getattr(request, name, None):
            raise Refusal("validation", f"{name}: {why}", name)
    at_most("n", request.n or 1, limits.max_best_of)
    return request
