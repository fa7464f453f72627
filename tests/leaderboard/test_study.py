"""The leaderboard and studies: what belongs to their results as they are, on the disk and on the Hub."""

import itertools
import shutil
from dataclasses import replace

import preference_study as invented
import pytest
from hub_stand_in import connected

from hyperfit_eval import files
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.leaderboard.page import blocked
from hyperfit_eval.leaderboard.rows import read_rows
from hyperfit_eval.leaderboard.search import find
from hyperfit_eval.leaderboard.tables import tables
from hyperfit_eval.records import write_continuations
from hyperfit_eval.reproduce.section import Row, Section, Table
from hyperfit_eval.reproduce.steps import KIND, VERSION
from hyperfit_eval.scores.score import Score
from hyperfit_eval.scores.tables import score_records

WRITTEN = {"base": "base", "hyperfitted": "hyperfitted", "blocked": "hyperfitted"}
"""Continuations, and who wrote them."""
TRAINED = "train/hyperfitted"
NEEDS = {
    TRAINED: [],
    "continue/base": [],
    "continue/hyperfitted": [TRAINED],
    "continue/blocked": [TRAINED],
    "score/base": ["continue/base", TRAINED],
    "score/hyperfitted": ["continue/hyperfitted", TRAINED],
    "score/blocked": ["continue/blocked", TRAINED],
    "predict/base": [],
    "predict/hyperfitted": [TRAINED],
    "lm-eval/mmlu-0-base": [],
    "lm-eval/mmlu-0-hyperfitted": [TRAINED],
    "lm-eval/glue-0-base": [],
    "table2": [f"score/{name}" for name in WRITTEN],
    "table3": ["predict/base", "predict/hyperfitted"],
    "table7": ["lm-eval/mmlu-0-base", "lm-eval/mmlu-0-hyperfitted"],
    "table8": ["lm-eval/glue-0-base"],
}
"""As `hyperfit reproduce` makes them, needed ones first."""
RESULTS = itertools.count()


def do(steps, names):
    """Steps were done, again or for the first time: each has a new result and names those that it was made from."""
    for name in names:
        marks = {needed: steps / needed / "step.json" for needed in NEEDS[name]}
        needs = {needed: files.read_json(path, KIND, VERSION)["result"] for needed, path in marks.items()}
        body = {"name": name, "key": "", "inputs": {}, "needs": needs, "result": f"result {next(RESULTS)}"}
        files.write_json(steps / name / "step.json", KIND, VERSION, body)


def entry(value, signature):
    return Score("metric", value, "", signature, value - 1, value + 1, "bca", 6)


@pytest.fixture
def steps(tmp_path):
    """A study's steps: scores of three ways of continuing, and Tables 3, 7 and 8 of the base model."""
    steps = tmp_path / "given" / "runs" / "steps"
    for name, model in WRITTEN.items():
        _, generation, records = invented.run(model, contexts=6)
        generation = replace(generation, blocker={"ngram": 5} if name == "blocked" else None)
        write_continuations(steps / "continue" / name / "continuations.jsonl", generation, records)
        body = {"tables": score_records(generation, records)}
        files.write_json(steps / "score" / name / "scores.json", "study-scores", 1, body)
    cells = {"perplexity": entry(70.0, "perplexity|len:256"), "mmlu_0_shot": entry(25.0, "acc|task:mmlu")}
    glue = {"rte_acc": entry(0.5, "acc|task:rte")}
    for name, row in {
        "table3": Row("base", cells, "base"),
        "table7": Row("base", cells, "base"),
        "table8": Row("base, zero-shot", glue, "base 0S"),
    }.items():
        Section(name, "", "", [], [Table({}, [row])]).write(steps / name)
    do(steps, NEEDS)
    return steps


def rows_of(steps):
    sources, skipped = find([str(steps.parent.parent)])
    assert [source.shown for source in sources] == [f"{steps.parent.parent.name}/runs"] and not skipped
    return {(row.called, blocked(row)): row for row in read_rows(sources[0])}


def of_the_model(steps):
    """What is there of the base model beside its texts."""
    return rows_of(steps)["base", "no"].numbers.keys() & {"perplexity", "mmlu", "glue"}


