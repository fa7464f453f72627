"""The description of the API at /openapi.json. Routes read their bodies themselves, so it is put together here."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .errors import ErrorResponse, OpenAIErrorResponse
from .routes import tgi_schema as tgi
from .routes.openai_schema import ChatRequest, CompletionRequest

_JSON, _EVENTS = "application/json", "text/event-stream"
_BODIES: dict[str, tuple[type[BaseModel], type[BaseModel] | None, type[BaseModel] | None]] = {
    "/": (tgi.GenerateRequest, tgi.GenerateResponse, tgi.StreamResponse),
    "/generate": (tgi.GenerateRequest, tgi.GenerateResponse, tgi.StreamResponse),
    "/generate_stream": (tgi.GenerateRequest, None, tgi.StreamResponse),
    "/tokenize": (tgi.TokenizeRequest, tgi.SimpleToken, None),
    "/v1/completions": (CompletionRequest, None, None),
    "/v1/chat/completions": (ChatRequest, None, None),
}
_BLOCKING_HEADER = {
    "name": "X-Hyperfit-Blocking",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": ["on", "off"]},
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of a server."""
    if app.openapi_schema:
        return app.openapi_schema
    kinds = {model for models in _BODIES.values() for model in models if model} | {ErrorResponse, OpenAIErrorResponse}
    _, definitions = models_json_schema(
        [(kind, "validation") for kind in sorted(kinds, key=lambda kind: kind.__name__)],  # type: ignore[misc]
        ref_template="#/components/schemas/{model}",
    )
    described = get_openapi(title=app.title, version=app.version, routes=app.routes)
    described.setdefault("components", {})["schemas"] = definitions["$defs"]
    for path, methods in described["paths"].items():
        error = _content(_JSON, OpenAIErrorResponse if path.startswith("/v1/") else ErrorResponse)
        for operation in methods.values():
            for status in ("4XX", "5XX"):
                operation["responses"][status] = {"description": "Refused or failed", "content": error}
            operation["responses"].pop("422", None)
        if path in _BODIES:
            _describe(path, methods["post"])
    described["paths"]["/metrics"]["get"]["responses"]["200"]["content"] = {"text/plain": {}}
    app.openapi_schema = described
    return described


def _describe(path: str, operation: dict[str, Any]) -> None:
    body, answer, part = _BODIES[path]
    operation["requestBody"] = {"required": True, "content": _content(_JSON, body)}
    if path == "/tokenize":
        operation["responses"]["200"]["content"] = {_JSON: {"schema": {"type": "array", "items": _reference(answer)}}}
        return
    operation["parameters"] = [_BLOCKING_HEADER]
    content: dict[str, Any] = {_JSON: {"schema": {}}, _EVENTS: {"schema": {}}}
    if answer:
        content = _content(_JSON, answer) | {_EVENTS: {"schema": {}}}
    elif part:
        content = {_EVENTS: {"schema": {}}}
    operation["responses"]["200"]["content"] = content


def _content(media_type: str, model: type[BaseModel]) -> dict[str, Any]:
    return {media_type: {"schema": _reference(model)}}


def _reference(model: type[BaseModel] | None) -> dict[str, str]:
    assert model is not None
    return {"$ref": f"#/components/schemas/{model.__name__}"}
