"""The README and docs name only what exists."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from hyperfit_eval.cli.main import app
from hyperfit_eval.harness.location import tasks_dir

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


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


def test_every_room_of_the_map_exists_and_every_room_is_on_the_map():
    text = (ROOT / "README.md").read_text()
    rooms = {path for path in re.findall(r"`([a-z_/]+(?:/|\.py))`", text) if "/" in path}
    for room in rooms:
        assert (ROOT / room).exists(), room
    for folder in (ROOT / "hyperfit_eval").iterdir():
        if folder.is_dir() and (folder / "__init__.py").exists():
            assert f"`hyperfit_eval/{folder.name}/`" in text, folder.name


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
