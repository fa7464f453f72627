"""What a plain install brings, and what commands say where an extra is missing."""

import re
import sys
import tomllib

import pytest
from paths import ROOT
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.extras import require_extra
from hyperfit_eval.training.images import digit_images

REPORTS = "pip install 'hyperfit-eval[reports]'"
PLOT = "the plot of the history"


@pytest.mark.parametrize(
    ("command", "missing", "message"),
    [
        ("demo", "matplotlib", f"hyperfit demo needs matplotlib: {REPORTS}"),
        ("reproduce --model demo", "matplotlib", f"hyperfit reproduce needs matplotlib: {REPORTS}"),
        ("preference STUDY", "matplotlib", f"hyperfit preference needs matplotlib: {REPORTS}"),
        ("train --model M --corpus C --output_dir O", "matplotlib", f"{PLOT} needs matplotlib: {REPORTS}"),
        ("leaderboard RESULTS --out O", "jinja2", f"hyperfit leaderboard needs jinja2: {REPORTS}"),
        ("push RUN --repo U/N", "jinja2", f"hyperfit push needs jinja2: {REPORTS}"),
        ("push-blocker --repo U/N", "jinja2", f"hyperfit push-blocker needs jinja2: {REPORTS}"),
        ("push-dataset S --repo U/N --license mit", "jinja2", f"hyperfit push-dataset needs jinja2: {REPORTS}"),
        ("verify U/N", "jinja2", f"hyperfit verify needs jinja2: {REPORTS}"),
        ("judge S --base-url B --model M", "httpx", "the judge needs httpx: pip install 'hyperfit-eval[judge]'"),
        ("annotate STUDY", "uvicorn", "the annotation page needs uvicorn: pip install 'hyperfit-eval[annotate]'"),
        ("playground", "gradio", "the playground needs gradio: pip install 'hyperfit-eval[playground]'"),
        ("serve", "fastapi", "the server needs fastapi: pip install 'hyperfit-eval[serve]'"),
    ],
)  # fmt: skip
def test_a_command_without_its_package_says_what_to_install(command, missing, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    result = CliRunner().invoke(app, command.split())
    assert isinstance(result.exception, HyperfitError) and str(result.exception) == message
    assert not list(tmp_path.iterdir())


def test_the_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(
        HyperfitError, match=r"^the corpus of digits needs sklearn: pip install 'hyperfit-eval\[images\]'$"
    ):
        digit_images()


def test_all_missing_packages_are_named_at_once(monkeypatch):
    require_extra("serve", "the server", "json")
    with pytest.raises(HyperfitError, match=r"^the server needs no_such_a, no_such_b: pip install"):
        require_extra("serve", "the server", "no_such_a", "json", "no_such_b")


def test_a_plain_install_has_few_dependencies_and_every_extra_named_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= 10
    extras = project["optional-dependencies"]
    whole = next(requirement for requirement in extras["dev"] if requirement.startswith("hyperfit-eval["))
    assert set(re.findall(r"[a-z]+", whole.removeprefix("hyperfit-eval"))) == extras.keys() - {"dev"}
    sources = [path.read_text() for folder in ("hyperfit_eval", "server") for path in (ROOT / folder).rglob("*.py")]
    named = {name for source in sources for name in re.findall(r'require_extra\(\s*"(\w+)"', source)}
    assert named == extras.keys() - {"dev"}
