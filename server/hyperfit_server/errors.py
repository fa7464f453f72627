"""Errors for clients whose request is refused or fails: text-generation-inference's body and OpenAI's."""

import json
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

STATUS = {
    "validation": 422,
    "overloaded": 429,
    "generation": 424,
    "incomplete_generation": 500,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "unhealthy": 503,
    "internal": 500,
}
"""HTTP status of each `error_type`; the first four are text-generation-inference's own."""

OPENAI_STATUS = STATUS | {"validation": 400, "generation": 500}
_OPENAI_TYPES = {
    "overloaded": "rate_limit_error",
    "generation": "server_error",
    "incomplete_generation": "server_error",
    "unauthorized": "authentication_error",
    "forbidden": "permission_error",
    "unhealthy": "server_error",
    "internal": "server_error",
}


class Refusal(Exception):
    """A request that gets no answer, or not to its end.

    Args:
        error_type: a key of `STATUS`.
        message: one line: what is wrong with which value, and what was expected.
        param: the request's field that is to blame; shown on the OpenAI routes.
        code: OpenAI's code, such as "model_not_found".
        headers: of the response, such as Retry-After.
        logged: what the log says instead, where the message repeats words of the client.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        logged: str | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type, self.message, self.param, self.code = error_type, message, param, code
        self.headers = headers or {}
        self.logged = message if logged is None else logged

    def status(self, openai: bool) -> int:
        """The HTTP status on the OpenAI routes or on the others."""
        return (OPENAI_STATUS if openai else STATUS)[self.error_type]

    def body(self, openai: bool) -> dict[str, Any]:
        """The JSON body on the OpenAI routes or on the others."""
        if not openai:
            return {"error": self.message, "error_type": self.error_type}
        kind = _OPENAI_TYPES.get(self.error_type, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ErrorResponse(BaseModel):
    """The body of every error outside /v1."""

    error: str
    error_type: str


class OpenAIErrorDetail(BaseModel):
    """Content of "error" in the body of an error under /v1."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorResponse(BaseModel):
    """The body of every error under /v1."""

    error: OpenAIErrorDetail


def problem(message: str, *path: str | int, client_text: bool = False) -> PydanticCustomError:
    """Error of a validator: it ends the check of its field with this message.

    Args:
        path: from the field to the value that is wrong.
        client_text: message or path repeat words of the client, which must not be logged.
    """
    return PydanticCustomError("problem", "{message}", {"message": message, "path": path, "client_text": client_text})


def refusal_of(error: ValidationError) -> Refusal:
    """The first problem that was found, in one line: "parameters.top_p: should be less than 1 (given 2.0)"."""
    first = error.errors(include_url=False)[0]
    path, message, client_text = [*first["loc"]], first["msg"].removeprefix("Input "), False
    if first["type"] == "problem":
        path += first["ctx"]["path"]
        client_text = first["ctx"]["client_text"]
    elif first["type"] == "missing":
        message = "missing"
    else:
        message += f" (given {short(first['input'])})"
    where = ".".join(str(part)[:40] for part in path)
    return Refusal(
        "validation",
        f"{where}: {message}" if where else message,
        param=str(path[0])[:40] if path else None,
        logged="a field that is not supported" if client_text else None,
    )


def short(value: Any) -> str:
    """A number as it is, of all else only what it is: errors are logged, and texts must not be."""
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)[:30]
    kind = {"str": "text", "dict": "object"}.get(type(value).__name__, "list")
    return f"a {kind} of length {len(value)}"
