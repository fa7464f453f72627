"""The citation blocker in TGI's real Python server, on the CPU: `make test-tgi`, with TGI's source and its packages.

Without a GPU there is no flash attention, so this runs CausalLM and NextTokenChooser; of HeterogeneousNextTokenChooser
the real class runs in a batch of our own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("text_generation_server", reason="TGI's Python server is not on the path: make test-tgi")

import grpc
import torch
from engine_book import make_book
from hyperfit_server.hooks import tgi
from text_generation_server.pb import generate_pb2, generate_pb2_grpc
from text_generation_server.utils import tokens

from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.citation.verbatim import verbatim_copies


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """With the tokenizer class that transformers 4 knows."""
    book = make_book(tmp_path_factory.mktemp("book"))
    path = book.folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    return book


def serve(book, *options, **variables):
    line = [sys.executable, "-m", "hyperfit_server.hooks.tgi", "serve", str(book.folder), *options]
    line += ["--uds-path", str(book.folder / "socket")]
    index = str(book.folder / "citation_index.safetensors")
    return line, os.environ | {
        "HYPERFIT_CITATION_INDEX": index,
        "ATTENTION": "paged",
        "PREFIX_CACHING": "0",
    } | variables


@pytest.fixture(scope="session")
def server(book, request):
    line, environment = serve(book)
    with (book.folder / "log").open("w") as log:
        process = subprocess.Popen(line, env=environment, stdout=log, stderr=log)
    deadline = time.monotonic() + request.config.getoption("--engine-start-limit")
    try:
        while not Path(f"{book.folder}/socket-0").exists():
            assert process.poll() is None and time.monotonic() < deadline, (book.folder / "log").read_text()
            time.sleep(0.5)
        with grpc.insecure_channel(f"unix://{book.folder}/socket-0") as channel:
            yield generate_pb2_grpc.TextGenerationServiceStub(channel)
    finally:
        process.terminate()
        process.wait(30)


def generate(server, prompts, new_tokens):
    """Ids of a batch of requests, greedily."""
    parameters = generate_pb2.NextTokenChooserParameters(
        temperature=1.0, top_p=1.0, typical_p=1.0, repetition_penalty=1.0
    )
    stopping = generate_pb2.StoppingCriteriaParameters(max_new_tokens=new_tokens, ignore_eos_token=True)
    requests = [
        generate_pb2.Request(
            id=number,
            inputs=prompt,
            truncate=100,
            parameters=parameters,
            stopping_parameters=stopping,
            input_chunks=generate_pb2.Input(chunks=[generate_pb2.InputChunk(text=prompt)]),
        )
        for number, prompt in enumerate(prompts)
    ]
    batch = generate_pb2.Batch(id=1, requests=requests, size=len(requests), max_tokens=1000)
    answer, rows = server.Prefill(generate_pb2.PrefillRequest(batch=batch), timeout=60), [[] for _ in prompts]
    while True:
        for generation in answer.generations:
            rows[generation.request_id].extend(generation.tokens.ids)
        if not answer.HasField("batch"):
            return rows
        answer = server.Decode(generate_pb2.DecodeRequest(batches=[answer.batch]), timeout=60)


def test_never_recites(server, book):
    prompts = ["The quick", "Once there was a river", "Once"]
    rows = generate(server, prompts, 60)
    assert [len(row) for row in rows] == [60] * 3
    copies = verbatim_copies(book.index, rows)
    assert copies.citations == 0 and max(copies.longest) < 15
    assert generate(server, prompts[1:2], 60) == rows[1:2]  # padded on the left in a batch, alone not


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (["--speculate", "2"], {}, "error: --speculate 2: speculation goes around the citation blocker; start text-"),
        ([], {"HYPERFIT_CITATION_INDEX": "/no/such"}, "error: /no/such"),
        ([], {"HYPERFIT_CITATION_INDEX": ""}, "error: HYPERFIT_CITATION_INDEX is not set"),
    ],
)
def test_errors_are_one_line(book, request, options, variables, message):
    line, environment = serve(book, *options, **variables)
    limit = request.config.getoption("--engine-start-limit")
    ended = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=limit)
    assert ended.returncode == 2 and ended.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in ended.stdout + ended.stderr and "locals" not in ended.stdout + ended.stderr


def test_the_chooser_of_flash_models(book, monkeypatch):
    """The real HeterogeneousNextTokenChooser, in a batch with the tensors that FlashCausalLM keeps."""
    for chooser in (tokens.HeterogeneousNextTokenChooser, tokens.NextTokenChooser):
        monkeypatch.setattr(chooser, "__call__", chooser.__call__)  # restored after the patch

    class FlashModel:
        def generate_token(self, batch):
            return batch.next_token_chooser(batch.ids, batch.scores, 0)[0].tolist()

    tgi.patch(WindowBlocker(book.index), tokens, FlashModel)
    ids = book.sequences[0]
    place = next(n for n in range(5, len(ids)) if verbatim_copies(book.index, [ids[n - 5 : n + 1]]).citations)
    histories = [([9, 9], ids[place - 5 : place]), (ids[place - 5 : place], []), ([9], ids[place - 4 : place])]
    lengths = torch.tensor([len(prompt) + len(output) for prompt, output in histories])
    table = torch.zeros(3, 20, dtype=torch.int64)
    for row, (prompt, output) in enumerate(histories):
        table[row, : lengths[row]] = torch.tensor(prompt + output)
    scores = torch.zeros(3, len(book.tokenizer))
    scores[:, ids[place]] = 1.0
    parameters = generate_pb2.NextTokenChooserParameters(
        temperature=1.0, top_p=1.0, typical_p=1.0, repetition_penalty=1.0
    )
    chooser = tokens.HeterogeneousNextTokenChooser.from_pb([parameters] * 3, torch.float32, torch.device("cpu"), None)
    batch = SimpleNamespace(
        next_token_chooser=chooser, ids=table, scores=scores, prompt_lengths=[len(prompt) for prompt, _ in histories],
        cache_lengths_tensor=lengths - 1, input_lengths_tensor=torch.ones(3, dtype=torch.int64),
    )  # fmt: skip
    chosen = FlashModel().generate_token(batch)
    assert [token == ids[place] for token in chosen] == [False, True, True]
