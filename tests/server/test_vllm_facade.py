"""The routes on top of vLLM, and the engine under them, over a stand-in for vLLM that answers in its words.

The real one is tested by tests/engines/vllm.
"""

import json
import time
from types import SimpleNamespace

import citation_tokenizers as kinds
import pytest
from hyperfit_server.hooks.environment import BlockerSettings
from hyperfit_server.vllm_facade import TgiFacade
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from hyperfit_eval.citation import CitationIndex, CitationMatcher

WORDS = "The dog sat. " * 3 + kinds.TEXT


class StandIn:
    """A model that recites its corpus, behind vLLM's /v1/completions."""

    def __init__(self, index, tokenizer, bypassed=False, forced=False):
        self.matcher, self.tokenizer = CitationMatcher(index), tokenizer
        self.ids = tokenizer(WORDS)["input_ids"]
        self.bypassed, self.forced, self.status, self.bodies = bypassed, forced, 200, []
        routes = [Route("/v1/completions", self.completions, methods=["POST"])]
        routes += [Route(path, self.named, methods=["POST", "GET"]) for path in ("/tokenize", "/metrics", "/other")]
        self.app = Starlette(routes=routes)

    async def named(self, request):
        return JSONResponse({"vllm": request.url.path, "body": (await request.body()).decode()})

    def tokens(self, body):
        history, blocking = [], body["vllm_xargs"]["hyperfit_blocking"] == "on" and not self.bypassed
        position = self.ids.index(body["prompt"][-1]) + 1
        for _ in range(body["max_tokens"]):
            token = self.ids[position % len(self.ids)]
            if blocking and token in self.matcher.banned_after(history).ids:
                token = self.tokenizer.eos_token_id + 1  # <pad>: in no corpus
            history.append(token)
            position += 1
        return history

    async def completions(self, request):
        body = await request.json()
        self.bodies.append(body)
        if self.status != 200:
            return JSONResponse({"error": {"message": "busy", "code": self.status}}, self.status)
        ids, many = self.tokens(body), body["prompt"] if isinstance(body["prompt"], list) else []
        prompt = [None, *({str(token): {"logprob": -0.5, "rank": 1, "decoded_token": "?"}} for token in many[1:])]

        def choice(part, last, **more):
            names = [f"token_id:{token}" for token in part]
            tops = [{name: -0.25, "token_id:5": -2.0} for name in names]
            return {
                "index": 0, "text": self.tokenizer.decode(part, skip_special_tokens=True), "token_ids": part,
                "logprobs": {"tokens": names, "token_logprobs": [-0.25] * len(part), "top_logprobs": tops},
                "finish_reason": "length" if last else None, "stop_reason": None, **more,
            }  # fmt: skip

        if not body.get("stream"):
            return JSONResponse({"choices": [choice(ids, True, prompt_logprobs=prompt)]})

        async def events():
            for start in range(0, len(ids), 2):  # vLLM joins tokens when it is ahead of its reader
                data = json.dumps({"choices": [choice(ids[start : start + 2], start + 2 >= len(ids))]})
                yield f"data: {data}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = kinds.byte_level()
    tokenizer.save_pretrained(folder)
    index = CitationIndex.build([tokenizer(WORDS)["input_ids"]], tokenizer)
    index.save(folder / "index.safetensors")
    return SimpleNamespace(folder=folder, tokenizer=tokenizer, index=index)


