"""The container files: not built here, but what they say must fit the code."""

import re

import yaml
from paths import ROOT
from typer.main import get_command

from hyperfit_eval.cli.main import app

FOLDER = ROOT / "server" / "containers"


def server():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["server"]


def test_compose_asks_the_facade_for_its_health():
    service = server()
    assert "/health" in service["healthcheck"]["test"][-1]
    assert (FOLDER / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert "models:/models" in service["volumes"]
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_secrets_come_from_the_environment():
    service = server()
    assert service["environment"]["HYPERFIT_API_KEY"].startswith("${HYPERFIT_API_KEY:?")
    assert service["environment"]["HF_TOKEN"] == "${HF_TOKEN:-}"
    assert not [argument for argument in service["command"] if "key" in argument.lower() or "token" in argument.lower()]


def test_options_are_those_of_hyperfit_serve_or_vllms():
    known = {option for parameter in get_command(app).commands["serve"].params for option in parameter.opts}
    entry = re.search(r"^ENTRYPOINT (.*)$", (FOLDER / "vllm.Dockerfile").read_text(), re.MULTILINE)
    words = re.findall(r"--[a-z-]+", entry[1]) + [word.split("=")[0] for word in server()["command"][1:]]
    assert [word for word in words if word not in known] == ["--tensor-parallel-size"]


def test_the_image_holds_what_its_build_copies():
    dockerfile = (FOLDER / "vllm.Dockerfile").read_text()
    assert re.search(r"^FROM vllm/vllm-openai:v0\.\d+\.\d+$", dockerfile, re.MULTILINE)
    kept = re.findall(r"^!(.*)$", (FOLDER / "vllm.Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)


def test_the_tgi_wrapper_can_be_executed():
    script = ROOT / "server" / "tgi" / "text-generation-server"
    assert script.stat().st_mode & 0o111 and "python -m hyperfit_server.hooks.tgi" in script.read_text()
