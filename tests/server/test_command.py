"""`hyperfit serve`: what it refuses, each in one line."""

import socket

import pytest
from hyperfit_server.options import EngineName, Options
from typer.testing import CliRunner

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.cli.main import app
from hyperfit_eval.demo.location import demo_model_dir
from hyperfit_eval.errors import HyperfitError


def refusal(*arguments):
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert isinstance(result.exception, HyperfitError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_help_has_an_example_and_no_key(monkeypatch):
    monkeypatch.setenv("HYPERFIT_API_KEY", "key-1")
    result = CliRunner().invoke(app, ["serve", "--help"])
    assert result.exit_code == 0
    assert "Example: hyperfit serve runs/book --port 8080" in " ".join(result.output.split())
    assert "key-1" not in result.output


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert refusal("--port", port) == (
            f"127.0.0.1:{port}: Address already in use; choose another one with --port or --host"
        )


def test_a_checkpoint_without_an_index(tiny_checkpoint):
    assert refusal(tiny_checkpoint, "--port", 0) == (
        f"{tiny_checkpoint}: no citation_index.safetensors to block citations by; build it with `hyperfit index "
        "build`, give one with --index FILE, or serve without the blocker: --no-blocking"
    )


def test_an_index_of_another_tokenizer(tiny_checkpoint, tiny_tokenizer, tmp_path):
    CitationIndex.build([[2, 3, 4, 5, 6, 7, 8]], tiny_tokenizer).save(tmp_path / "index")
    message = refusal(demo_model_dir(), "--index", tmp_path / "index", "--port", 0)
    assert "built with tokenizer" in message
    assert message.endswith("use the tokenizer that the model was trained with, or build the index again")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "--nonsense: no such option; see hyperfit serve --help (vLLM's own options go after MODEL)"),
        (["model", "--nonsense"], "--nonsense: no such option or argument; see hyperfit serve --help"),
        (
            ["--no-blocking", "--force-blocking"],
            "--force-blocking and --no-blocking contradict each other; leave one out",
        ),
        (
            ["--off-by-default", "--force-blocking"],
            "--force-blocking and --off-by-default contradict each other; leave one out",
        ),
        (["--chat-template", "nowhere"], "--chat-template nowhere: no such file"),
        (["--max-requests", "3"], "--max-requests has no effect with --engine transformers"),
        (
            ["--engine", "vllm", "--max-batch", "3"],
            "--max-batch has no effect with --engine vllm; vLLM's own options go after MODEL --",
        ),
        (["nowhere", "--port", "0"], "nowhere: no tokenizer can be loaded"),
    ],
)
def test_what_is_refused(arguments, message):
    assert refusal(*arguments).startswith(message)


def test_vllm_gets_its_own_options(monkeypatch):
    launched = []
    monkeypatch.setattr("hyperfit_server.vllm_launch.main", lambda *args: launched.append(args))
    command = ["model", "--engine", "vllm", "--force-blocking", "--tensor-parallel-size", "2", "--", "--dtype", "half"]
    result = CliRunner().invoke(app, ["serve", *command])
    assert result.exit_code == 0, result.exception
    expected = Options(model="model", engine=EngineName.vllm, force_blocking=True)
    assert launched == [(expected, ["--tensor-parallel-size", "2", "--dtype", "half"])]
