"""Whatever is sent to the annotation server: never a 500, always JSON with one line that says what was wrong."""

import json
from urllib.parse import quote

import preference_study as invented
import pytest
import schemathesis
from hyperfit_annotate.access import access_for
from hyperfit_annotate.app import create_app
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from starlette.testclient import TestClient

from hyperfit_eval.preference.store import Store

ADMIN, ME = "a-token-for-the-tests", "0f" * 16
BODIES = {
    "/api/join": {"name": "Ann", "token": "1e" * 16},
    "/api/next": {},
    "/api/answer": {"pair": "x", "choice": "first", "seconds": 1.5},
    "/api/undo": {"answer": 1},
    "/api/admin/annotators": {"name": "Bo"},
}


app = create_app(None, access_for("0.0.0.0", ADMIN))
app.openapi_url = "/openapi.json"
app.setup()
schema = schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.fixture(scope="module", autouse=True)
def client(tmp_path_factory):
    """Raises what the application raises, which a browser would see as a 500."""
    folder = tmp_path_factory.mktemp("study")
    app.state.store = store = Store(folder, invented.written(folder, contexts=1, check_rate=0.1))
    store.add_annotator("Ann", ME)
    with TestClient(app) as client:
        yield client
    store.close()


def bearer(path):
    return {"Authorization": f"Bearer {ADMIN if 'admin' in path or 'join' in path else ME}"}


def check(response):
    assert response.status_code < 500
    if response.status_code >= 400:
        detail = response.json()["detail"]
        assert isinstance(detail, str) and detail and "\n" not in detail


bounded = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@schema.parametrize()
@settings(bounded, max_examples=20)
def test_no_route_breaks(case):
    response = case.call(headers=bearer(case.path))
    case.validate_response(response, checks=[not_a_server_error])
    check(response)


texts = st.text(st.characters(exclude_categories=()))  # lone surrogates, too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(texts, parts, max_size=3),
    max_leaves=5,
)


@given(st.data())
@settings(bounded, max_examples=200)
def test_any_value_in_any_field(client, data):
    path = data.draw(st.sampled_from(sorted(BODIES)))
    body = BODIES[path]
    if data.draw(st.booleans()):
        body = body | {data.draw(st.sampled_from([*body, "more"])): data.draw(values)}
    else:
        body = data.draw(values)
    check(client.post(path, content=json.dumps(body), headers=bearer(path) | {"Content-Type": "application/json"}))


@given(st.sampled_from(sorted(BODIES)), st.binary(), st.binary() | st.just(b"application/json"))
@example("/api/join", b"[" * 16_000, b"application/json")
@example("/api/answer", b'{"pair": "x", "choice": "first", "seconds": 1' + 9000 * b"0" + b"}", b"application/json")
@settings(bounded, max_examples=100)
def test_any_bytes(client, path, body, kind):
    kind = bytes(byte for byte in kind if byte not in b"\r\n\0")
    check(
        client.post(path, content=body, headers={"Authorization": bearer(path)["Authorization"], b"Content-Type": kind})
    )


@given(st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"]), texts, st.binary(), st.text("0123456789-²x"))
@example("POST", "api/next", b"", "9" * 5000)
@settings(bounded, max_examples=100)
def test_any_path_token_and_length(client, method, path, token, length):
    for place in (path, f"static/{path}", f"api/admin/export/{path}"):
        url = f"/{quote(place, errors='surrogatepass')}"
        headers = {b"Authorization": b"Bearer " + token, b"Content-Length": length.encode("latin-1")}
        response = client.request(method, url, headers=headers)
        if method != "HEAD":
            check(response)
