"""The patch of TGI, on stand-ins with the shapes of its classes; tests/engines/tgi runs the real ones."""

import sys
from types import SimpleNamespace

import citation_tokenizers as kinds
import pytest
import torch
from hyperfit_server.hooks import tgi
from hyperfit_server.hooks.environment import BlockerSettings

from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.errors import HyperfitError

INF = float("inf")
SPECULATION = "speculation goes around the citation blocker"


def stand_ins():
    """New classes for every test, since they are patched."""

    class HeterogeneousNextTokenChooser:
        def __call__(self, input_ids, scores, speculate, speculated_ids=None, speculative_scores=None, verbose=False):
            self.seen = scores.clone()
            return scores.argmax(-1)

    class NextTokenChooser:
        def __call__(self, input_ids, scores):
            return scores[-1].argmax().view(1, 1), scores

    class FlashCausalLM:
        def generate_token(self, batch):
            # As in flash_causal_lm.py: the history is cut to the longest request of the batch.
            longest = int((batch.cache_lengths_tensor + batch.input_lengths_tensor).max())
            return batch.next_token_chooser(batch.all_input_ids_tensor[:, :longest], batch.scores, batch.speculate)

    return SimpleNamespace(
        HeterogeneousNextTokenChooser=HeterogeneousNextTokenChooser, NextTokenChooser=NextTokenChooser
    ), FlashCausalLM


@pytest.fixture
def patched():
    tokenizer = kinds.byte_level()
    the, t, he, dog = tokenizer.convert_tokens_to_ids(["The", "Ġt", "he", "Ġdog"])
    tokens, flash = stand_ins()
    tgi.patch(WindowBlocker(CitationIndex.build([[the, t, he, dog]], tokenizer, ngram=3)), tokens, flash)
    return SimpleNamespace(tokens=tokens, flash=flash, ids=(the, t, he, dog), vocabulary=len(tokenizer))


def flash_batch(patched, rows, speculate=0):
    """Rows of (prompt, generated); the tensors as FlashCausalLMBatch holds them in decoding."""
    lengths = torch.tensor([len(prompt) + len(generated) for prompt, generated in rows])
    ids = torch.zeros(len(rows), int(lengths.max()) + 10, dtype=torch.int64)
    for row, (prompt, generated) in enumerate(rows):
        ids[row, : lengths[row]] = torch.tensor(prompt + generated)
    return SimpleNamespace(
        next_token_chooser=patched.tokens.HeterogeneousNextTokenChooser(),
        all_input_ids_tensor=ids,
        cache_lengths_tensor=(lengths - 1).int(),
        input_lengths_tensor=torch.ones(len(rows), dtype=torch.int32),
        prompt_lengths=[len(prompt) for prompt, _ in rows],
        scores=torch.zeros(len(rows), patched.vocabulary),
        speculate=speculate,
    )


def test_flash_histories_are_padded_on_the_right(patched):
    the, t, he, dog = patched.ids
    rows = [([9, 9], [the, t, he]), ([9] * 7, [the, t, he]), ([the, t], [he]), ([9], [9, the, t, he]), ([9], [the, t])]
    batch = flash_batch(patched, rows)
    patched.flash().generate_token(batch)
    assert (batch.next_token_chooser.seen == -INF).nonzero().tolist() == [[0, dog], [1, dog], [3, dog]]


def test_a_prompt_that_is_read_in_parts_is_left_alone(patched):
    the, t, he, dog = patched.ids
    batch = flash_batch(patched, [([9, the, t, he, 9, 9], []), ([9], [the, t, he])])
    batch.cache_lengths_tensor[0], batch.input_lengths_tensor[0] = 2, 2
    patched.flash().generate_token(batch)
    assert (batch.next_token_chooser.seen == -INF).nonzero().tolist() == [[1, dog]]


def test_speculation_is_refused_at_every_step(patched):
    batch = flash_batch(patched, [([9], [9])], speculate=2)
    with pytest.raises(HyperfitError, match=SPECULATION):
        patched.flash().generate_token(batch)
    batch.speculate = 0
    with pytest.raises(HyperfitError, match=SPECULATION):
        batch.next_token_chooser(batch.all_input_ids_tensor, batch.scores, 0, torch.zeros(1, 2))


def test_a_choice_without_its_batch_is_refused(patched):
    batch = flash_batch(patched, [([9], [9])])
    with pytest.raises(HyperfitError, match="its history is unknown"):
        batch.next_token_chooser(batch.all_input_ids_tensor, batch.scores, 0)


