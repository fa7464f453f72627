"""The clients that people use, against `hyperfit serve` on the shipped model: hub client, openai, lm-eval."""

import json

import httpx
import lm_eval
import openai
import pytest
import torch
from huggingface_hub import InferenceClient
from huggingface_hub.errors import GenerationError, OverloadedError, UnknownError, ValidationError
from hyperfit_server.engine.loading import load_index
from lm_eval.tasks import TaskManager
from server_client import ready
from server_engine import ScriptedEngine
from server_live import Served, listening, wait_for
from transformers import AutoModelForCausalLM, AutoTokenizer

from hyperfit_eval.blocking.transformers import CitationBlocker
from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.harness.location import tasks_dir

pytestmark = pytest.mark.slow

PROMPT = "The old house"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The server, with nothing but a chat template that the model does not have."""
    template = tmp_path_factory.mktemp("chat") / "template.jinja"
    template.write_text(TEMPLATE)
    with Served("--chat-template", template, HYPERFIT_API_KEY="key-1", OMP_NUM_THREADS="1") as server:
        yield server
        assert server.stop() == 0
    assert "key-1" not in "".join(server.log) + server.banner
    assert PROMPT not in "".join(server.log)


@pytest.fixture
def online(monkeypatch):
    """The hub client does not even talk to loopback while HF_HUB_OFFLINE is set."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(served, online):
    return InferenceClient(served.address, token="key-1")


