"""text-generation-inference's API around an engine that says the same words to everyone."""

import asyncio
import json
import logging

import pytest
from hyperfit_server.app import create_app
from server_client import ask, client_of, events, generate, ready
from server_engine import ScriptedEngine


def test_generate_by_hand():
    response = generate(ready(), max_new_tokens=3, details=True, decoder_input_details=True, top_n_tokens=1)
    assert response.status_code == 200
    assert response.json() == {
        "generated_text": "one two three",
        "details": {
            "finish_reason": "length",
            "generated_tokens": 3,
            "seed": None,
            "blocked_tokens": 1,
            "prefill": [
                {"id": 0, "text": "<0>", "logprob": None},
                {"id": 258, "text": "<258>", "logprob": -0.25},
                {"id": 289, "text": "<289>", "logprob": -0.5},
                {"id": 79, "text": "<79>", "logprob": -0.75},
                {"id": 483, "text": "<483>", "logprob": -1.0},
            ],
            "tokens": [
                {"id": 0, "text": "one", "logprob": -0.5, "special": False, "blocked": False},
                {"id": 1, "text": " two", "logprob": -0.5, "special": False, "blocked": True},
                {"id": 2, "text": " three", "logprob": -0.5, "special": False, "blocked": False},
            ],
            "top_tokens": [[{"id": n, "text": "top0", "logprob": -0.125, "special": False}] for n in range(3)],
        },
    }
    assert response.headers["x-prompt-tokens"] == "5"
    assert response.headers["x-generated-tokens"] == "3"
    assert response.headers["x-hyperfit-blocking"] == "on"
    assert response.headers["content-type"] == "application/json"


def test_all_routes_give_one_answer():
    state = ready()
    whole = generate(state, "/", max_new_tokens=7).json()
    assert whole == generate(state, "/generate", max_new_tokens=7).json()
    for path, stream in (("/", True), ("/generate", True), ("/generate_stream", None)):
        response = generate(state, path, stream=stream, max_new_tokens=7)
        assert response.headers["content-type"].startswith("text/event-stream")
        told = events(response)
        assert "".join(event["token"]["text"] for event in told) == whole["generated_text"]
        assert [event["index"] for event in told] == list(range(1, 8))
        assert [event["generated_text"] for event in told] == [None] * 6 + [whole["generated_text"]]


def test_stream_ends_with_its_details():
    last = events(generate(ready(), "/generate_stream", max_new_tokens=2, details=True, top_n_tokens=2))[-1]
    assert last["details"] == {
        "finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 5, "blocked_tokens": 1,
    }  # fmt: skip
    assert last["token"]["blocked"] is True
    assert [top["text"] for top in last["top_tokens"]] == ["top0", "top1"]


def test_a_token_is_sent_before_the_next_one_is_there():
    engine = ScriptedEngine()
    sent = []

    async def listen():
        app = create_app(ready(engine))
        body = json.dumps({"inputs": "hello", "stream": True, "parameters": {"max_new_tokens": 3}}).encode()
        scope = {
            "type": "http", "method": "POST", "path": "/generate", "raw_path": b"/generate", "query_string": b"",
            "headers": [], "root_path": "", "scheme": "http", "http_version": "1.1",
        }  # fmt: skip
        messages = [{"type": "http.request", "body": body}]

        async def receive():
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message):
            if message.get("body"):
                sent.append((len(sent), engine.generations[0].said))

        await app(scope, receive, send)

    asyncio.run(listen())
    assert sent == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_stop_sequences_seeds_and_the_prompt(path):
    state = ready()

    def text(**parameters):
        response = generate(state, path, **parameters)
        return response.json()["generated_text"] if path == "/generate" else events(response)[-1]["generated_text"]

    assert text(stop=["o th"]) == "one two th"
    assert text(stop=["r", "o th"]) == "one two th"
    assert text(max_new_tokens=1, return_full_text=True) == "hello thereone"
    assert text(max_new_tokens=1, seed=2) == "one"
    assert text(max_new_tokens=1, seed=2, do_sample=True) == " three"
    assert text(max_new_tokens=1, seed=2, top_k=3) == " three"
    assert text(max_new_tokens=1, seed=2, temperature=1.0) == "one"


