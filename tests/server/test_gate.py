"""What every request passes: the blocker's switch, readiness, the key, sizes, log and metrics."""

import asyncio
import logging

from hyperfit_server.settings import Settings
from server_client import LIMITS, ask, client_of, generate, ready
from server_engine import ScriptedEngine


def test_blocking_is_switched_by_header_and_body():
    engine = ScriptedEngine()
    state = ready(engine)

    def blocked(headers=None, **fields):
        response = ask(state, "/generate", {"inputs": "hello", **fields}, headers=headers)
        assert response.status_code == 200, response.text
        assert response.headers["x-hyperfit-blocking"] == ("on" if engine.finished[-1].blocking else "off")
        return engine.finished[-1].blocking

    assert blocked()
    assert not blocked({"X-Hyperfit-Blocking": "off"})
    assert not blocked(blocking=False)
    assert not blocked(parameters={"blocking": False})
    assert blocked({"X-Hyperfit-Blocking": "ON"}, blocking=True)
    state.settings = Settings(limits=LIMITS, blocking=False)
    assert not blocked()
    assert blocked({"X-Hyperfit-Blocking": "on"})
    for path, body in (
        ("/v1/completions", {"prompt": "hello", "blocking": True}),
        ("/v1/completions", {"prompt": ["a", "b"], "n": 2, "blocking": True}),
    ):
        answer = ask(state, path, body)
        assert answer.headers["x-hyperfit-blocking"] == "on"
        assert engine.finished[-1].blocking
        assert answer.json()["choices"][0]["blocked_tokens"] == 3


def test_contradictions_about_blocking():
    state = ready()
    wrong = ask(state, "/", {"inputs": "a", "blocking": True}, headers={"X-Hyperfit-Blocking": "off"})
    assert wrong.json()["error"] == "X-Hyperfit-Blocking is off, blocking is true"
    wrong = ask(state, "/", {"inputs": "a"}, headers={"X-Hyperfit-Blocking": "maybe"})
    assert wrong.json()["error"] == "X-Hyperfit-Blocking: 'maybe', expected on or off"
    wrong = ask(state, "/", {"inputs": "a", "blocking": True, "parameters": {"blocking": False}})
    assert wrong.json()["error"] == "blocking and parameters.blocking contradict each other"


def test_blocking_can_be_forced():
    state = ready(force_blocking=True)
    message = "citation blocking cannot be switched off on this server (--force-blocking)"
    response = generate(state, headers={"X-Hyperfit-Blocking": "off"})
    assert (response.status_code, response.json()) == (403, {"error": message, "error_type": "forbidden"})
    assert generate(state, blocking=False).status_code == 403
    assert generate(state, blocking=True).status_code == 200
    openai = ask(state, "/v1/completions", {"prompt": "a", "blocking": False})
    assert (openai.status_code, openai.json()["error"]["type"]) == (403, "permission_error")


def test_blocking_cannot_be_had_without_an_index():
    response = generate(ready(has_index=False, blocking=False), blocking=True)
    assert response.status_code == 422
    assert response.json()["error"].startswith("blocking: this server has no citation index")


def test_nothing_is_served_before_the_canary_has_passed():
    state = ready()
    state.unready, state.canary = "the canary has not run yet", "pending"
    for response in (generate(state), ask(state, "/health")):
        assert response.status_code == 503
        assert response.json() == {"error": "the canary has not run yet", "error_type": "unhealthy"}
    assert ask(state, "/v1/completions", {"prompt": "a"}).status_code == 503
    assert ask(state, "/health/live").status_code == 200
    state.unready, state.canary = None, "passed"
    assert ask(state, "/health").json() == {"status": "ok", "canary": "passed"}
    state.engine.alive = False
    assert ask(state, "/health").status_code == 503


def test_the_api_key(caplog):
    state = ready(api_key="öpen sesame")
    with caplog.at_level(logging.INFO, "hyperfit_server"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "öpen sesame".encode()}):
            response = generate(state, headers=headers)
            assert response.status_code == 401
            assert response.json()["error_type"] == "unauthorized"
            assert response.headers["www-authenticate"] == "Bearer"
            openai = ask(state, "/v1/models", headers=headers)
            assert openai.json()["error"]["code"] == "invalid_api_key"
        assert ask(state, "/metrics").status_code == ask(state, "/openapi.json").status_code == 401
        assert ask(state, "/health").status_code == 200
        assert generate(state, headers={"Authorization": "Bearer öpen sesame".encode()}).status_code == 200
    assert "sesame" not in caplog.text
    assert "sesame" not in repr(state.settings)


def test_the_scheme_of_the_key_is_read_in_any_case():
    state = ready(api_key="sesame")
    for value, status in (("bearer sesame", 200), ("BEARER  sesame", 200), ("Basic sesame", 401), ("sesame", 401)):
        assert generate(state, headers={"Authorization": value}).status_code == status, value


def test_on_loopback_pages_of_other_sites_are_refused():
    state = ready(local_only=True)
    body = {"inputs": "hello"}

    def status(**headers):
        return ask(state, "/generate", body, headers=headers).status_code

    assert status(Host="127.0.0.1:8080") == status(Host="localhost", Origin="http://localhost") == 200
    for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1:8080", "Origin": "http://evil.example"}):
        refused = ask(state, "/generate", body, headers=headers)
        assert (refused.status_code, refused.json()["error_type"]) == (403, "forbidden")
    assert ask(ready(), "/generate", body, headers={"Host": "server.example"}).status_code == 200


