"""Every reader of files that somebody else may have made, on valid files with one value replaced by any JSON value.

What comes of it is a result or one line; never a traceback, and never a file outside the folder of the output.
HYPERFIT_FUZZ_EXAMPLES=1000 runs that many examples of each reader in place of 50 (12 of a push, which is slow).
"""

import copy
import json
import os
import shutil
from pathlib import Path

import preference_study as invented
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publish_fixtures import tiny_run_fixture  # noqa: F401

from hyperfit_eval import checkpoints
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.leaderboard.page import write_leaderboard
from hyperfit_eval.leaderboard.rows import read_rows
from hyperfit_eval.leaderboard.search import Source
from hyperfit_eval.leaderboard.tables import tables
from hyperfit_eval.preference.pairs import make_study
from hyperfit_eval.preference.study import read_study, write_study
from hyperfit_eval.publish.results import Evaluation, settings_of, write_results
from hyperfit_eval.publish.staging import Push, stage
from hyperfit_eval.publish.verify import verify
from hyperfit_eval.records import read_continuations, write_continuations
from hyperfit_eval.scores.score import Score
from hyperfit_eval.scores.tables import score_records
from hyperfit_eval.training.recipe_files import read_recipe

pytestmark = pytest.mark.filterwarnings("ignore")
EXAMPLES = int(os.environ.get("HYPERFIT_FUZZ_EXAMPLES", "0"))

odd = st.sampled_from(
    [None, True, -1, 0, 10**400, -(2**63), 1e308, float("nan"), float("inf"), "", "\ud800", "a\x1b[2J", "=1+1", "|",
     "../../../etc/passwd", "/etc/passwd", "mm[l]u", "a\x00b", "x" * 5000, [], {}, [[[]]], {"a": None}]
)  # fmt: skip
values = odd | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(document, path=()):
    """The path of every value in a JSON document, its root first."""
    yield path
    if isinstance(document, dict | list):
        for key, inner in document.items() if isinstance(document, dict) else enumerate(document):
            yield from places(inner, (*path, key))


def replaced(document, path, value):
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def each_example(document, read, examples=50):
    """Call `read` with the document, one value of it replaced, many times; anything but one-line errors is raised."""
    read(document)  # as it is, it is read
    found = sorted(places(document), key=str)
    tried = refused = 0

    @settings(
        max_examples=EXAMPLES or examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(found), values)
    def run(path, value):
        nonlocal tried, refused
        tried += 1
        try:
            read(replaced(document, path, value))
        except HyperfitError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 4000

    run()
    print(f"{tried} examples, {refused} refused in one line")
    assert refused or tried < 50