@pytest.fixture
def serve(model, monkeypatch):
    clients = []

    def start(ready=True, key=None, max_requests=50, host="127.0.0.1", **kwargs):
        forced = kwargs.get("forced", False)
        settings = BlockerSettings(str(model.folder / "index.safetensors"), None, forced, "canary-word")
        for name, value in settings.variables().items():
            monkeypatch.setenv(name, value)
        if key:
            monkeypatch.setenv("VLLM_API_KEY", key)
        vllm = StandIn(model.index, model.tokenizer, **kwargs)
        config = SimpleNamespace(
            tokenizer=str(model.folder), tokenizer_revision=None, trust_remote_code=False, model="m",
            max_model_len=64, get_vocab_size=lambda: len(model.tokenizer),
        )  # fmt: skip
        vllm.app.state.vllm_config = SimpleNamespace(model_config=config)
        vllm.app.state.args = SimpleNamespace(served_model_name=["book"], max_num_queued_reqs=max_requests, host=host)
        vllm.app.add_middleware(TgiFacade)
        headers = {"Authorization": f"Bearer {key}"} if key else None
        client = TestClient(vllm.app, "http://127.0.0.1:8000", headers=headers)
        client.__enter__()
        clients.append(client)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (client.get("/health").status_code == 200) != ready:
            time.sleep(0.01)
            if not ready and "bypassed" in client.get("/health").text:
                break
        vllm.bodies.clear()
        return SimpleNamespace(client=client, vllm=vllm)

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def test_generate_with_details(serve, model):
    server = serve()
    parameters = {"max_new_tokens": 3, "details": True, "decoder_input_details": True, "top_n_tokens": 2}
    answer = server.client.post("/generate", json={"inputs": "The", "parameters": parameters}).json()
    the = model.tokenizer("The")["input_ids"][-1]
    ids = server.vllm.tokens({"prompt": [the], "max_tokens": 3, "vllm_xargs": {"hyperfit_blocking": "on"}})
    assert answer["generated_text"] == model.tokenizer.decode(ids)
    details = answer["details"]
    assert [token["id"] for token in details["tokens"]] == ids
    assert "".join(token["text"] for token in details["tokens"]) == answer["generated_text"]
    assert [token["logprob"] for token in details["tokens"]] == [-0.25] * 3
    assert [[top["id"] for top in tops] for tops in details["top_tokens"]] == [[token, 5] for token in ids]
    assert [(token["id"], token["logprob"]) for token in details["prefill"]] == [
        (model.tokenizer.bos_token_id, None),
        (the, -0.5),
    ]
    assert details["finish_reason"] == "length" and details["seed"] is None
    sent = server.vllm.bodies[0]
    assert sent["temperature"] == 0 and sent["vllm_xargs"] == {"hyperfit_blocking": "on"}


def test_a_stream_counts_what_was_blocked(serve):
    server = serve()
    body = {"inputs": "The", "stream": True, "parameters": {"max_new_tokens": 30, "details": True}}
    lines = [line for line in server.client.post("/", json=body).text.split("\n") if line]
    events = [json.loads(line.removeprefix("data:")) for line in lines]
    assert [event["index"] for event in events] == list(range(1, 31))
    assert all(event["generated_text"] is None for event in events[:-1])
    blocked = [event["token"]["blocked"] for event in events]
    assert 0 < sum(blocked) == events[-1]["details"]["blocked_tokens"]
    assert [event["token"]["text"] for event in events if event["token"]["special"]]  # what stood in: <pad>
    assert f"hyperfit_blocked_tokens_total {float(sum(blocked))}" in server.client.get("/metrics/hyperfit").text