def test_methods_that_monitors_and_proxies_send():
    state = ready()
    for path in ("/health", "/info", "/v1/models", "/metrics"):
        head, get = (ask(state, path, method=method) for method in ("HEAD", "GET"))
        assert (head.status_code, head.headers["content-type"]) == (200, get.headers["content-type"])
    options = ask(state, "/generate", method="OPTIONS")
    assert (options.status_code, options.headers["allow"]) == (204, "POST")
    assert ask(state, "/generate", method="GET").status_code == 405
    assert ask(state, "/nowhere", method="OPTIONS").status_code == 404
    # A length that no number holds.
    long = ask(state, "/generate", method="POST", headers={"Content-Length": "9" * 5000})
    assert long.status_code == 413


def test_words_of_clients_stay_out_of_the_log(caplog):
    state = ready()
    with caplog.at_level(logging.INFO, "hyperfit_server"):
        for path, body, headers in (
            ("/generate", {"inputs": "a", "parameters": {"secret": 1}}, {}),
            ("/v1/completions", {"prompt": "a", "secret": 1}, {}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "secret"}]}]}, {}),
            ("/generate", {"inputs": "a"}, {"X-Hyperfit-Blocking": "secret"}),
            ("/v1/models/secret", None, {}),
        ):
            assert ask(state, path, body, headers=headers).status_code in (400, 404, 422)
    told = [record.fields for record in caplog.records if record.msg == "request"]
    assert len(told) == 5
    assert "secret" not in caplog.text + str(told)


def test_bodies_that_are_too_large():
    async def post():
        async def parts():
            for _ in range(30):
                yield b" " * 1000

        async with client_of(ready()) as client:
            declared = await client.post("/generate", json={"inputs": "a" * 20_000})
            streamed = await client.post("/v1/completions", content=parts())
            return declared, streamed

    declared, streamed = asyncio.run(post())
    assert declared.status_code == streamed.status_code == 413
    assert declared.json() == {"error": "the body is larger than 20000 bytes", "error_type": "too_large"}
    assert streamed.json()["error"]["message"] == "the body is larger than 20000 bytes"
    assert declared.headers["connection"] == "close"


def test_request_ids_and_the_log(caplog):
    state = ready()
    with caplog.at_level(logging.INFO, "hyperfit_server"):
        response = generate(state, inputs="a secret", headers={"X-Request-Id": "abc-1"}, max_new_tokens=3)
        assert response.headers["x-request-id"] == "abc-1"
        odd = generate(state, headers={"X-Request-Id": 'a"\tb'}, temperature=-1)
        assert len(odd.headers["x-request-id"]) == 16
        ask(state, "/generate", {"inputs": ["a secret"]})
    first, second, _ = (record.fields for record in caplog.records if record.msg == "request")
    assert first.pop("seconds") < 5
    assert first == {
        "request_id": "abc-1", "route": "/generate", "status": 200, "client": "127.0.0.1", "prompt_tokens": 3,
        "generated_tokens": 3, "blocking": True, "blocked_tokens": 1, "queue_seconds": 0.25,
    }  # fmt: skip
    assert second["status"] == 422
    assert second["error"] == "parameters.temperature: should be greater than 0 (given -1)"
    assert "secret" not in caplog.text + str([record.fields for record in caplog.records])
    with caplog.at_level(logging.INFO, "hyperfit_server"):
        state = ready(log_text=True)
        generate(state, inputs="a secret", max_new_tokens=1)
        generate(state, "/generate_stream", inputs="a secret", max_new_tokens=1)
        ask(state, "/v1/completions", {"prompt": "a secret", "max_tokens": 1, "temperature": 0})
    for record in caplog.records[-3:]:
        assert record.fields["texts"] == [{"prompt": "a secret", "generated": "one"}]


def test_metrics():
    state = ready()

    async def requests():
        async with client_of(state) as client:
            for new_tokens in (2, 3):
                body = {"inputs": "hello", "parameters": {"max_new_tokens": new_tokens}}
                await client.post("/generate", json=body)
            await client.post("/generate_stream", json={"inputs": "hello", "parameters": {"max_new_tokens": 4}})
            await client.post("/generate", json={})
            await client.get("/v1/models/some/model")
            await client.get("/some/path")
            return (await client.get("/metrics")).text

    lines = asyncio.run(requests()).splitlines()
    for line in (
        'hyperfit_requests_total{route="/generate",status="200"} 2.0',
        'hyperfit_requests_total{route="/generate",status="422"} 1.0',
        'hyperfit_requests_total{route="/v1/models/{model:path}",status="404"} 1.0',
        'hyperfit_requests_total{route="other",status="404"} 1.0',
        "hyperfit_prompt_tokens_total 12.0",
        "hyperfit_generated_tokens_total 9.0",
        "hyperfit_blocked_tokens_total 3.0",
        "hyperfit_request_seconds_count 3.0",
        "hyperfit_queue_seconds_sum 0.75",
        "hyperfit_first_token_seconds_count 1.0",
        "hyperfit_token_seconds_count 3.0",
        "hyperfit_batch_size 0.0",
        "hyperfit_queue_size 0.0",
        "hyperfit_blocker_matched_total 3.0",
        "hyperfit_blocker_banned_total 2.0",
        "hyperfit_blocker_unblocked_total 1.0",
        'hyperfit_canary{state="passed"} 1.0',
    ):
        assert line in lines


def test_no_other_origin_is_let_in():
    response = ask(ready(), "/info", headers={"Origin": "http://elsewhere"})
    assert not [name for name in response.headers if name.startswith("access-control")]
