"""The leaderboard and the Hub: repositories with results, without, and broken ones."""

import csv

import pytest
from hub_stand_in import TOKEN, connected
from publish_fixtures import tiny_results_fixture, tiny_run_fixture  # noqa: F401
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app


# huggingface_hub 2.4 itself uses httpx in a deprecated way where it sends large files.
@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
def test_hub_repositories(tiny_run, tiny_results, tmp_path, monkeypatch):
    """From a Hub on loopback, with the real client: published models, failures."""
    with connected(monkeypatch, tmp_path / "home") as hub:
        arguments = ["--base-model", "none", "--license", "mit", "--results", str(tiny_results)]
        arguments += ["--eval-results", "ada/benchmark"]
        pushed = CliRunner().invoke(app, ["push", str(tiny_run), "--repo", "ada/little", *arguments])
        assert pushed.exit_code == 0, (pushed.output, pushed.exception)
        tree = hub.repositories["ada/little"].tree("main")
        assert {"results.json", ".eval_results/hyperfit.yaml", "README.md", "model.safetensors"} <= tree.keys()
        hub.add("ada/empty", {"README.md": b"no results here", "model.safetensors": b"weights"})
        hub.add("ada/broken", {"runs/results_cut.json": b'{"results": {', "results.json": tree["results.json"]})
        asked = len(hub.seen)
        names = ["ada/little", "twin=ada/broken", "ada/empty", "ada/absent"]
        result = CliRunner().invoke(app, ["leaderboard", *names, "--out", str(tmp_path / "out")])
        assert result.exit_code == 0, (result.output, result.exception)
        fetched = {line.partition("/resolve/")[2] for line in hub.seen[asked:] if line.startswith("GET /ada")}
    assert {path.partition("/")[2] for path in fetched} == {"results.json", "runs/results_cut.json"}
    assert "4 rows in 1 tables; 3 skipped" in result.output
    assert "skipped ada/empty: no results in it; make some with `hyperfit eval`" in result.output
    assert "skipped ada/broken/runs/results_cut.json: line 1: not JSON" in result.output
    assert "skipped ada/absent: no such file or folder, and not to be had from the Hub (" in result.output
    lines = list(csv.DictReader((tmp_path / "out" / "leaderboard.csv").read_text().splitlines()))
    assert sorted((line["model"], line["blocked"], line["files"]) for line in lines) == [
        ("ada/little", "5-grams", "ada/little/results.json"), ("ada/little", "no", "ada/little/results.json"),
        ("twin", "5-grams", "ada/broken/results.json"), ("twin", "no", "ada/broken/results.json"),
    ]  # fmt: skip
    assert all(line["perplexity"] and line["perplexity_signature"] for line in lines)
    assert TOKEN not in result.output + "".join(path.read_text() for path in (tmp_path / "out").iterdir())