def test_settings_in_vllms_words(serve):
    server = serve()
    parameters = {
        "max_new_tokens": 2, "do_sample": True, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": 2**64 - 1,
        "repetition_penalty": 1.1, "frequency_penalty": 0.2, "stop": ["x"], "truncate": 5,
    }  # fmt: skip
    assert server.client.post("/generate", json={"inputs": "The " * 9, "parameters": parameters}).status_code == 200
    sent = server.vllm.bodies[0]
    expected = {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": -1, "repetition_penalty": 1.1}
    expected |= {"frequency_penalty": 0.2, "stop": ["x"], "include_stop_str_in_output": True, "max_tokens": 2}
    assert {name: sent[name] for name in expected} == expected and len(sent["prompt"]) == 5


@pytest.mark.parametrize(
    ("parameters", "seeds", "answered"),
    [
        ({"do_sample": True}, [None], None),
        ({"do_sample": True, "best_of": 2}, [None, None], None),
        ({"do_sample": True, "seed": 7}, [7], 7),
        ({"seed": 7}, [None], None),  # greedy
    ],
)
def test_only_the_clients_seeds_are_sent(serve, parameters, seeds, answered):
    server = serve()
    body = {"inputs": "The", "parameters": {"max_new_tokens": 2, "details": True, **parameters}}
    answer = server.client.post("/generate", json=body).json()
    assert [sent.get("seed") for sent in server.vllm.bodies] == seeds
    assert answer["details"]["seed"] == answered


def test_errors_in_this_servers_words(serve):
    server = serve()

    def asked(**parameters):
        response = server.client.post("/generate", json={"inputs": "The", "parameters": parameters})
        return response.status_code, response.json()

    assert asked(typical_p=0.5)[1]["error"] == "typical_p is 0.5: vLLM has no typical sampling"
    assert asked(max_new_tokens=100)[0] == 422
    server.vllm.status = 503
    assert asked() == (429, {"error": "busy", "error_type": "overloaded"})
    server.vllm.status = 400
    assert asked() == (424, {"error": "vLLM refuses (400): busy", "error_type": "generation"})


def test_at_most_so_many_at_a_time(serve):
    server = serve(max_requests=1)
    parameters = {"do_sample": True, "best_of": 2}
    response = server.client.post("/generate", json={"inputs": "The", "parameters": parameters})
    assert response.status_code == 429 and response.headers["retry-after"] == "1"


def test_the_switch_on_vllms_routes(serve):
    server = serve()
    for headers, body, expected in (
        ({}, {}, None),
        ({"X-Hyperfit-Blocking": "off"}, {}, {"hyperfit_blocking": "off"}),
        ({}, {"blocking": False, "vllm_xargs": {"a": 1}}, {"a": 1, "hyperfit_blocking": "off"}),
        ({"X-Hyperfit-Blocking": "on"}, {"blocking": True}, {"hyperfit_blocking": "on"}),
    ):
        server.vllm.bodies.clear()
        server.vllm.status = 418  # only what arrives there matters
        server.client.post("/v1/completions", json={"prompt": "a"} | body, headers=headers)
        assert server.vllm.bodies[0].get("vllm_xargs") == expected and "blocking" not in server.vllm.bodies[0]
    answer = server.client.post("/v1/chat/completions", json={"messages": [], "use_beam_search": True})
    assert answer.status_code == 400 and "past the citation blocker" in answer.json()["error"]["message"]
    for body in ({"use_beam_search": 1}, [{"use_beam_search": "true"}]):  # vLLM has more routes that take it
        answer = server.client.post("/other", json=body)
        assert answer.status_code == 422 and "past the citation blocker" in answer.json()["error"]
    for body in (b"{", b"[]", b'{"vllm_xargs": 3, "prompt": "a"}'):  # vLLM says what is wrong with these
        assert server.client.post("/other", content=body).json() == {"vllm": "/other", "body": body.decode()}
    answer = server.client.post("/v1/completions", json={"prompt": "a", "blocking": "no"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "blocking")


def test_switching_off_can_be_forbidden(serve):
    """The canary has a word of its own for off."""
    server = serve(forced=True)
    off = {"X-Hyperfit-Blocking": "off"}
    answer = server.client.post("/generate", json={"inputs": "The"}, headers=off)
    assert answer.status_code == 403 and answer.json()["error_type"] == "forbidden"
    assert server.client.post("/v1/completions", json={"prompt": "a"}, headers=off).status_code == 403
    assert server.vllm.bodies == []


def test_what_goes_on_to_vllm(serve):
    client = serve().client
    assert client.get("/metrics").json()["vllm"] == "/metrics"
    assert client.post("/other", content=b"x").json() == {"vllm": "/other", "body": "x"}
    assert json.loads(client.post("/tokenize", json={"prompt": "The"}).json()["body"]) == {"prompt": "The"}
    assert [token["text"] for token in client.post("/tokenize", json={"inputs": "The"}).json()] == ["", "The"]
    assert client.get("/info").json()["blocking"]["canary"] == "passed"
    assert client.get("/info").json()["model_id"] == "book"


@pytest.mark.parametrize("path", ["/generate", "/v1/completions", "/other"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_pages_of_other_sites_are_refused_on_loopback(serve, path, headers):
    body = {"inputs": "The", "prompt": "The"}
    server = serve()
    assert server.client.post(path, json=body, headers=headers).status_code == 403
    assert server.vllm.bodies == []
    assert serve(key="sesame").client.post("/other", json=body, headers=headers).status_code == 200
    assert serve(host=None).client.post("/other", json=body, headers=headers).status_code == 200


def test_below_a_root_path(serve):
    """vLLM's --root-path: Starlette takes paths with it and without."""
    server = serve()
    below = TestClient(server.vllm.app, "http://127.0.0.1:8000", root_path="/book")
    assert below.post("/book/generate", json={"inputs": "The"}).status_code == 200
    assert below.post("/book/v1/completions", json={"prompt": "a", "use_beam_search": True}).status_code == 400


def test_the_key_is_asked_for_and_passed_on(serve):
    client = serve(key="sesame").client
    assert client.post("/generate", json={"inputs": "The"}).status_code == 200
    answer = client.post("/generate", json={"inputs": "The"}, headers={"Authorization": "Bearer no"})
    assert answer.status_code == 401 and answer.json()["error_type"] == "unauthorized"


def test_a_bypassed_blocker_serves_nobody(serve):
    client = serve(ready=False, bypassed=True).client
    answer = client.get("/health")
    assert answer.status_code == 503 and "bypassed" in answer.json()["error"]
    for path in ("/", "/generate_stream", "/v1/completions", "/other"):
        assert client.post(path, json={"inputs": "The", "prompt": "The"}).status_code == 503
    assert client.get("/health/live").status_code == 200


def test_a_blocker_that_stops_working_is_noticed(serve):
    server = serve()
    server.vllm.bypassed = True
    answer = server.client.post("/generate", json={"inputs": "The", "parameters": {"max_new_tokens": 30}})
    assert answer.status_code == 424 and "a token that the citation blocker bans" in answer.json()["error"]
    assert server.client.get("/health").status_code == 503
    assert server.client.post("/v1/completions", json={"prompt": "a"}).status_code == 503
