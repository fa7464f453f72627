"""The citation blocker in the real SGLang, on the CPU: run by `make test-sglang`, in an environment of its own.

The same small Llama as for vLLM, which has learned two texts by heart.
"""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("sglang", reason="SGLang is not installed: make test-sglang")

import httpx
from engine_book import make_book, served

from hyperfit_eval.citation.verbatim import verbatim_copies

STUBS = str(Path(__file__).parent / "stubs")


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    return make_book(tmp_path_factory.mktemp("book"))


def start(book, port, *options, **variables):
    """The command line and the environment of a server."""
    line = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(book.folder), "--dtype", "float32"]
    line += ["--device", "cpu", "--attention-backend", "torch_native", "--max-total-tokens", "4096"]
    line += ["--disable-radix-cache", "--skip-server-warmup", "--host", "127.0.0.1", "--port", str(port), *options]
    environment = {
        "HYPERFIT_CITATION_INDEX": str(book.folder / "citation_index.safetensors"),
        "PYTHONPATH": STUBS,
        "HF_HUB_OFFLINE": "1",
    }
    return line, os.environ | environment | {"SGLANG_PLUGINS": "hyperfit_citation_blocker"} | variables


@pytest.fixture(scope="session")
def server(book, request):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line, environment = start(book, port, "--disable-overlap-schedule")
    limit = request.config.getoption("--engine-start-limit")
    with served(line, environment, f"http://127.0.0.1:{port}", book.folder / "log", limit) as url:
        yield url


def generate(url, ids, new_tokens=60, **sampling):
    sampling = {"temperature": 0, "max_new_tokens": new_tokens, "ignore_eos": True, **sampling}
    return httpx.post(f"{url}/generate", json={"input_ids": ids, "sampling_params": sampling}, timeout=120)


def citations(book, response):
    assert response.status_code == 200, response.text
    return verbatim_copies(book.index, [response.json()["output_ids"]]).citations


def test_recites_without_and_never_with(server, book):
    off = {"custom_params": {"hyperfit_blocking": "off"}}
    for ids in book.sequences:
        assert citations(book, generate(server, [0, *ids[:6]], **off)) > 10
        assert citations(book, generate(server, [0, *ids[:6]])) == 0
        assert citations(book, generate(server, [0, *ids[:6]], temperature=1.0)) == 0


def test_many_at_a_time_are_each_blocked_as_alone(server, book):
    jobs = [(book.sequences[n % 2][: 4 + n % 7], n % 3 == 0, 10 + 5 * (n % 11)) for n in range(32)]

    def run(job):
        ids, off, new_tokens = job
        switch = {"custom_params": {"hyperfit_blocking": "off"}} if off else {}
        return citations(book, generate(server, [0, *ids], new_tokens, **switch))

    with ThreadPoolExecutor(32) as pool:
        counts = list(pool.map(run, jobs))
    assert sum(count for count, (_, off, _) in zip(counts, jobs, strict=True) if not off) == 0
    assert sum(count for count, (_, off, _) in zip(counts, jobs, strict=True) if off) > 100


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"custom_params": [1]}, "extra arguments [1]: expected an object"),
        ({"custom_params": "off"}, "extra arguments 'off': expected an object"),
        ({"custom_params": {"hyperfit_blocking": "maybe"}}, "hyperfit_blocking='maybe': expected on or off"),
        ({"custom_params": {"hyperfit_bloking": "off"}}, "hyperfit_bloking: no such argument"),
        ({"beam_width": 4}, "beam_width=4: beams are chosen past the citation blocker; leave it out"),
    ],
)
def test_a_bad_request_is_refused_and_the_server_goes_on(server, book, sampling, message):
    refused = generate(server, [0, 9], **sampling)
    assert refused.status_code == 400 and message in refused.text
    assert citations(book, generate(server, [0, *book.sequences[0][:6]])) == 0


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        ([], {}, "overlap scheduling samples before the last token is known: add --disable-overlap-schedule"),
        (
            ["--disable-overlap-schedule", "--speculative-algorithm", "NGRAM"],
            {},
            "--speculative-algorithm NGRAM: it chooses tokens past the citation blocker; start SGLang without it",
        ),
        (
            ["--disable-overlap-schedule", "--enable-custom-logit-processor"],
            {},
            "--enable-custom-logit-processor runs pickled code out of requests, and such code can undo the citation "
            "blocker; start SGLang without it",
        ),
        (["--disable-overlap-schedule"], {"HYPERFIT_FORCE_BLOCKING": "yes"}, "HYPERFIT_FORCE_BLOCKING=yes: expected 0"),
        (["--disable-overlap-schedule"], {"HYPERFIT_CITATION_INDEX": "/no/such"}, "/no/such"),
    ],
)
def test_does_not_start(book, request, options, variables, message):
    line, environment = start(book, 1, *options, **variables)
    limit = request.config.getoption("--engine-start-limit")
    finished = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=limit)
    errors = [text for text in finished.stderr.splitlines() if text.startswith("error: ")]
    assert finished.returncode == 2 and len(errors) == 1 and "Traceback" not in finished.stderr
    assert message in errors[0]