def test_best_of_gives_the_others_too():
    details = generate(ready(), best_of=3, do_sample=True, max_new_tokens=2, details=True).json()["details"]
    others = details["best_of_sequences"]
    assert len(others) == 2
    assert {details["seed"], *(one["seed"] for one in others)} == {0, 1, 2}  # as the engine drew them
    assert all(len(one["tokens"]) == one["generated_tokens"] == 2 for one in others)


def test_sampling_reaches_the_engine():
    engine = ScriptedEngine()
    given = {
        "do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 0.9, "typical_p": 0.95, "seed": 2**63,
        "repetition_penalty": 1.2, "frequency_penalty": -0.5, "max_new_tokens": 9, "stop": ["a", "b"],
    }  # fmt: skip
    generate(ready(engine), inputs="a b c", truncate=3, **given)
    request = engine.finished[0]
    assert {name: getattr(request.sampling, name) for name in given} == {**given, "stop": ("a", "b")}
    assert len(request.prompt_ids) == 3
    assert request.prompt_ids[0] == 0  # BOS stays in front
    generate(ready(engine))
    assert engine.finished[1].sampling.max_new_tokens == 50  # all that the server gives, since 100 are too many
    assert not engine.finished[1].sampling.do_sample


REFUSED = [
    ({"temperature": 0}, "parameters.temperature: should be greater than 0 (given 0)"),
    ({"temperature": "1"}, "parameters.temperature: should be a valid number (given a text of length 1)"),
    ({"top_p": 1.0}, "parameters.top_p: should be less than 1 (given 1.0)"),
    ({"typical_p": 0.0}, "parameters.typical_p: should be greater than 0 (given 0.0)"),
    ({"top_k": 0}, "parameters.top_k: should be greater than or equal to 1 (given 0)"),
    ({"repetition_penalty": 0}, "parameters.repetition_penalty: should be greater than 0 (given 0)"),
    ({"frequency_penalty": 2.5}, "parameters.frequency_penalty: should be less than or equal to 2 (given 2.5)"),
    ({"max_new_tokens": 0}, "parameters.max_new_tokens: should be greater than or equal to 1 (given 0)"),
    ({"max_new_tokens": 51}, "51 new tokens are asked for, at most 50 are given"),
    ({"seed": -1}, "parameters.seed: should be greater than or equal to 0 (given -1)"),
    ({"stop": [""]}, "parameters.stop.0: an empty text, expected at least one character"),
    ({"stop": ["a"] * 17}, "parameters.stop: 17 sequences, at most 16 are allowed here"),
    ({"top_n_tokens": 21}, "top_n_tokens is 21, at most 20 are allowed here"),
    ({"truncate": 41}, "truncate is 41, at most 40 are allowed here"),
    ({"truncate": 1}, "truncate is 1: with BOS, expected 2 or more"),
    ({"best_of": 2}, "best_of is 2: without sampling all would be equal; add do_sample: true"),
    ({"best_of": 9, "do_sample": True}, "best_of is 9, at most 8 are allowed here"),
    ({"best_of": 2, "do_sample": True, "seed": 1}, "best_of is 2, seed is 1: give one or the other"),
    ({"grammar": {"type": "regex", "value": "a"}}, "grammar: constrained generation is not supported"),
    ({"watermark": True}, "watermark: watermarking is not supported"),
    ({"adapter_id": "a"}, "adapter_id: adapters are not supported: one server serves one model"),
    ({"stop_sequences": ["a"]}, "parameters.stop_sequences: not a parameter of this server"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSED)
def test_what_is_refused(parameters, message):
    response = generate(ready(), **parameters)
    assert response.status_code == 422
    assert response.json() == {"error": message, "error_type": "validation"}


def test_what_a_stream_cannot_have():
    state = ready()
    for parameters, message in (
        ({"best_of": 2, "do_sample": True}, "best_of is 2: it cannot be had in a stream"),
        ({"decoder_input_details": True}, "decoder_input_details: it cannot be had in a stream"),
    ):
        for path, stream in (("/generate_stream", None), ("/", True)):
            response = generate(state, path, stream=stream, **parameters)
            assert (response.status_code, response.json()["error"]) == (422, message)


def test_lengths_are_told():
    state = ready()
    response = generate(state, inputs="a " * 60)
    assert response.status_code == 422
    assert response.json()["error"] == "the prompt has 62 tokens, at most 40 fit"
    response = generate(state, inputs="a " * 34, max_new_tokens=30)
    assert response.json()["error"] == "36 tokens of the prompt and 30 new ones are 66, at most 64 fit together"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'{"inputs": ""}', b'{"inputs": "\\ud800"}', b"\xff"])