def snapshot(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def records():
    return invented.run("hyperfitted", contexts=4)


def number(metric, value):
    sign = f"{metric}|N:4|ctx:32|dec:greedy|block:none|dtype:float32|seed:0|texts:65c3|tok_hash:18a1|v:0.1.0"
    return Score(metric, value, "%", sign, value - 1, value + 1, "bca")


def results_of_each_kind(records, folder):
    _, generation, rows = records
    scored = json.loads(json.dumps(score_records(generation, rows)))
    scores = {"format": "hyperfit-eval/scores", "version": 1, "records": "continuations.jsonl", **scored}
    distributions = {"base": {"perplexity": {"mean": 70.6, "low": 66.0, "high": 75.0}}}
    demo = {"format": "hyperfit-eval/demo-results", "version": 1, "distributions": distributions}
    demo["models"] = {"base, greedy": {"metrics": scored}}
    texts = number("ttr_at_256", 60.0)
    evaluations = [Evaluation("greedy", settings_of(texts.signature), [texts])]
    write_results(folder / "published.json", evaluations)
    harness = {
        "results": {"gsm8k": {"exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.1}},
        "groups": {"mmlu": {"acc,none": 0.25, "acc_stderr,none": 0.1, "sample_len": 8}},
        "group_subtasks": {"mmlu": ["mmlu_anatomy"]}, "n-shot": {"mmlu_anatomy": 0, "gsm8k": 5},
        "configs": {"gsm8k": {"metadata": {"version": 3.0}}}, "n-samples": {"gsm8k": {"effective": 10}},
        "config": {"model_args": {"pretrained": "ada/little"}, "limit": 10.0, "model_dtype": "torch.float32"},
        "lm_eval_version": "0.4.13",
    }  # fmt: skip
    header = {"model": "m", "decoding": {"method": "greedy"}, "blocker": {"ngram": 5}, "dtype": "float32"}
    header |= {"texts": "65c3", "tokenizer": "18a1"}
    entry = {"mean": 50.0, "low": 40.0, "high": 60.0, "signature": "preference|v:0.1.0"}
    preference = {"format": "hyperfit-eval/preference", "version": 1, "study": {"models": {"m": header}}}
    preference["models"] = {"m": {"preference_at_256": entry}}
    return {
        "scores": scores, "demo": demo, "harness": harness, "preference": preference,
        "published": json.loads((folder / "published.json").read_text()),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["scores", "demo", "published", "harness", "preference"])
def test_the_leaderboard(kind, records, tmp_path):
    document = results_of_each_kind(records, tmp_path)[kind]
    (tmp_path / "in").mkdir()
    path, before = tmp_path / "in" / "results.json", None

    def read(changed):
        nonlocal before
        path.write_text(json.dumps(changed))
        write_leaderboard(tmp_path / "out", tables(read_rows(Source(path, "in/results.json"))), [])
        before = before or snapshot(tmp_path)
        assert snapshot(tmp_path) == before

    each_example(document, read)


@pytest.fixture
def published(tiny_run, tmp_path):
    """A published folder with one evaluation of lm-eval, made in no time."""
    folder = tmp_path / "published"
    folder.mkdir()
    results = {
        "results": {"mmlu": {"acc,none": 0.25, "acc_stderr,none": 0.1}}, "configs": {}, "n-shot": {"mmlu": 0},
        "n-samples": {"mmlu": {"effective": 8}}, "config": {"model_args": {"pretrained": "ada/x"}, "limit": 2},
    }  # fmt: skip
    (folder.parent / "results.json").write_text(json.dumps(results))
    stage(Push(tiny_run, "ada/x", "none", license="mit", results=(folder.parent / "results.json",)), folder)
    return folder


@pytest.mark.parametrize("file", ["results.json", "README.md", "config.json", "tokenizer_config.json"])
def test_verify(file, published, monkeypatch):
    """All but the measuring itself, which is never reached with what does not fit."""
    monkeypatch.setattr("hyperfit_eval.publish.rerun.Rerun.repeat", lambda rerun, evaluation: evaluation)
    path, original = published / file, (published / file).read_text()
    _, front, text = original.split("---\n", 2) if file == "README.md" else ("", original, "")
    before = snapshot(published)

    def read(changed):
        as_json = json.dumps(changed)  # JSON is YAML
        path.write_text(f"---\n{as_json}\n---\n{text}" if text else as_json)
        verify(str(published), device="cpu", say=lambda line: None)
        assert snapshot(published) == before

    try:
        each_example(yaml.safe_load(front) if text else json.loads(front), read)
    finally:
        path.write_text(original)


@pytest.mark.parametrize("file", ["run.json", "recipe.yaml", "config.json", "generation_config.json"])
def test_push(file, tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("checkpoint-*"))
    document = (yaml.safe_load if file == "recipe.yaml" else json.loads)((run / file).read_text())

    def read(changed):
        (run / file).write_text(json.dumps(changed))
        shutil.rmtree(tmp_path / "staged", ignore_errors=True)
        (tmp_path / "staged").mkdir()
        stage(Push(run, "ada/x", "none", license="mit"), tmp_path / "staged")
        assert {path.name for path in tmp_path.iterdir()} == {"run", "staged"}

    each_example(document, read, examples=12)


@pytest.mark.parametrize("line", [0, 1])
def test_score(line, records, tmp_path):
    _, generation, rows = records
    path = tmp_path / "continuations.jsonl"
    write_continuations(path, generation, rows)
    lines = [json.loads(text) for text in path.read_text().splitlines()]

    def read(changed):
        path.write_text("".join(json.dumps(row) + "\n" for row in [*lines[:line], changed, *lines[line + 1 :]]))
        score_records(*read_continuations(path))

    each_example(lines[line], read)


def test_the_index(tiny_run, tmp_path):
    data = (tiny_run / "citation_index.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = next(iter(header["__metadata__"]))

    def read(changed):
        text = json.dumps(header | {"__metadata__": {name: json.dumps(changed)}}).encode()
        text += b" " * (-len(text) % 8)
        path = tmp_path / "citation_index.safetensors"
        path.unlink(missing_ok=True)  # it may still be mapped
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
        CitationIndex.load(path)

    each_example(json.loads(header["__metadata__"][name]), read)


@pytest.mark.parametrize("file", ["study.json", "pairs.jsonl"])
def test_a_preference_study(file, records, tmp_path):
    _, generation, rows = records
    write_study(tmp_path / "s", make_study([("fine", generation, rows)], scenarios=[256], seed=0, annotations=1))
    path = tmp_path / "s" / file
    first, *others = path.read_text().splitlines() if file == "pairs.jsonl" else [path.read_text()]
    document = json.loads(others[0] if others else first)

    def read(changed):
        path.write_text("\n".join([first, json.dumps(changed), *others[1:]] if others else [json.dumps(changed)]))
        read_study(tmp_path / "s")

    each_example(document, read)


def test_recipes(tmp_path):
    path = tmp_path / "mine.yaml"

    def read(changed):
        path.write_text(json.dumps(changed))
        read_recipe(str(path))

    each_example({"title": "t", "learning_rate": {"value": 1e-5, "paper": "Section 3"}, "batch_size": 8}, read)


def test_the_weights_index_of_a_checkpoint(tiny_checkpoint, tmp_path):
    folder = tmp_path / "sharded"
    shutil.copytree(tiny_checkpoint, folder)
    document = {"metadata": {"total_size": 1}, "weight_map": {"lm_head.weight": "model.safetensors"}}

    def read(changed):
        Path(folder / checkpoints.WEIGHTS_INDEX).write_text(json.dumps(changed))
        checkpoints.check_folder(folder)

    each_example(document, read)
