"""OpenAI's API around an engine that says the same words to everyone."""

from copy import deepcopy
from dataclasses import replace

import pytest
from huggingface_hub import ChatCompletionOutputMessage
from hyperfit_server.engine.requests import Finished, Scored, Token
from openai.types.chat import ChatCompletionMessage
from server_client import LIMITS, ask, demo_tokenizer, events, ready
from server_engine import ScriptedEngine

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
)


def complete(state=None, **body):
    return ask(state or ready(), COMPLETIONS, {"temperature": 0, "max_tokens": 3, **body})


def chat(state=None, content="hello", **body):
    return ask(state or chatting(), CHAT, {"messages": [{"role": "user", "content": content}], **body})


def chatting(engine=None):
    tokenizer = deepcopy(demo_tokenizer())
    tokenizer.chat_template = TEMPLATE
    return ready(engine, tokenizer)


def test_completion_by_hand():
    answer = complete(prompt="hello there").json()
    assert answer.pop("id").startswith("cmpl-")
    assert answer.pop("created") > 1.7e9
    assert answer == {
        "object": "text_completion",
        "model": "scripted",
        "choices": [
            {"index": 0, "text": "one two three", "logprobs": None, "finish_reason": "length", "blocked_tokens": 1}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }


def test_echo_and_logprobs_by_hand():
    """What lm-eval asks for, with a prompt of ids: nothing predicts the first one."""
    answer = complete(prompt=[7, 8, 9], echo=True, logprobs=1, max_tokens=1).json()
    assert answer["choices"][0]["text"] == demo_tokenizer().decode([7, 8, 9]) + "one"
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["<7>", "<8>", "<9>", "one"],
        "token_logprobs": [None, -0.25, -0.5, -0.5],
        "top_logprobs": [
            None, {"top0": -0.125, "<8>": -0.25}, {"top0": -0.125, "<9>": -0.5}, {"top0": -0.125, "one": -0.5},
        ],
        "text_offset": [0, 3, 6, 9],
    }  # fmt: skip
    nothing_new = complete(prompt=[7, 8, 9], echo=True, logprobs=1, max_tokens=0).json()
    assert nothing_new["choices"][0]["logprobs"]["token_logprobs"] == [None, -0.25, -0.5]
    assert nothing_new["usage"]["completion_tokens"] == 0


def test_a_bos_that_was_added_is_not_echoed():
    answer = complete(prompt="hello there", echo=True, logprobs=0, max_tokens=1).json()
    shown = answer["choices"][0]
    assert shown["text"] == "hello thereone"
    assert shown["logprobs"]["tokens"] == ["<258>", "<289>", "<79>", "<483>", "one"]
    assert shown["logprobs"]["token_logprobs"][0] == -0.25
    assert shown["logprobs"]["top_logprobs"] is None


def test_prompts_of_all_kinds():
    def texts(**body):
        answer = complete(**body).json()
        assert [choice["index"] for choice in answer["choices"]] == list(range(len(answer["choices"])))
        return [choice["text"] for choice in answer["choices"]], answer["usage"]["prompt_tokens"]

    assert texts(prompt=["hello", "hello there"]) == (["one two three"] * 2, 4 + 5)
    assert texts(prompt=[1, 2]) == (["one two three"], 2)
    assert texts(prompt=[[1, 2], [3]]) == (["one two three"] * 2, 3)
    assert texts(prompt="") == (["one two three"], 1)  # the BOS alone
    assert texts(prompt=[1], n=2, temperature=1, seed=0) == (["one two three", " two three four"], 1)
    assert texts(prompt=[[1], [2]], n=2, temperature=1, seed=1)[0] == [" two three four", " three four five"] * 2


def test_best_of_returns_the_best():
    state = ready()
    answer = complete(state, prompt=[1], best_of=3, n=2, temperature=1, seed=0).json()
    assert len(answer["choices"]) == 2
    assert answer["usage"]["completion_tokens"] == 9
    assert len(state.engine.finished) == 3


def test_stop_sequences_are_left_out():
    assert complete(prompt="a", stop="two t").json()["choices"][0] == {
        "index": 0, "text": "one ", "logprobs": None, "finish_reason": "stop", "blocked_tokens": 1,
    }  # fmt: skip
    assert complete(prompt="a", stop=["hre", "wo", "two"]).json()["choices"][0]["text"] == "one "


