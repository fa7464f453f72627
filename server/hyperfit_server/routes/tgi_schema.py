"""text-generation-inference's requests and responses, and what its parameters mean for an engine.

Field names, defaults and conditions on values are those of its router (router/src/lib.rs, validation.rs).
What it has and this server has not is refused by name, and so is a parameter that neither knows.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from ..bodies import Strict, check_stop, read_body
from ..engine.requests import FinishReason, Sampling
from ..errors import Refusal, problem, short
from ..settings import Limits, at_most

DEFAULT_NEW_TOKENS = 100
UNSUPPORTED = {
    "grammar": "constrained generation is not supported",
    "watermark": "watermarking is not supported",
    "adapter_id": "adapters are not supported: one server serves one model",
}
_SEED_LIMIT = 2**64 - 1
_COUNT_LIMIT = 2**31 - 1


Count = Annotated[int, Field(ge=1, le=_COUNT_LIMIT)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


def check_stops(value: Any, info: ValidationInfo) -> Any:
    """A list of stop sequences; here it is never a text alone."""
    if not isinstance(value, list):
        raise problem(f"{short(value)}, expected a list of texts")
    return check_stop(value, info)


class GenerateParameters(Strict):
    """`parameters` of a request."""

    best_of: Count | None = None
    """Sample so many sequences and return the one with the highest mean log-probability."""
    decoder_input_details: bool | None = None
    """Log-probabilities of the prompt's tokens."""
    details: bool | None = None
    do_sample: bool | None = None
    """Sampling also follows from temperature, top_k, top_p or typical_p."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    max_new_tokens: Count | None = None
    """By default 100, or what the context leaves."""
    repetition_penalty: Positive | None = None
    return_full_text: bool | None = None
    """Put the prompt before the generated text."""
    seed: Annotated[int, Field(ge=0, le=_SEED_LIMIT)] | None = None
    """By default a random one, told in the details."""
    stop: Annotated[list[Annotated[str, Field(min_length=1)]] | None, BeforeValidator(check_stops)] = None
    temperature: Positive | None = None
    top_k: Count | None = None
    top_n_tokens: Annotated[int, Field(ge=0)] | None = None
    top_p: Share | None = None
    truncate: Count | None = None
    """Keep so many of the prompt's tokens, the last ones."""
    typical_p: Share | None = None
    blocking: bool | None = None
    """The citation blocker; not in text-generation-inference."""
    grammar: Any = None
    watermark: bool | None = None
    adapter_id: str | None = None

    @property
    def samples(self) -> bool:
        """Whether tokens are sampled: asked for, or one of the settings has no meaning without it."""
        settings = (self.top_k, self.top_p, self.typical_p)
        warped = self.temperature not in (None, 1.0) or any(value is not None for value in settings)
        return bool(self.do_sample) or warped


class GenerateRequest(BaseModel):
    """Body of POST /, /generate and /generate_stream. Unknown fields at this level are ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    inputs: Annotated[str, Field(min_length=1)]
    parameters: GenerateParameters | None = None
    stream: bool | None = None
    """On / and /generate; /generate_stream always streams."""
    blocking: bool | None = None
    """The same as in `parameters`."""


class TokenizeRequest(BaseModel):
    """Body of POST /tokenize."""

    model_config = ConfigDict(strict=True)

    inputs: Annotated[str, Field(min_length=1)]
    add_special_tokens: bool = True


class PrefillToken(BaseModel):
    """A token of the prompt."""

    id: int
    text: str
    logprob: float | None
    """Nats; null for the first token."""


class TokenInfo(BaseModel):
    """A generated token, or one of the most probable ones beside it."""

    id: int
    text: str
    logprob: float
    special: bool
    blocked: bool | None = None
    """The citation blocker banned something at this position; not in text-generation-inference."""


class BestOfSequence(BaseModel):
    """One of the sequences that `best_of` did not choose."""

    generated_text: str
    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[TokenInfo]
    top_tokens: list[list[TokenInfo]] | None = None
    blocked_tokens: int


class Details(BaseModel):
    """How a text was generated."""

    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None
    """Null where nothing was sampled."""
    prefill: list[PrefillToken]
    tokens: list[TokenInfo]
    top_tokens: list[list[TokenInfo]] | None = None
    best_of_sequences: list[BestOfSequence] | None = None
    blocked_tokens: int
    """Positions at which the citation blocker banned something; not in text-generation-inference."""


class GenerateResponse(BaseModel):
    """Answer of / and /generate."""

    generated_text: str
    details: Details | None = None


class StreamDetails(BaseModel):
    """Details at the end of a stream."""

    finish_reason: FinishReason
    generated_tokens: int
    seed: int | None
    input_length: int
    blocked_tokens: int


class StreamResponse(BaseModel):
    """One event of a stream: one token; the last one also brings the text."""

    index: int
    """1 for the first token."""
    token: TokenInfo
    top_tokens: list[TokenInfo] | None = None
    generated_text: str | None
    details: StreamDetails | None


class SimpleToken(BaseModel):
    """A token of a text and where it stands in it, in characters."""

    id: int
    text: str
    start: int
    stop: int


def parse_generate(body: bytes, limits: Limits, stream: bool = False) -> tuple[GenerateRequest, GenerateParameters]:
    """Read a request and check all that needs no tokenizer.

    Args:
        stream: the route streams whatever the body says.
    Raises:
        Refusal: "validation", for what text-generation-inference refuses too and for what is not supported.
    """
    request = read_body(GenerateRequest, body, limits)
    parameters = request.parameters or GenerateParameters()
    for name, why in UNSUPPORTED.items():
        if getattr(parameters, name) not in (None, False):
            raise Refusal("validation", f"{name}: {why}", param=name)
    best_of = parameters.best_of or 1
    at_most("best_of", best_of, limits.max_best_of)
    at_most("top_n_tokens", parameters.top_n_tokens or 0, limits.max_top_n_tokens)
    at_most("truncate", parameters.truncate or 1, limits.max_input_tokens)
    if best_of > 1 and not parameters.samples:
        raise Refusal("validation", f"best_of is {best_of}: without sampling all would be equal; add do_sample: true")
    if best_of > 1 and parameters.seed is not None:
        raise Refusal("validation", f"best_of is {best_of}, seed is {parameters.seed}: give one or the other")
    if stream or request.stream:
        if best_of > 1:
            raise Refusal("validation", f"best_of is {best_of}: it cannot be had in a stream")
        if parameters.decoder_input_details:
            raise Refusal("validation", "decoder_input_details: it cannot be had in a stream")
    if parameters.blocking is not None and request.blocking not in (None, parameters.blocking):
        raise Refusal("validation", "blocking and parameters.blocking contradict each other")
    return request, parameters


def sampling_of(parameters: GenerateParameters, max_new_tokens: int) -> Sampling:
    """Sampling that the parameters ask for."""
    return Sampling(
        max_new_tokens=max_new_tokens,
        do_sample=parameters.samples,
        temperature=parameters.temperature or 1.0,
        top_k=parameters.top_k or 0,
        top_p=parameters.top_p or 1.0,
        typical_p=parameters.typical_p or 1.0,
        repetition_penalty=parameters.repetition_penalty or 1.0,
        frequency_penalty=parameters.frequency_penalty or 0.0,
        seed=parameters.seed,
        stop=tuple(parameters.stop or ()),
    )
