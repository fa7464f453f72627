"""The server as an ASGI application."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from .calls import ClientGone
from .errors import Refusal
from .gate import Gate
from .metrics import Metrics
from .openapi import document
from .routes import chat, completions, info, tgi
from .state import State, call_of, json_response

OTHER = "other"
"""The route of what no route answers: metrics must not grow with what clients make up."""


def create_app(state: State) -> Gate:
    """Make the application; the engine is already running.

    Args:
        state: engine, tokenizer and settings. `state.unready` is looked at for every /health.
    """
    app = FastAPI(
        title="hyperfit serve",
        version=version("hyperfit-eval"),
        docs_url=None,  # the page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.hyperfit = state
    app.state.metrics = metrics = Metrics(state)
    routers = [module.router for module in (tgi, completions, chat, info)]
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes]
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)

    def route_of(scope: Scope) -> str:
        return next((str(vars(route)["path"]) for route in routes if route.matches(scope)[0] is not Match.NONE), OTHER)

    return Gate(app, state.settings, metrics, route_of)


def _refused(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    call = call_of(http)
    call.error = error.logged
    return json_response(error.body(call.openai), error.headers, error.status(call.openai))


def _http_error(http: HttpRequest, error: Exception) -> Response:
    """Refusals of the router itself: an unknown path, another method."""
    assert isinstance(error, HTTPException)
    if http.method == "OPTIONS" and error.status_code == 405:
        return Response(status_code=204, headers=dict(error.headers or {}))
    kinds = {404: "not_found", 405: "method_not_allowed"}
    what = {404: "there is no such route", 405: f"{http.method} is not for this route"}
    message = what.get(error.status_code, str(error.detail))
    refusal = Refusal(kinds.get(error.status_code, "validation"), message, headers=dict(error.headers or {}))
    return _refused(http, refusal)


def _failed(http: HttpRequest, error: Exception) -> Any:
    if isinstance(error, ClientGone | ClientDisconnect):
        raise error
    message = "the server made a mistake; its log has the details under this request's id"
    return _refused(http, Refusal("internal", message))
