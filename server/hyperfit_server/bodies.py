"""From the bytes of a request's body to a checked model: one problem is told, however many there are.

A body of 4 MiB can hold a million items. So what is counted is counted first, lists end at their first mistake, and
large bodies are read in a thread (`off_loop`), where they do not hold up the tokens of others.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, ParamSpec, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator

from .errors import Refusal, problem, refusal_of, short
from .settings import Limits

INLINE = 8 << 10
"""Bytes, or tokens, up to which work is done at once: a thread would cost more than it."""
_READERS = ThreadPoolExecutor(2, thread_name_prefix="hyperfit-reader")
"""Few, since each may hold some ten times the memory of its body."""

P = ParamSpec("P")
T = TypeVar("T")
AnyModel = TypeVar("AnyModel", bound=BaseModel)


async def off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `work` in a thread if there is much to do.

    Args:
        size: bytes that it reads, or tokens that it writes about.
    """
    if size <= INLINE:
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_READERS, lambda: work(*args, **kwargs))


class Strict(BaseModel):
    """A part of a request: numbers are not taken from strings, unknown fields are refused, null is as not given."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    empty_is_null: ClassVar[bool] = False
    """Also leave out unknown fields that hold nothing: clients send back what they were given."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = {name: value for name, value in data.items() if value is not None}
        for name in [name for name in given if name not in cls.model_fields]:
            if not (cls.empty_is_null and given[name] in ("", [], {})):
                raise problem("not a parameter of this server", name, client_text=True)
            del given[name]
        return given


def read_body(kind: type[AnyModel], body: bytes, limits: Limits) -> AnyModel:
    """Parse and check a body.

    Raises:
        Refusal: "validation", with the first problem.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal("validation", f"the body is no JSON: {error.msg}") from error
    if not isinstance(data, dict):
        raise Refusal("validation", f"the body is {short(data)}, expected a JSON object")
    try:
        return kind.model_validate(data, context=limits)
    except ValidationError as error:
        raise refusal_of(error) from None


def limits_of(info: ValidationInfo) -> Limits:
    """The server's limits, in a validator."""
    return info.context if isinstance(info.context, Limits) else Limits()


def check_stop(value: Any, info: ValidationInfo) -> Any:
    """Stop sequences: a text, or a list of texts."""
    most = limits_of(info).max_stop_sequences
    if isinstance(value, list):
        if len(value) > most:
            raise problem(f"{len(value)} sequences, at most {most} are allowed here")
        for number, item in enumerate(value):
            _check_stop_text(item, number)
    else:
        _check_stop_text(value)
    return value


def _check_stop_text(value: Any, *path: int) -> None:
    if not isinstance(value, str):
        raise problem(f"{short(value)}, expected a text", *path)
    if not value:
        raise problem("an empty text, expected at least one character", *path)


def check_prompt(value: Any, info: ValidationInfo) -> Any:
    """A text, texts, token ids or lists of token ids; by the first item of a list it is known which."""
    limits = limits_of(info)
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise problem(f"{short(value)}, expected a text, texts, token ids or lists of them")
    if not value:
        raise problem("an empty list; give a text, texts, token ids or lists of them")
    first = value[0]
    if not isinstance(first, str | list):
        return _check_ids(value, limits)
    if len(value) > limits.max_prompts:
        raise problem(f"{len(value)} prompts, at most {limits.max_prompts} are taken (--max-prompts)")
    for number, item in enumerate(value):
        if isinstance(first, str) != isinstance(item, str) or not isinstance(item, str | list):
            wanted = "a text" if isinstance(first, str) else "a list of token ids"
            raise problem(f"{short(item)}, expected {wanted} as the first prompt is", number)
        if isinstance(item, list):
            _check_ids(item, limits, number)
    return value


def _check_ids(ids: list[Any], limits: Limits, *path: int) -> list[Any]:
    if len(ids) > limits.max_input_tokens:
        raise problem(f"the prompt has {len(ids)} tokens, at most {limits.max_input_tokens} fit", *path)
    for number, item in enumerate(ids):
        if type(item) is not int or not 0 <= item < 2**31:
            raise problem(f"{short(item)} is no token id, expected a whole number from 0 on", *path, number)
    return ids