def test_a_stream_never_shows_the_beginning_of_a_stop_sequence():
    response = complete(prompt="a", stop=["two t", "e tw"], stream=True, max_tokens=4)
    told = events(response, "data: ")
    assert [event["choices"][0]["text"] for event in told] == ["on", ""]
    assert told[-1]["choices"][0]["finish_reason"] == "stop"
    assert response.text.endswith("data: [DONE]\n\n")
    kept = events(complete(prompt="a", stop=[" two five"], stream=True, max_tokens=3), "data: ")
    assert [event["choices"][0]["text"] for event in kept] == ["one", " two three", ""]


def test_streams():
    body = {"prompt": ["a", "b"], "stream": True, "n": 2, "echo": True, "stream_options": {"include_usage": True}}
    told = events(complete(**body), "data: ")
    assert told[-1]["usage"] == {"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}
    assert told[-1]["choices"] == []
    texts, reasons = [""] * 4, [None] * 4
    for event in told[:-1]:
        choice = event["choices"][0]
        texts[choice["index"]] += choice["text"]
        reasons[choice["index"]] = choice["finish_reason"]
    assert texts == ["aone two three", "aone two three", "bone two three", "bone two three"]
    assert reasons == ["length"] * 4
    scored = events(complete(prompt="a", stream=True, logprobs=1, max_tokens=2), "data: ")
    assert scored[1]["choices"][0]["logprobs"] == {
        "tokens": [" two"], "token_logprobs": [-0.5], "top_logprobs": [{"top0": -0.125, " two": -0.5}],
        "text_offset": [3],
    }  # fmt: skip


def test_parameters_reach_the_engine():
    state = ready()
    ask(state, COMPLETIONS, {"prompt": "a"})
    default = state.engine.finished[-1].sampling
    assert (default.max_new_tokens, default.do_sample, default.temperature) == (16, True, 1.0)
    given = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "frequency_penalty": 1.0, "presence_penalty": -1.0,
        "repetition_penalty": 1.1,
    }  # fmt: skip
    ask(state, COMPLETIONS, {"prompt": "a", "max_tokens": 4, "min_tokens": 3, "seed": -1, "stop": "x", **given})
    sampling = state.engine.finished[-1].sampling
    assert {name: getattr(sampling, name) for name in given} == given
    assert (sampling.seed, sampling.stop, sampling.min_new_tokens) == (2**64 - 1, ("x",), 3)
    ask(state, COMPLETIONS, {"prompt": "a", "temperature": 0, "top_p": 1, "top_k": -1})
    assert not state.engine.finished[-1].sampling.do_sample


REFUSED = [
    ({"prompt": []}, "prompt", "prompt: an empty list; give a text, texts, token ids or lists of them"),
    ({"prompt": [[]]}, "prompt", "prompt: empty; give at least one token"),
    ({"prompt": ["a"] * 4}, "prompt", "prompt: 4 prompts, at most 3 are taken (--max-prompts)"),
    (
        {"min_tokens": 9, "max_tokens": 4},
        "min_tokens",
        "min_tokens is 9, at most 4 new tokens are generated: expected no more",
    ),
    ({"prompt": [-1]}, "prompt", "prompt.0: -1 is no token id, expected a whole number from 0 on"),
    ({"prompt": ["a", [1]]}, "prompt", "prompt.1: a list of length 1, expected a text as the first prompt is"),
    ({"stop": ["", ""]}, "stop", "stop.0: an empty text, expected at least one character"),
    ({"prompt": [666]}, None, "token id 666 in the prompt: the model has ids from 0 to 99"),
    ({"suffix": "b"}, "suffix", "suffix: text cannot be inserted before a suffix; put it into the prompt"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "logit_bias: biases on tokens are not supported"),
    ({"until": ["a"]}, "until", "until: not a parameter of this server"),
    ({"best_of": 1, "n": 2}, "best_of", "best_of is 1, n is 2: expected best_of >= n"),
    ({"n": 9}, "n", "n is 9, at most 8 are allowed here"),
    ({"logprobs": 21}, "logprobs", "logprobs is 21, at most 20 are allowed here"),
    ({"max_tokens": 0}, "max_tokens", "max_tokens is 0: without echo nothing would come back"),
    ({"max_tokens": 51}, None, "51 new tokens are asked for, at most 50 are given"),
    ({"temperature": -1}, "temperature", "temperature: should be greater than or equal to 0 (given -1)"),
    ({"stream": True, "best_of": 2}, "best_of", "best_of is 2: it cannot be had in a stream"),
    ({"stream": True, "echo": True, "logprobs": 0}, "stream", "echo with logprobs cannot be had in a stream"),
]


