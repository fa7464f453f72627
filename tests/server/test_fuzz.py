"""Whatever a client sends, by the API's own description of itself: never a 500, and errors always in their form."""

import json

import schemathesis
from hyperfit_server.app import create_app
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from server_client import ask, ready

ROUTES = ("/", "/generate", "/generate_stream", "/tokenize", "/v1/completions", "/v1/chat/completions")
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(ready()))


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_route_breaks(case):
    response = case.call()
    case.validate_response(response, checks=CHECKS)
    if response.status_code >= 400:
        error = response.json()["error"]
        assert error["message"] if case.path.startswith("/v1/") else error
        assert "detail" not in response.json()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)
names = st.sampled_from(
    ["inputs", "parameters", "stream", "prompt", "messages", "stop", "n", "max_tokens", "logprobs", "echo", "seed"]
)
bodies = st.dictionaries(names, values, max_size=5) | values


@given(st.sampled_from(ROUTES), st.binary(max_size=40) | bodies.map(lambda body: json.dumps(body).encode()))
@example("/generate", b"")
@example("/generate", b'{"inputs": NaN}')
@example("/v1/completions", b'{"prompt": "\\ud800"}')
@example("/v1/chat/completions", b'{"messages": [{"role": "\\udfff", "content": "\\ud800"}]}')
@example("/v1/completions", b"[" * 20_000)
@example("/v1/completions", b'{"seed": ' + b"9" * 5000 + b"}")
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_body_breaks(path, body):
    response = ask(ready(), path, method="POST", content=body)
    assert response.status_code < 500, (body, response.text)
    if response.status_code >= 400:
        error = response.json()["error"]
        message = error["message"] if path.startswith("/v1/") else error
        assert message and "\n" not in message and "validation error" not in message