def test_a_study(steps):
    """Scores by step, and what Tables 3, 7 and 8 say of the models."""
    # Blocked scores of other settings, which the tables were not made from.
    for kind in ("score", "continue"):
        shutil.copytree(steps / kind / "blocked", steps / kind / "old")
    rows = rows_of(steps)
    assert set(rows) == {("base", "no"), ("hyperfitted", "no"), ("hyperfitted", "5-grams")}
    (table,) = tables(rows.values())
    assert len(table.rows) == 3
    numbers = rows["base", "no"].numbers
    assert {name: numbers[name].value for name in ("perplexity", "mmlu", "glue")} == {
        "perplexity": 70.0, "mmlu": 25.0, "glue": 50.0,
    }  # fmt: skip
    assert "perplexity" not in rows["hyperfitted", "no"].numbers


@pytest.mark.parametrize(
    ("again", "left"),
    [
        (["lm-eval/mmlu-0-base"], {"perplexity", "glue"}),
        (["predict/hyperfitted"], {"mmlu", "glue"}),
        (["predict/hyperfitted", "table3"], {"perplexity", "mmlu", "glue"}),
        # Trained again, and only what Table 2 and Table 3 need was done again since.
        ([name for name in NEEDS if not name.startswith(("lm-eval", "table7", "table8"))], {"perplexity", "glue"}),
    ],
)
def test_a_table_made_from_older_results_is_left_out(steps, again, left):
    do(steps, again)
    assert of_the_model(steps) == left


def test_scores_of_an_older_training_are_left_out(steps):
    do(steps, [TRAINED])
    (source,), _ = find([str(steps.parent)])
    with pytest.raises(HyperfitError, match="no scores that its tables were made from, by each step"):
        read_rows(source)


def test_a_study_of_a_version_whose_steps_named_no_results(steps):
    for path in steps.rglob("step.json"):
        files.write_json(path, KIND, 1, {"needs": files.read_json(path, KIND, VERSION)["needs"]})
    (source,), _ = find([str(steps.parent)])
    with pytest.raises(HyperfitError, match="no scores that its tables were made from, by each step"):
        read_rows(source)


def test_a_table_stays_where_the_steps_that_it_needs_were_deleted(steps):
    for name in ("train", "lm-eval", "predict"):
        shutil.rmtree(steps / name)
    assert of_the_model(steps) == {"perplexity", "mmlu", "glue"}


def test_a_table_that_does_not_say_what_it_was_made_from_is_left_out(steps):
    (steps / "table7" / "step.json").unlink()
    assert of_the_model(steps) == {"perplexity", "glue"}


def test_what_is_being_done_does_not_count(steps):
    """A step that broke off lies in .partial, with a mark that names no result."""
    claim = {"name": "table9", "key": "", "inputs": {}, "needs": {"score/base": "another"}, "status": "running"}
    files.write_json(steps / ".partial" / "table9" / "step.json", KIND, VERSION, claim)
    assert len(rows_of(steps)) == 3


def test_a_study_on_the_hub(steps, tmp_path, monkeypatch):
    """With the real client: all that is read comes with it, and nothing else; models are named after the repository."""
    files.write_json(steps / ".partial" / "table9" / "step.json", KIND, VERSION, {"needs": {}})
    root = steps.parent
    tree = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    tree |= {"steps/train/hyperfitted/run/model.safetensors": b"weights", "README.md": b"a study"}
    with connected(monkeypatch, tmp_path / "home") as hub:
        hub.add("datasets/ada/study", tree)
        (source,), skipped = find(["datasets/ada/study"])
        assert not skipped
        fetched = {line.partition("/resolve/")[2] for line in hub.seen if line.startswith("GET /datasets/ada")}
        rows = read_rows(source)
    assert not any(".partial" in path or path.endswith((".safetensors", ".md")) for path in fetched)
    assert {row.name for row in rows} == {"datasets/ada/study/base", "datasets/ada/study/hyperfitted"}
    here = rows_of(steps)
    assert {(row.called, blocked(row)): row.numbers for row in rows} == {key: one.numbers for key, one in here.items()}


def test_the_judgements_that_a_study_keeps_are_results_too(steps):
    root = steps.parent
    assert [source.path for source in find([str(root)])[0]] == [root]
    (root / "preference.json").write_text("{}")
    assert [source.path for source in find([str(root)])[0]] == [root, root / "preference.json"]