@pytest.mark.parametrize(("body", "param", "message"), REFUSED)
def test_what_is_refused(body, param, message):
    response = complete(**{"prompt": "a", **body})
    assert response.status_code == 400
    assert response.json() == {
        "error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    }


def test_the_engine_refuses_and_fails():
    for switches, status, kind in (
        ({"places": 0}, 429, "rate_limit_error"),
        ({"places": 1}, 429, "rate_limit_error"),
        ({"fails_at": 1}, 500, "server_error"),
    ):
        engine = ScriptedEngine(**switches)
        response = complete(ready(engine), prompt=["a", "b"])
        assert (response.status_code, response.json()["error"]["type"]) == (status, kind)
        assert all(generation.cancelled for generation in engine.generations)


def test_chat_by_hand():
    answer = chat(temperature=0, max_tokens=2, logprobs=True, top_logprobs=1).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one two"},
            "logprobs": {
                "content": [
                    {
                        "token": token,
                        "logprob": -0.5,
                        "bytes": list(token.encode()),
                        "top_logprobs": [{"token": "top0", "logprob": -0.125, "bytes": list(b"top0")}],
                    }
                    for token in ("one", " two")
                ]
            },
            "finish_reason": "length",
            "blocked_tokens": 1,
        }
    ]


def test_chat_reads_messages_by_the_template():
    state = chatting()
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    for content in ("hello", parts):
        assert chat(state, content).status_code == 200
        ids = state.engine.finished[-1].prompt_ids
        assert demo_tokenizer().decode(ids) == "user: hello\nassistant:"
    assert state.engine.finished[-1].sampling.max_new_tokens == min(50, 64 - len(ids))
    chat(state, max_completion_tokens=2, max_tokens=3, n=2, seed=5)
    assert [one.sampling.max_new_tokens for one in list(state.engine.finished)[-2:]] == [2, 2]


