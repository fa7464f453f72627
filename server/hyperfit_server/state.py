"""Needs of every route: the engine, its tokenizer, the settings; and how routes find it."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from .calls import Call
from .engine.requests import Engine, Scored
from .errors import Refusal
from .settings import Settings
from .streams import to_json

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON does not know; OpenAI's number."""


CANARY_STATES = ("pending", "passed", "unproven", "off", "bypassed")
"""Not run yet; blocking was seen to work; nothing recites with blocking off; no blocking; it does not block."""


@dataclass
class State:
    """Parts of a server."""

    engine: Engine
    tokenizer: Any
    settings: Settings
    compute_type: str = "cpu"
    """Where the model runs, for x-compute-type and /info."""
    dtype: str = "float32"
    index: dict[str, Any] | None = None
    """Facts about the citation index for /info."""
    max_concurrent_requests: int = 0
    """Running and waiting together."""
    unready: str | None = "the canary has not run yet"
    """Why /health refuses; None once the canary has passed."""
    canary: str = "pending"
    """One of CANARY_STATES."""
    created: int = field(default_factory=lambda: int(time.time()))
    """For /v1/models."""

    def check_ready(self) -> None:
        """No text leaves before the canary has passed.

        Raises:
            Refusal: "unhealthy".
        """
        if self.unready:
            raise Refusal("unhealthy", self.unready, headers={"Retry-After": "1"})


def state_of(http: HttpRequest) -> State:
    """The server's state, from a request to it."""
    return http.app.state.hyperfit


def call_of(http: HttpRequest) -> Call:
    """The record of this request."""
    return http.scope["hyperfit_call"]


def json_response(data: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """A JSON response."""
    return Response(to_json(data), status, headers, media_type="application/json")


def logprob_of(scored: Scored) -> float:
    """The log-probability as a number that JSON can hold."""
    value = scored.logprob
    return LEAST_LOGPROB if value is None or math.isnan(value) else max(value, LEAST_LOGPROB)
