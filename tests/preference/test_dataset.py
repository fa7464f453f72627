"""Annotations as a dataset: what is in it, what is not, and the push to a stand-in of the Hub."""

import json

import preference_study as invented
import pytest
from hub_stand_in import TOKEN, connected
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.preference.store import Store

REPO = "ada/preferences"
DATASET = f"datasets/{REPO}"
# Of the Hub's client, about how it calls its own HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr("hyperfit_eval.publish.upload.WAITS", (0.0, 0.0))
    with connected(monkeypatch, tmp_path / "home") as hub:
        yield hub


@pytest.fixture
def annotated(tmp_path):
    """A study that two people have finished, with their links' tokens."""
    folder = tmp_path / "study"
    study = invented.written(folder, contexts=3, sources=("fiction", "news"), check_rate=0.1, annotations=2)
    store = Store(folder, study)
    tokens = [store.add_annotator(name) for name in ("Grace Hopper", "Emmy Noether")]
    for token in tokens:
        person = store.annotator(token).id
        while identifier := store.next(person).pair:
            store.answer(person, identifier, invented.choice_of(study.by_id[identifier], "original"), seconds=1.0)
    store.close()
    return folder, tokens


def push(folder, *options):
    arguments = ["push-dataset", str(folder), "--repo", REPO, "--license", "cc0-1.0", *map(str, options)]
    return CliRunner().invoke(app, arguments)


def test_dry_run_loads_as_a_dataset(annotated, tmp_path):
    from datasets import load_dataset

    folder, _ = annotated
    result = push(folder, "--dry-run", tmp_path / "out")
    assert result.exit_code == 0 and "nothing was uploaded" in result.output
    table = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert {"context", "first", "second", "preferred", "annotator_attentive"} <= set(table.column_names)
    checks = sum(table["attention_check"])
    assert len(table) == 48 + checks and set(table["annotator"]) == {1, 2} and set(table["preferred"]) == {"original"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0\n") and "48 annotations by 2 annotators of 24 pairs" in card
    assert "| base | method greedy, new_tokens 224 | none | float32 | 0 | t1 |" in card
    again = push(folder, "--dry-run", tmp_path / "out")
    assert str(again.exception) == f"--dry-run {tmp_path}/out: not an empty folder; give another"


def test_names_links_and_salt_stay_at_home(annotated, tmp_path):
    folder, tokens = annotated
    push(folder, "--dry-run", tmp_path / "out")
    salt = json.loads((folder / "study.json").read_text())["salt"]
    for path in (tmp_path / "out").rglob("*.*"):
        text = path.read_text()
        for secret in (*tokens, salt, "Grace", "Emmy", str(tmp_path)):
            assert secret not in text, path


@pytest.mark.slow
def test_one_commit_of_a_private_dataset(hub, annotated):
    folder, _ = annotated
    hub.fail("/commit/", 503)
    result = push(folder, "--private", "--message", "First")
    repository = hub.repositories[DATASET]
    assert result.exit_code == 0, result.exception
    assert f"Published: {hub.url}/{DATASET}/commit/{repository.branches['main']}" in result.output
    assert "trying again in 0 s" in result.output and TOKEN not in result.output
    assert repository.private and repository.messages == ["initial commit", "First"]
    assert set(repository.tree("main")) == {".gitattributes", "README.md", "data/annotations.jsonl"}
    assert hub.count("/api/models/") == 0
    head = repository.branches["main"]
    assert push(folder).exit_code == 0 and repository.branches["main"] == head  # the same again changes nothing
    assert push(folder, "--revision", "round-2").exit_code == 0 and "round-2" in repository.branches
    assert push(folder, "--create-pr").exit_code == 0 and "refs/pr/1" in repository.branches


def test_loads_from_the_hub(hub, annotated, tmp_path):
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    assert push(annotated[0]).exit_code == 0
    there = snapshot_download(REPO, repo_type="dataset")
    table = load_dataset(there, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(table) > 48 and TOKEN not in "".join(table["first"])


def test_refused_in_one_line(hub, annotated, tmp_path, monkeypatch):
    folder, _ = annotated
    invented.written(tmp_path / "empty")
    hub.add("datasets/ada/other", {"data/train.parquet": b"x"})
    other = CliRunner().invoke(app, ["push-dataset", str(folder), "--repo", "ada/other", "--license", "mit"])
    expected = "ada/other (main) holds a dataset that was not pushed by this program; give another --repo or --revision"
    assert str(other.exception).startswith(expected)
    for start, message in ((tmp_path / "none", "no study there"), (tmp_path / "empty", "nothing was annotated yet")):
        assert isinstance(push(start).exception, HyperfitError) and message in str(push(start).exception)
    assert DATASET not in hub.repositories  # nothing is made before all of it is ready
    monkeypatch.delenv("HF_TOKEN")
    assert str(push(folder).exception).startswith("no Hub token: run `hf auth login`")