def test_bodies_that_are_no_request(body):
    async def post():
        async with client_of(ready()) as client:
            return [await client.post(path, content=body) for path in ("/", "/tokenize", "/v1/completions")]

    native, tokenize, openai = asyncio.run(post())
    assert native.status_code == tokenize.status_code == 422
    assert native.json()["error_type"] == tokenize.json()["error_type"] == "validation"
    assert openai.status_code == 400
    assert openai.json()["error"]["type"] == "invalid_request_error"


def test_tokenize_shows_what_the_model_reads():
    spans = ask(ready(), "/tokenize", {"inputs": "hello world"}).json()
    assert spans[0] == {"id": 0, "text": "", "start": 0, "stop": 0}
    assert "".join(span["text"] for span in spans) == "hello world"
    assert spans[-1]["stop"] == len("hello world")
    plain = ask(ready(), "/tokenize", {"inputs": "hello world", "add_special_tokens": False}).json()
    assert plain == spans[1:]


@pytest.mark.parametrize(
    ("switches", "status", "error_type"),
    [
        ({"places": 0}, 429, "overloaded"),
        ({"fails_at": 2}, 424, "generation"),
        ({"ends_at": 2}, 424, "generation"),
    ],
)
def test_failures_have_their_status(switches, status, error_type):
    response = generate(ready(ScriptedEngine(**switches)))
    assert response.status_code == status
    assert response.json()["error_type"] == error_type
    assert set(response.json()) == {"error", "error_type"}
    assert (response.headers.get("retry-after") == "1") == (status == 429)


@pytest.mark.parametrize(
    ("switches", "error"),
    [
        ({"fails_at": 2}, {"error": "the model broke", "error_type": "generation"}),
        (
            {"ends_at": 2},
            {"error": "the generation ended before it was complete", "error_type": "incomplete_generation"},
        ),
    ],
)
def test_failures_within_a_stream_are_events(switches, error):
    told = events(generate(ready(ScriptedEngine(**switches)), "/generate_stream"))
    assert [event["token"]["text"] for event in told[:-1]] == ["one", " two"]
    assert told[-1] == error
    openai = ask(ready(ScriptedEngine(**switches)), "/v1/completions", {"prompt": "hello", "stream": True})
    assert events(openai)[-1] == {
        "error": {"message": error["error"], "type": "server_error", "param": None, "code": None}
    }
    assert "[DONE]" not in openai.text


def test_what_no_route_answers():
    state = ready()
    assert ask(state, "/nowhere").json() == {"error": "there is no such route", "error_type": "not_found"}
    wrong = ask(state, "/generate")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json() == {"error": "GET is not for this route", "error_type": "method_not_allowed"}
    assert ask(state, "/v1/nowhere").json()["error"]["message"] == "there is no such route"


def test_a_mistake_of_the_server_is_a_500_without_details(caplog):
    state = ready()
    state.tokenizer = None
    with caplog.at_level(logging.ERROR, "hyperfit_server"):
        response = generate(state)
    assert response.status_code == 500
    assert response.json()["error_type"] == "internal"
    assert "NoneType" not in response.text
    assert "TypeError" in caplog.text
