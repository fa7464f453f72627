"""What a dataset of annotations may be called and name: licenses, folders of this machine, names of models."""

import json
from pathlib import Path

import preference_study as invented
import pytest
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.preference.pairs import make_study
from hyperfit_eval.preference.store import Store
from hyperfit_eval.preference.study import write_study
from hyperfit_eval.publish import card
from hyperfit_eval.publish.dataset import push_dataset
from hyperfit_eval.publish.upload import Destination

TO = Destination("ada/preferences", repo_type="dataset")


@pytest.fixture
def staged(tmp_path, monkeypatch):
    """`staged({name: model})` annotates a study of these models beside runs/my-run, and gives the dataset's texts."""
    (tmp_path / "runs" / "my-run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def stage(models):
        runs = [(name, *invented.run(model, contexts=2)[1:]) for name, model in models.items()]
        study = make_study(runs, seed=0, check_rate=0.2)
        write_study(Path("study"), study)
        store = Store(Path("study"), study)
        person = store.annotator(store.add_annotator("Grace Hopper")).id
        while identifier := store.next(person).pair:
            store.answer(person, identifier, "equal", seconds=1.0)
        store.close()
        push_dataset(Path("study"), TO, "cc0-1.0", Path("out"), say=lambda line: None)
        return [path.read_text() for path in (Path("out/README.md"), Path("out/data/annotations.jsonl"))]

    return stage


def test_a_model_that_is_a_folder_is_called_by_its_name(staged):
    """Of a name like that of the Hub's models, only what is a folder here is taken for one."""
    card, rows = staged({"runs/my-run, greedy": "runs/my-run", "../far/base, top-p 0.9": "../far/base", "a/b": "a/b"})
    for text in (card, rows):
        assert "runs/my-run" not in text and "far/" not in text
        assert all(name in text for name in ("my-run, greedy", "base, top-p 0.9", "a/b"))
    called = {json.loads(row)["model"] for row in rows.splitlines()}
    # Which attention checks a person meets, if any, is drawn anew each time.
    assert called - {"shuffled"} == {"my-run, greedy", "base, top-p 0.9", "a/b"}
    assert json.loads(Path("study/study.json").read_text())["fingerprint"] in card


def test_folders_of_one_name_are_told_apart(staged):
    models = ("./runs/a/end", "./runs/b/end/", "./runs/my-run")
    card, rows = staged({f"{model}, greedy": model for model in models})
    assert "runs" not in card and "runs" not in rows
    for name in ("a/end, greedy", "b/end, greedy", "my-run, greedy"):
        assert f"| {name} |" in card and f'"model": "{name}"' in rows


def test_a_folder_of_this_machine_is_refused(staged, tmp_path):
    line = r"README.md: names /.*, a path of this machine; name the models in the study, with `hyperfit pairs NAME=FILE"
    with pytest.raises(HyperfitError, match=line):
        staged({f"of {tmp_path}/runs": "base"})
    assert not Path("out").exists()


@pytest.mark.parametrize("license", ["a: b", "[", "", "cc by 4.0", "mit\nx: y"])
def test_what_is_no_license_id_is_refused_before_anything_is_read(license):
    result = CliRunner().invoke(app, ["push-dataset", "nowhere", "--repo", "ada/x", "--license", license])
    assert isinstance(result.exception, HyperfitError)
    assert str(result.exception) == (
        f"--license {license!r}: no license id; expected one of the Hub, such as cc-by-4.0, or other"
    )


@pytest.mark.parametrize("head", ["license: a: b", "license: [", "- mit", "license: no"])
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_card_that_cannot_be_read_back_is_one_line(tmp_path, head, kind):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n# Little\n")
    with pytest.raises(HyperfitError, match=r"^README.md(, line 1)?: not (YAML|a valid card) \([^\n]+\)$"):
        card.check(tmp_path / "README.md", kind)
