"""The citation blocker in the real vLLM: run by `make test-vllm`, in an environment of its own.

A small Llama that has learned two texts by heart is served by `hyperfit serve --engine vllm`.
"""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

import httpx
import numpy as np
import torch
from engine_book import TEXTS, make_book, served
from huggingface_hub import InferenceClient
from huggingface_hub.errors import OverloadedError, ValidationError
from hyperfit_server.hooks.environment import BlockerSettings
from hyperfit_server.hooks.vllm import CitationLogitsProcessor
from vllm import SamplingParams
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState

from hyperfit_eval.citation import Counters
from hyperfit_eval.citation.verbatim import verbatim_copies
from hyperfit_eval.errors import HyperfitError

KEY = "sesame"
INF = float("inf")


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    return make_book(tmp_path_factory.mktemp("book"))


def command(book, port, *options):
    """The command line and the environment of a server."""
    line = [sys.executable, "-m", "hyperfit_eval.cli.main", "serve", str(book.folder), "--engine", "vllm"]
    line += ["--port", str(port), "--max-requests", "80", "--", *options, "--dtype", "float32"]
    line += ["--max-model-len", "256", "--enforce-eager"]
    quiet = {"VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}
    return line, os.environ | quiet | {"VLLM_CPU_KVCACHE_SPACE": "1", "HYPERFIT_API_KEY": KEY}


def log_of(book):
    return (book.folder / "log").read_text()


@pytest.fixture(scope="session")
def server(book, request):
    """Few blocks for the key-value cache: 64 requests at a time must be preempted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--max-num-seqs", "32", "--block-size", "32")
    options += ("--num-gpu-blocks-override", "40")
    line, environment = command(book, port, *options)
    limit = request.config.getoption("--engine-start-limit")
    with served(line, environment, f"http://127.0.0.1:{port}", book.folder / "log", limit) as url:
        yield url


def client(url, blocking=None):
    headers = {"Authorization": f"Bearer {KEY}"} | ({"X-Hyperfit-Blocking": blocking} if blocking else {})
    return InferenceClient(url, headers=headers, timeout=120)


def complete(url, body, **headers):
    return httpx.post(
        f"{url}/v1/completions",
        json={"temperature": 0, "max_tokens": 60, "return_token_ids": True} | body,
        headers={"Authorization": f"Bearer {KEY}"} | headers,
        timeout=120,
    )


def ids_of(response):
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["token_ids"]


def test_recites_without_and_never_with(server, book):
    for blocking in ("off", "on"):
        rows = []
        for text in TEXTS:
            answer = client(server, blocking).text_generation(text[:20], max_new_tokens=60, details=True)
            rows.append([token.id for token in answer.details.tokens])
        copies = verbatim_copies(book.index, rows)
        assert copies.citations > 20 if blocking == "off" else copies.citations == 0
        assert max(copies.longest) > 20 if blocking == "off" else max(copies.longest) < 15


def test_the_canary_has_passed(server, book):
    assert "the citation blocker works: " in log_of(book)
    info = httpx.get(f"{server}/info", headers={"Authorization": f"Bearer {KEY}"}).json()
    assert info["blocking"]["canary"] == "passed"


def test_the_switch_on_vllms_own_route(server, book):
    prompt = [0, *book.sequences[0][:8]]
    for extra, headers, cites in (
        ({}, {}, False),
        ({"vllm_xargs": {"hyperfit_blocking": "off"}}, {}, True),
        ({"vllm_xargs": {"hyperfit_blocking": 0}}, {}, True),
        ({}, {"X-Hyperfit-Blocking": "off"}, True),
        ({"blocking": False}, {}, True),
        ({"temperature": 1.0, "seed": 3}, {}, False),
    ):
        ids = ids_of(complete(server, {"prompt": prompt} | extra, **headers))
        assert (verbatim_copies(book.index, [ids]).citations > 0) == cites


def test_a_bad_switch_is_refused(server):
    for value in ("maybe", 3):
        answer = complete(server, {"prompt": "The", "vllm_xargs": {"hyperfit_blocking": value}})
        assert answer.status_code == 400 and "expected on or off" in answer.text
    answer = complete(server, {"prompt": "The", "vllm_xargs": {"hyperfit_bloking": "off"}})
    assert answer.status_code == 400 and "no such argument" in answer.text
    answer = complete(server, {"prompt": "The", "use_beam_search": True, "n": 2})
    assert answer.status_code == 400 and "past the citation blocker" in answer.text


def test_many_at_a_time_are_each_blocked_as_alone(server, book):
    """Requests come, end and change rows, and some are preempted; every third is not blocked."""
    jobs = [
        (book.sequences[n % 2][: 4 + n % 7], n % 3 == 0, 10 + 5 * (n % 11)) for n in range(64)
    ]  # prompt, blocking off, new tokens

    def run(job):
        ids, off, new = job
        switch = {"vllm_xargs": {"hyperfit_blocking": "off"}} if off else {}
        return ids_of(complete(server, {"prompt": [0, *ids], "max_tokens": new, "ignore_eos": True} | switch))

    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(run, jobs))
    assert (
        verbatim_copies(book.index, [row for row, (_, off, _) in zip(together, jobs, strict=True) if not off]).citations
        == 0
    )
    assert (
        verbatim_copies(book.index, [row for row, (_, off, _) in zip(together, jobs, strict=True) if off]).citations
        > 100
    )
    for number in range(0, 64, 9):
        assert run(jobs[number]) == together[number]
    metrics = httpx.get(f"{server}/metrics").text
    preempted = [line for line in metrics.splitlines() if line.startswith("vllm:num_preemptions_total")]
    assert float(preempted[0].split()[-1]) > 0


def test_inference_client(server):
    # Without blocking: with it, the most probable token is not always the one that comes.
    free = client(server, "off")  # kept: its streams end with it
    answer = free.text_generation(
        "The quick", max_new_tokens=6, details=True, decoder_input_details=True, top_n_tokens=2
    )
    details = answer.details
    assert details.generated_tokens == len(details.tokens) == 6 and details.finish_reason == "length"
    assert "".join(token.text for token in details.tokens) == answer.generated_text
    assert details.prefill[0].logprob is None and all(token.logprob < 0 for token in details.prefill[1:])
    assert all(tops[0]["id"] == token.id for tops, token in zip(details.top_tokens, details.tokens, strict=True))
    streamed = list(free.text_generation("The quick", max_new_tokens=6, stream=True, details=True))
    assert [event.token.id for event in streamed] == [token.id for token in details.tokens]
    assert streamed[-1].generated_text == answer.generated_text
    stopped = free.text_generation("The quick", max_new_tokens=30, stop=["jump"], details=True)
    assert stopped.details.finish_reason == "stop_sequence" and stopped.generated_text.endswith("jump")
    sampled = [client(server).text_generation("The", max_new_tokens=8, do_sample=True, seed=7) for _ in range(2)]
    assert sampled[0] == sampled[1]
    with pytest.raises(ValidationError, match="at most 255"):
        client(server).text_generation("word " * 400, max_new_tokens=5)


def test_sampled_requests_with_long_prompts(server):
    """With seeds and without: on a CPU vLLM ended itself over a seeded request whose prompt it read in parts."""

    def run(number):
        seed = None if number % 3 else number
        prompt = f"{number} " + "the stones asked the river " * 25
        return client(server).text_generation(prompt, max_new_tokens=20, do_sample=True, seed=seed, details=True)

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(run, range(24)))
    assert [answer.details.seed for answer in answers] == [None if n % 3 else n for n in range(24)]
    assert run(3).generated_text == answers[3].generated_text
    assert httpx.get(f"{server}/health").status_code == 200


def test_too_many_are_refused(server):
    def run(number):
        try:
            return client(server).text_generation("The", max_new_tokens=100) and 200
        except OverloadedError:
            return 429

    with ThreadPoolExecutor(120) as pool:
        statuses = list(pool.map(run, range(120)))
    assert 200 in statuses and set(statuses) <= {200, 429}


def test_cancelling_ends_the_generation(server):
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"inputs": "The", "stream": True, "parameters": {"max_new_tokens": 200}}
    with httpx.stream("POST", server, json=body, headers=headers, timeout=60) as response:
        next(response.iter_lines())
    deadline = time.monotonic() + 20
    while "hyperfit_batch_size 0.0" not in httpx.get(f"{server}/metrics/hyperfit", headers=headers).text:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def config(book, **model):
    values = {
        "tokenizer": str(book.folder), "tokenizer_revision": None, "trust_remote_code": False,
        "enable_trace_replay": False, "get_vocab_size": lambda: len(book.tokenizer),
    }  # fmt: skip
    return SimpleNamespace(speculative_config=None, model_config=SimpleNamespace(**values | model))


@pytest.fixture
def named(book, monkeypatch):
    settings = BlockerSettings(str(book.folder / "citation_index.safetensors"), None, False)
    for name, value in settings.variables().items():
        monkeypatch.setenv(name, value)


def test_starts_with_the_right_index_only(book, named, monkeypatch):
    device = torch.device("cpu")
    assert not CitationLogitsProcessor(config(book), device, False).is_argmax_invariant()
    with pytest.raises(HyperfitError, match="has ids up to"):
        CitationLogitsProcessor(config(book, get_vocab_size=lambda: 50), device, False)
    with pytest.raises(HyperfitError, match="speculative decoding goes around the citation blocker"):
        CitationLogitsProcessor(SimpleNamespace(speculative_config=object()), device, False)
    with pytest.raises(HyperfitError, match="trace replay"):
        CitationLogitsProcessor(config(book, enable_trace_replay=True), device, False)
    monkeypatch.setenv("HYPERFIT_CITATION_INDEX", "")
    with pytest.raises(HyperfitError, match="HYPERFIT_CITATION_INDEX is not set"):
        CitationLogitsProcessor(config(book), device, False)


def test_constraints_are_refused_under_forced_blocking(named, monkeypatch):
    """A grammar that spells out a training text leaves no other token: nothing is banned then."""
    spelled = SamplingParams(structured_outputs=StructuredOutputsParams(choice=[TEXTS[0]]))
    constrained = [spelled, SamplingParams(allowed_token_ids=[5]), SamplingParams(bad_words=["x"])]
    for params in constrained:
        CitationLogitsProcessor.validate_params(params)
    monkeypatch.setenv("HYPERFIT_FORCE_BLOCKING", "1")
    CitationLogitsProcessor.validate_params(SamplingParams(stop=["x"], logit_bias={5: 100.0}))
    for params, name in zip(constrained, ("structured_outputs", "allowed_token_ids", "bad_words"), strict=True):
        with pytest.raises(HyperfitError, match=f"^{name}: it can leave a citation as the only choice, .*leave {name}"):
            CitationLogitsProcessor.validate_params(params)


def test_a_grammar_recites_where_blocking_is_not_forced(server):
    """As docs/engines.md says: the text in other tokens, or in the same where no others are left."""
    spelled = {"prompt": "x", "structured_outputs": {"choice": [TEXTS[0][:60]]}}
    assert complete(server, spelled).json()["choices"][0]["text"] == TEXTS[0][:60]


def test_v1_follows_its_rows(book, named):
    """Rows are added, overwritten, moved and swapped; the lists of outputs grow where they are."""
    processor = CitationLogitsProcessor(config(book), torch.device("cpu"), False)
    ids = book.sequences[0]
    place = next(n for n in range(5, len(ids)) if verbatim_copies(book.index, [ids[n - 5 : n + 1]]).citations)
    known, banned = ids[place - 5 : place], ids[place]
    on, off = SamplingParams(), SamplingParams(extra_args={"hyperfit_blocking": "off"})
    growing = known[:-1]

    def rows_banned(rows):
        return (processor.apply(torch.zeros(rows, len(book.tokenizer)))[:, banned] == -INF).nonzero().flatten().tolist()

    processor.update_state(BatchUpdate(3, [], [(0, on, [9], known), (1, off, [9], known), (2, on, [9], growing)], []))
    assert rows_banned(3) == [0]
    growing.append(known[-1])
    processor.update_state(None)
    assert rows_banned(3) == [0, 2]
    processor.update_state(BatchUpdate(3, [], [], [(1, 2, MoveDirectionality.SWAP)]))
    assert rows_banned(3) == [0, 1]
    processor.update_state(BatchUpdate(2, [0], [], [(2, 0, MoveDirectionality.UNIDIRECTIONAL)]))
    assert rows_banned(2) == [1]
    # Preempted and resumed: its outputs so far come with it.
    processor.update_state(BatchUpdate(2, [1], [(0, on, [9], list(known))], []))
    assert rows_banned(2) == [0]
    known.append(-1)
    processor.update_state(BatchUpdate(1, [], [(0, on, [9], known)], []))
    with pytest.raises(HyperfitError, match="a placeholder instead of its last token"):
        rows_banned(1)


def test_v2_reads_its_slots(book, named):
    """Runner V2 is not run here, for want of Triton: its own dataclasses, with tensors as it fills them."""
    ids = book.sequences[0]
    place = next(n for n in range(5, len(ids)) if verbatim_copies(book.index, [ids[n - 5 : n + 1]]).citations)
    known, banned = ids[place - 5 : place], ids[place]
    tokens = torch.zeros(4, 30, dtype=torch.int32)
    prompts = {3: ([9, 9], known), 0: (known, []), 2: ([9], known)}
    lengths = torch.zeros(4, dtype=torch.int32)
    for slot, (prompt, output) in prompts.items():
        tokens[slot, : len(prompt) + len(output)] = torch.tensor(prompt + output, dtype=torch.int32)
        lengths[slot] = len(prompt)
    requests = LogitsProcRequestState(
        device=torch.device("cpu"), max_num_reqs=4, vocab_size=len(book.tokenizer),
        all_token_ids=SimpleNamespace(gpu=tokens), prompt_len=SimpleNamespace(gpu=lengths),
        prefill_len=SimpleNamespace(gpu=lengths), total_len=SimpleNamespace(gpu=lengths),
    )  # fmt: skip
    processor = CitationLogitsProcessor(config(book), requests)
    assert processor.add_request(3, SamplingParams()) and processor.add_request(0, SamplingParams())
    assert not processor.add_request(2, SamplingParams(extra_args={"hyperfit_blocking": False}))
    processor.apply_staged_writes()
    slots = torch.tensor([2, 3, 0], dtype=torch.int32)
    context = LogitsContext(
        expanded_idx_mapping=slots, idx_mapping=slots, idx_mapping_np=slots.numpy(),
        expanded_local_pos=torch.zeros(3, dtype=torch.int32), input_ids=torch.tensor([known[-1]] * 3),
        pos=torch.tensor([5, 6, 4]), seq_lens_upper_bound_np=np.array([6, 7, 5]),
    )  # fmt: skip
    scores = processor.apply(torch.zeros(3, len(book.tokenizer)), context)
    assert (scores == -INF).nonzero().tolist() == [[1, banned]]
    assert processor.blocker.counters == Counters(steps=3, matched=1, banned=1, unblocked=0)
    assert processor.add_request(2, SamplingParams())  # the slot's next occupant
    processor.apply_staged_writes()
    assert (processor.apply(torch.zeros(3, len(book.tokenizer)), context) == -INF)[:, banned].tolist() == [
        True,
        True,
        False,
    ]


def test_speculation_does_not_start(book, request):
    line, environment = command(book, 1, "--spec-method", "ngram", "--spec-tokens", "2")
    finished = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=request.config.getoption("--engine-start-limit")
    )
    assert finished.returncode == 2
    why = "not passed to vLLM: speculative decoding goes around the citation blocker"
    assert finished.stderr.strip() == f"error: --spec-method: {why}"