def test_chat_streams():
    told = events(chat(stream=True, temperature=0, max_tokens=3, stop="thr", n=2), "data: ")
    assert {event["object"] for event in told} == {"chat.completion.chunk"}
    for index in (0, 1):
        mine = [event["choices"][0] for event in told if event["choices"][0]["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "one two "
        assert mine[-1]["finish_reason"] == "stop"


def test_chat_refusals():
    plain = chat(ready())
    assert plain.status_code == 400
    assert plain.json()["error"]["code"] == "no_chat_template"
    assert "start the server with --chat-template FILE" in plain.json()["error"]["message"]
    for body, message in (
        (
            {"messages": []},
            "messages: a list of length 0, expected a list of at least one message",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages: the chat template refuses them (no tools)"),
        ({"tools": [{}]}, "tools: tools are not supported"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs: true"),
        ({"max_tokens": 0}, "max_tokens is 0: expected 1 or more"),
    ):
        response = chat(**body)
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith(message)


ASK, MORE = {"role": "user", "content": "Hi"}, {"role": "user", "content": "more"}


def test_the_answer_of_one_turn_is_taken_in_the_next():
    said = chat(temperature=0, max_tokens=2).json()["choices"][0]["message"]
    held = ChatCompletionMessage.model_validate(said)
    hub = ChatCompletionOutputMessage.parse_obj_as_instance(said)
    for message in (
        said, held.model_dump(), dict(hub), {**said, "refusal": None}, {**said, "tool_calls": []},
        {**said, "reasoning": None, "annotations": [], "audio": None}, {**said, "type": "text"},
        {"role": "assistant", "content": None}, {"role": "assistant", "content": ""},
    ):  # fmt: skip
        state = chatting()
        response = chat(state, messages=[ASK, message, MORE])
        assert response.status_code == 200, (message, response.text)
        text = demo_tokenizer().decode(state.engine.finished[-1].prompt_ids)
        assert text.startswith("user: Hi") and text.endswith("user: more\nassistant:")
    for message, error in (
        ({**said, "tool_calls": [{"id": "1"}]}, "messages.1.tool_calls: not a parameter of this server"),
        ({"role": "user", "content": None}, "messages.1.content: missing, expected a text"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]},
            "messages.1.content.0: image_url: images are not supported",
        ),
        ({"role": "user", "content": [{"type": "text", "txt": "a"}]}, "messages.1.content.0.txt: not a parameter of"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.1.content.0.text: null, expected a text"),
        ({"role": "user", "content": 5}, "messages.1.content: 5, expected a text or a list of text parts"),
    ):
        response = chat(messages=[ASK, message, MORE])
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith(error)


def test_parameters_that_cannot_change_the_text_are_taken():
    harmless = {
        "store": False, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x",
        "prompt_cache_key": "y", "user": "z", "tools": None, "logit_bias": None, "suffix": None,
    }  # fmt: skip
    plain = complete(prompt="a").json()["choices"]
    assert complete(prompt="a", **harmless).json()["choices"] == plain
    harmless.pop("suffix")
    more = {"modalities": ["text"], "tool_choice": "none", "parallel_tool_calls": True, "response_format": None}
    plain = chat(temperature=0, max_tokens=2).json()["choices"]
    assert chat(temperature=0, max_tokens=2, **harmless, **more).json()["choices"] == plain
    for body, error in (
        ({"modalities": ["text", "audio"]}, 'modalities: only ["text"] is supported'),
        ({"tool_choice": "required"}, "tool_choice: tools are not supported"),
        ({"audio": {"voice": "a"}}, "audio: audio is not supported"),
    ):
        response = chat(**body)
        assert (response.status_code, response.json()["error"]["message"]) == (400, error)


def test_ids_are_given_where_they_are_asked_for():
    tokenizer = demo_tokenizer()
    ids = [tokenizer.bos_token_id, *tokenizer("hello there")["input_ids"]]
    (choice,) = complete(prompt="hello there", return_token_ids=True).json()["choices"]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == (ids, [0, 1, 2])
    streamed = events(complete(prompt="hello there", return_token_ids=True, stream=True), "data: ")
    assert [one["choices"][0].get("prompt_token_ids") for one in streamed[:2]] == [ids, None]
    assert [i for one in streamed for i in one["choices"][0].get("token_ids", [])] == [0, 1, 2]
    answer = chat(temperature=0, max_tokens=2, return_token_ids=True).json()
    assert answer["choices"][0]["token_ids"] == [0, 1]
    assert demo_tokenizer().decode(answer["prompt_token_ids"]) == "user: hello\nassistant:"
    assert "token_ids" not in complete(prompt="a").json()["choices"][0]


def test_one_request_as_a_whole_may_cost_so_much():
    # Read 3, generated 4, listed 2 x (4 + 3): 21 for each of the two.
    body = {"prompt": [[1, 2, 3]] * 2, "max_tokens": 4, "temperature": 0, "logprobs": 2, "echo": True}
    enough, little = (ready(limits=replace(LIMITS, max_request_cost=most)) for most in (42, 41))
    assert ask(enough, COMPLETIONS, body).status_code == 200
    refused = ask(little, COMPLETIONS, body)
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        400,
        "the request costs 42 (tokens read, generated and listed with log-probabilities), at most 41 are allowed "
        "(--max-request-cost); ask for less in one request",
    )
    assert not little.engine.generations


def test_models():
    state = ready()
    (model,) = ask(state, "/v1/models").json()["data"]
    assert (model["id"], model["object"], model["max_model_len"]) == ("scripted", "model", 64)
    assert ask(state, "/v1/models/scripted").json() == model
    other = ask(state, "/v1/models/some/other")
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")


def test_two_tokens_with_one_text():
    """Of tokens with the same text the most probable one is shown: lm-eval looks for the largest."""
    from hyperfit_server.routes.openai_text import CompletionLogprobs

    shown = CompletionLogprobs(2)
    shown.add(Scored(3, "\ufffd", -4.0), (Scored(1, "\ufffd", -0.5), Scored(2, "b", -1.0)))
    assert shown.take()["top_logprobs"] == [{"\ufffd": -0.5, "b": -1.0}]


def test_special_tokens_are_not_shown():
    from hyperfit_server.routes.openai_text import VisibleText

    text = VisibleText(())
    assert text.add(Token(Scored(1, "a", -1.0))) == "a"
    assert text.add(Token(Scored(0, "<|endoftext|>", -1.0, special=True))) == ""
    assert text.end(Finished("eos_token", "a")) == ""