def test_the_chooser_of_one_request_learns_its_prompt(patched):
    """CausalLM passes all ids of the request, padded on the left, and the last position's scores."""
    the, t, he, dog = patched.ids
    one, other = patched.tokens.NextTokenChooser(), patched.tokens.NextTokenChooser()
    ids = torch.tensor([[0, 0, the, t, he]])
    for chooser in (one, other):
        assert not (chooser(ids, torch.zeros(1, patched.vocabulary))[1] == -INF).any()
    for token in (the, t, he):
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        scores = one(ids, torch.zeros(1, patched.vocabulary))[1]
    assert (scores == -INF).nonzero().tolist() == [[0, dog]]


def test_without_flash_attention_the_other_chooser_is_patched(patched):
    """There TGI has no FlashCausalLM; a chooser of flash models that is asked all the same refuses."""
    the, t, he, dog = patched.ids
    tokens, _ = stand_ins()
    tgi.patch(WindowBlocker(CitationIndex.build([[the, t, he, dog]], kinds.byte_level(), ngram=3)), tokens, None)
    chooser = tokens.NextTokenChooser()
    for ids in ([9], [9, the, t, he]):
        scores = chooser(torch.tensor([ids]), torch.zeros(1, patched.vocabulary))[1]
    assert (scores == -INF).nonzero().tolist() == [[0, dog]]
    with pytest.raises(HyperfitError, match="its history is unknown"):
        tokens.HeterogeneousNextTokenChooser()(torch.tensor([[9]]), torch.zeros(1, patched.vocabulary), 0)


def text_generation_server(folder, own=True):
    """A package of that name: TGI's own, as far as is asked here, or another backend's."""
    package = folder / "text_generation_server"
    (package / "models").mkdir(parents=True)
    if own:
        (package / "models" / "causal_lm.py").touch()
        (package / "utils").mkdir()
        (package / "utils" / "tokens.py").touch()
    (package / "server.py").write_text("def serve(model_id, speculate=None): print('unblocked')")
    (package / "cli.py").write_text(
        "import sys, typer\nfrom text_generation_server import server\napp = typer.Typer()\n@app.command()\n"
        "def serve(model_id: str, speculate: int = 0): server.serve(model_id, speculate)\n"
        "@app.command()\ndef download(): print('downloaded')\n"
    )


@pytest.mark.parametrize(
    ("own", "index", "line", "status", "message"),
    [
        (
            True,
            "/index",
            ["serve", "model", "--speculate", "2"],
            2,
            f"error: --speculate 2: {SPECULATION}; start text-",
        ),
        (
            True,
            "/index",
            ["serve", "/no/model"],
            2,
            "error: /no/model: its configuration or tokenizer cannot be loaded: ",
        ),
        (True, "", ["serve", "model"], 2, "error: HYPERFIT_CITATION_INDEX is not set"),
        (
            False,
            "/index",
            ["serve", "model"],
            2,
            "error: this text-generation-server belongs to another backend of TGI",
        ),
        (True, "", ["download"], 0, ""),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, own, index, line, status, message):
    text_generation_server(tmp_path, own)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HYPERFIT_CITATION_INDEX", index)
    monkeypatch.setattr(sys, "argv", ["text-generation-server", *line])
    try:
        with pytest.raises(SystemExit) as ended:
            tgi.main()
    finally:
        for name in [name for name in sys.modules if name.startswith("text_generation_server")]:
            del sys.modules[name]
    printed = capsys.readouterr()
    assert ended.value.code == status and printed.err.startswith(message) and "unblocked" not in printed.out
    assert printed.err.count("\n") == (status == 2)


def test_serve_opens_the_index_of_its_model(tiny_checkpoint, tiny_tokenizer, tmp_path):
    path = tmp_path / "index.safetensors"
    ids = tiny_tokenizer("the cat sat on a mat and")["input_ids"]
    CitationIndex.build([ids], tiny_tokenizer).save(path)
    tokens, flash = stand_ins()
    called = []

    def serve(model_id, lora_adapters, revision, sharded, quantize, speculate, dtype, trust_remote_code, uds_path):
        called.append(model_id)

    def start(index, speculate=None):
        serving = tgi.checked_serve(serve, BlockerSettings(str(index), None, False), tokens, flash)
        serving(str(tiny_checkpoint), [], None, False, None, speculate, "float16", False, "/tmp/x")

    before = tokens.NextTokenChooser.__call__
    with pytest.raises(HyperfitError, match=f"--speculate 2: {SPECULATION}; start text-generation-launcher without"):
        start(path, speculate=2)
    with pytest.raises(HyperfitError, match="no_such_file"):
        start(tmp_path / "no_such_file")
    assert not called and tokens.NextTokenChooser.__call__ is before
    start(path)
    assert called == [str(tiny_checkpoint)] and tokens.NextTokenChooser.__call__ is not before
