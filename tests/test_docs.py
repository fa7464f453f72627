"""The README and docs name only what exists."""

import re
import tomllib

import pytest
import yaml
from paths import ROOT
from typer.main import get_command

from hyperfit_eval.cli.main import app
from hyperfit_eval.harness.location import tasks_dir

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_hyperfit_commands_exist(page):
    known = get_command(app).commands
    text = page.read_text()
    named = re.findall(r"^(?:\$ |    )?hyperfit ([a-z-]+)", "\n".join(blocks(page)), re.M)
    named += re.findall(r"`hyperfit ([a-z-]+)[^`]*`", text)
    assert set(named) <= set(known)


def test_the_picture_of_the_layers_is_that_of_the_linter():
    """Every folder is named, and those of lower layers further down."""
    picture = re.search(r"## The layers.*?```\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    lines = {
        name: number
        for number, line in enumerate(picture.splitlines())
        for name in re.findall(r"(?:^|· |^server +)([a-z_]+)", line)
    } | {"hyperfit_server": picture[: picture.index("hyperfit_server")].count("\n")}
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    ranks = {name.split(".")[-1].strip(): rank for rank, layer in enumerate(layers) for name in layer.split("|")}
    folders = {path.name for path in (ROOT / "hyperfit_eval").iterdir() if (path / "__init__.py").exists()}
    assert folders | {"hyperfit_server", "hyperfit_annotate"} <= ranks.keys() & lines.keys()
    named = sorted(ranks.keys() & lines.keys(), key=lambda name: (ranks[name], lines[name]))
    assert [lines[name] for name in named] == sorted(lines[name] for name in named)


def test_the_stops_of_the_walks_exist():
    stops = re.findall(r"^\d\. `([\w/]+\.py)`, `(\w+)`:", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert len(stops) == 23
    for file, name in stops:
        assert re.search(rf"^(async def|def|class) {name}\b", (ROOT / file).read_text(), re.M), (file, name)


def test_documented_tasks_are_the_task_files():
    names = {re.search(r"^task: (\w+)$", path.read_text(), re.M).group(1) for path in tasks_dir().glob("*.yaml")}
    assert names == {path.stem for path in tasks_dir().glob("*.yaml")}
    readme = (ROOT / "README.md").read_text()
    shortened = {name for name in names if name.endswith("_demo_blocked")}  # as `..._demo_blocked`
    assert names - shortened <= set(re.findall(r"`(hyperfit_\w+)`", readme))


def test_versions_agree():
    from hyperfit_eval import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