@pytest.fixture(scope="module")
def oa(served):
    return openai.OpenAI(base_url=f"{served.address}/v1", api_key="key-1", max_retries=0)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(demo_model_dir())


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(demo_model_dir(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def prompt_ids(tokenizer):
    return [tokenizer.bos_token_id, *tokenizer(PROMPT)["input_ids"]]


@pytest.fixture(scope="module")
def reference(model, tokenizer, prompt_ids):
    """Greedy ids of `model.generate` after BOS and a prompt, with blocking on and off."""
    index = load_index(demo_model_dir(), None, tokenizer)
    ids = torch.tensor([prompt_ids])

    def generated(blocking, new_tokens=40):
        processors = [CitationBlocker(index)] if blocking else []
        out = model.generate(ids, do_sample=False, max_new_tokens=new_tokens, logits_processor=processors)
        return out[0, ids.shape[1] :].tolist()

    return generated


# huggingface_hub


def test_ids_are_those_of_generate(hub, served, reference):
    off = InferenceClient(served.address, token="key-1", headers={"X-Hyperfit-Blocking": "off"})
    for client, blocking in ((hub, True), (off, False)):
        answer = client.text_generation(PROMPT, max_new_tokens=40, details=True)
        assert [token.id for token in answer.details.tokens] == reference(blocking)
        assert answer.details.finish_reason == "length"
        assert answer.generated_text == "".join(token.text for token in answer.details.tokens)


def test_a_stream_has_the_same_tokens(hub, prompt_ids):
    whole = hub.text_generation(PROMPT, max_new_tokens=20, details=True)
    streamed = list(hub.text_generation(PROMPT, max_new_tokens=20, details=True, stream=True))
    assert [event.token.id for event in streamed] == [token.id for token in whole.details.tokens]
    assert streamed[-1].generated_text == whole.generated_text
    assert streamed[-1].details.generated_tokens == 20
    assert streamed[-1].details.input_length == len(prompt_ids)
    assert "".join(hub.text_generation(PROMPT, max_new_tokens=20, stream=True)) == whole.generated_text


def test_prefill_is_what_the_model_says(hub, model, prompt_ids):
    answer = hub.text_generation(PROMPT, max_new_tokens=1, details=True, decoder_input_details=True)
    prefill = answer.details.prefill
    assert [token.id for token in prefill] == prompt_ids
    assert prefill[0].logprob is None
    with torch.no_grad():
        logprobs = model(torch.tensor([prompt_ids])).logits[0].log_softmax(-1)
    expected = logprobs[range(len(prompt_ids) - 1), prompt_ids[1:]]
    assert torch.allclose(torch.tensor([token.logprob for token in prefill[1:]]), expected, atol=1e-4)


def test_stop_seed_and_sampling(hub):
    text = hub.text_generation(PROMPT, max_new_tokens=30)
    word = text.split()[3]
    stopped = hub.text_generation(PROMPT, max_new_tokens=30, stop=[word], details=True)
    assert stopped.details.finish_reason == "stop_sequence"
    assert stopped.generated_text == text[: text.index(word) + len(word)]
    settings = {"max_new_tokens": 20, "do_sample": True, "temperature": 0.9, "top_k": 50, "top_p": 0.95}
    first, same, other = (hub.text_generation(PROMPT, seed=seed, **settings) for seed in (1, 1, 2))
    assert first == same != other
    assert hub.text_generation(PROMPT, max_new_tokens=2, return_full_text=True).startswith(PROMPT)
    best = hub.text_generation(PROMPT, best_of=3, details=True, top_n_tokens=2, **settings).details
    means = [sum(token.logprob for token in one.tokens) / 20 for one in (best, *best.best_of_sequences)]
    assert len(means) == 3
    assert means[0] == max(means)
    assert all(len(top) == 2 for top in best.top_tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_validation_errors_reach_the_hub_client(hub, stream):
    with pytest.raises(ValidationError, match=r"parameters.top_p: should be less than 1 \(given 2"):
        list(hub.text_generation(PROMPT, top_p=2.0, stream=stream))
    with pytest.raises(ValidationError, match="grammar: constrained generation is not supported"):
        list(hub.text_generation(PROMPT, grammar={"type": "regex", "value": "a"}, stream=stream))


@pytest.mark.parametrize("stream", [False, True])
def test_other_errors_reach_the_hub_client(online, stream):
    for switches, kind, message in (
        ({"places": 0}, OverloadedError, "8 requests run and 8 wait"),
        ({"fails_at": 1}, GenerationError, "the model broke"),
    ):
        with listening(ready(ScriptedEngine(**switches))) as address, pytest.raises(kind, match=message):
            client = InferenceClient(address)  # the stream lives as long as the client
            list(client.text_generation(PROMPT, stream=stream))


def test_the_key_is_asked_for(served, online):
    with pytest.raises(UnknownError, match="a valid API key is needed"):
        InferenceClient(served.address).text_generation(PROMPT)
    assert httpx.get(f"{served.address}/health").json() == {"status": "ok", "canary": "passed"}
    assert "key" not in httpx.get(f"{served.address}/health").text


def test_chat_by_the_hub_client(hub, oa):
    messages = [{"role": "user", "content": "Who is there?"}]
    answer = hub.chat_completion(messages, max_tokens=8, temperature=0, logprobs=True, top_logprobs=2)
    text = answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8
    assert len(answer.choices[0].logprobs.content) == 8
    parts = hub.chat_completion(messages, max_tokens=8, temperature=0, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text
    again = oa.chat.completions.create(model="any", messages=messages, max_tokens=8, temperature=0)
    assert again.choices[0].message.content == text
    parts = oa.chat.completions.create(model="any", messages=messages, max_tokens=8, temperature=0, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text


# openai


def test_completions_by_the_openai_client(oa, reference, tokenizer, prompt_ids):
    settings = {"model": "any", "max_tokens": 40, "temperature": 0}
    for blocking in (True, False):
        answer = oa.completions.create(prompt=PROMPT, extra_body={"blocking": blocking}, **settings)
        assert answer.choices[0].text == tokenizer.decode(reference(blocking))
        assert (answer.choices[0].blocked_tokens > 0) == blocking
    assert answer.usage.total_tokens == len(prompt_ids) + 40
    assert answer.model == oa.models.list().data[0].id == "hyperfit-demo"
    events = oa.completions.create(prompt=PROMPT, stream=True, stream_options={"include_usage": True}, **settings)
    texts = [(event.choices[0].text if event.choices else "", event.usage) for event in events]
    assert "".join(text for text, _ in texts) == tokenizer.decode(reference(True))
    assert texts[-1][1].completion_tokens == 40


def test_errors_reach_the_openai_client(oa, served):
    with pytest.raises(openai.BadRequestError, match="suffix: text cannot be inserted"):
        oa.completions.create(model="any", prompt="a", suffix="b")
    with pytest.raises(openai.AuthenticationError, match="a valid API key is needed"):
        openai.OpenAI(base_url=f"{served.address}/v1", api_key="wrong", max_retries=0).models.list()
    with listening(ready(ScriptedEngine(places=0))) as address, pytest.raises(openai.RateLimitError, match="8 wait"):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        client.completions.create(model="any", prompt="a")


# lm-eval


@pytest.fixture
def endings(tmp_path):
    """lm-eval's tasks: this package's, and `endings`, a loglikelihood task of 6 questions."""
    rows = [
        {"q": f"The {noun} was very", "c": ["old", "green and wet", "of"], "a": 0} for noun in ["house", "cat", "sea"]
    ]
    rows += [{"q": f"She went to the {noun} and", "c": ["sat down", "blue"], "a": 0} for noun in ["door", "sea", "man"]]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "endings.yaml").write_text(
        f"""task: endings
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path / "rows.jsonl"}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{c}}}}"
doc_to_target: a
metric_list: [{{metric: acc}}]
"""
    )
    # Without lm-eval's own tasks, which take seconds to list.
    return TaskManager(include_path=[str(tmp_path), str(tasks_dir())], include_defaults=False)


def test_lm_eval_gets_loglikelihoods(served, endings, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key-1")

    def answers(kind, **arguments):
        results = lm_eval.simple_evaluate(
            kind, model_args=arguments, tasks=["endings"], task_manager=endings, batch_size=4, bootstrap_iters=0
        )
        samples = sorted(results["samples"]["endings"], key=lambda sample: sample["doc_id"])
        return [pair for sample in samples for pair in sample["filtered_resps"]]

    model = str(demo_model_dir())
    url = f"{served.address}/v1/completions"
    by_server = answers("local-completions", model=model, base_url=url, tokenizer_backend="huggingface")
    by_transformers = answers("hf", pretrained=model, device="cpu")
    assert len(by_server) == 15
    for (served_logprob, served_greedy), (logprob, greedy) in zip(by_server, by_transformers, strict=True):
        assert served_logprob == pytest.approx(logprob, abs=1e-3)
        assert served_greedy == greedy


def test_lm_eval_generates(served, endings, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key-1")
    results = lm_eval.simple_evaluate(
        "local-completions",
        model_args={
            "model": str(demo_model_dir()),
            "base_url": f"{served.address}/v1/completions",
            "tokenizer_backend": "huggingface",
        },
        tasks=["hyperfit_openended_demo"],
        task_manager=endings,
        limit=2,
        batch_size=2,
        bootstrap_iters=0,
    )
    scores = results["results"]["hyperfit_openended_demo"]
    assert 0 <= scores["self_bleu_avg,none"] <= 100  # "unavailable" where nothing was generated


# clients that go away


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place(served, stream):
    before = metric(served, "hyperfit_requests_cancelled_total")
    body = {"inputs": PROMPT, "stream": stream, "parameters": {"max_new_tokens": 1000, "temperature": 2.0, "seed": 1}}
    if stream:
        with httpx.stream("POST", served.address, json=body, headers=authorized()) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(served.address, json=body, headers=authorized(), timeout=0.3)
    wait_for(lambda: metric(served, "hyperfit_requests_cancelled_total") == before + 1)
    wait_for(lambda: metric(served, "hyperfit_batch_size") == metric(served, "hyperfit_queue_size") == 0)


def metric(served, name):
    lines = httpx.get(f"{served.address}/metrics", headers=authorized()).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def authorized():
    return {"Authorization": "Bearer key-1"}


def test_what_was_started(served):
    assert served.banner.startswith("Serving hyperfit-demo with citation blocking (on by default) on http://127.0.0.1:")
    assert "try: curl http://127.0.0.1:" in served.banner
    info = httpx.get(f"{served.address}/info", headers=authorized()).json()
    assert info["blocking"]["index"]["ngram"] == 5
    assert info["max_total_tokens"] == 1024
    assert info["model_device_type"] == "cpu"


def test_startup_and_log_are_json_lines(served):
    assert all(json.loads(line)["level"] in ("info", "warning") for line in served.log)
    assert any("the citation blocker works" in line for line in served.log)
