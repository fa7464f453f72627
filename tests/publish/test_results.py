"""Results of lm-eval and others as they come: where they are found, which numbers they hold, of which model."""

import json
import os

import pytest

from hyperfit_eval.documents import Value
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.leaderboard.rows import read_rows
from hyperfit_eval.leaderboard.search import Source, find
from hyperfit_eval.publish.card import metric_name
from hyperfit_eval.publish.collect import collect
from hyperfit_eval.publish.harness_results import model_identity, of_harness
from hyperfit_eval.publish.result_files import find_results


def harness(results, n=None, **more):
    document = {"results": results, "configs": {}, "config": {"model_args": {"pretrained": "ada/little"}}, **more}
    return document | {"n-samples": {task: {"effective": n} for task in results} if n else {}}


def numbers(results, n=None):
    (evaluation,) = of_harness(Value(harness(results, n), "results.json"))
    return {number.metric: number for number in evaluation.numbers}, evaluation.left_out


def test_intervals_of_shares_by_hand():
    """Wilson's: 0 of 50 ends at z^2 / (50 + z^2) = 3.8415 / 53.8415, 1 of 10 at 0.0179 and 0.4042."""
    found, _ = numbers({"arc": {"acc,none": 0.0, "acc_stderr,none": 0.0}}, 50)
    assert (found["acc"].low, found["acc"].high) == pytest.approx((0.0, 0.0713476), abs=1e-6)
    found, _ = numbers({"arc": {"acc,none": 0.1, "acc_stderr,none": 0.1}}, 10)
    assert (found["acc"].low, found["acc"].high) == pytest.approx((0.0178762, 0.4041500), abs=1e-6)
    assert found["acc"].method == "wilson|conf:0.95"


def test_what_is_no_share_keeps_the_normal_interval():
    """The accuracy of truthfulqa_mc2 is a mean of probabilities: no whole number of questions has it."""
    found, _ = numbers({"mc2": {"acc,none": 0.437, "acc_stderr,none": 0.01, "f1,none": 0.5, "f1_stderr,none": 0.1}}, 10)
    assert (found["acc"].low, found["f1"].high) == pytest.approx((0.437 - 0.01959964, 0.5 + 0.1959964))


def test_an_accuracy_that_is_an_integer_counts():
    found, _ = numbers({"arc": {"acc,none": 1, "acc_stderr,none": 0}}, 4)
    assert (found["acc"].value, found["acc"].high) == (1.0, 1.0)
    assert found["acc"].low == pytest.approx(0.5101, abs=1e-4)


def test_two_filters_are_two_numbers():
    values = {"exact_match,strict-match": 0.0, "exact_match,flexible-extract": 0.1}
    found, _ = numbers({"gsm8k": values}, 10)
    assert list(found) == list(values)
    assert [metric_name(name) for name in found] == ["exact_match (strict-match)", "exact_match (flexible-extract)"]
    assert len({number.signature for number in found.values()}) == 2


def test_nan_and_infinity_are_left_out_and_named():
    found, left_out = numbers({"w": {"acc,none": float("nan"), "ppl,none": float("inf"), "f1,none": 0.5}})
    assert list(found) == ["f1"] and left_out == ("acc of w is NaN", "ppl of w is infinity")
    found, _ = numbers({"w": {"f1,none": 0.5, "f1_stderr,none": float("nan")}})
    assert (found["f1"].low, found["f1"].high) == (None, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_board_of_no_number_says_which(value, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(harness({"mmlu": {"acc,none": value}})))
    with pytest.raises(HyperfitError, match=r"none of the leaderboard's numbers are in it \(acc of mmlu is (NaN|inf)"):
        read_rows(Source(path, "results.json"))


def test_one_finder_for_all_commands(tmp_path):
    """lm-eval puts results one folder down, whose name begins with a dot for pretrained=./M."""
    (tmp_path / "out" / ".__little").mkdir(parents=True)
    (tmp_path / "out" / ".git").mkdir()
    path = tmp_path / "out" / ".__little" / "results_1.json"
    path.write_text(json.dumps(harness({"arc": {"acc,none": 0.5}}, 4)))
    (tmp_path / "out" / ".git" / "results_2.json").write_text("{}")
    assert list(find_results(tmp_path / "out")) == [path]
    (source,), _ = find([str(tmp_path / "out")])
    assert source.path == path
    (evaluation,) = collect([tmp_path / "out"], None, tmp_path / "little")
    assert evaluation.title == "arc"


def test_a_pipe_among_results_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "results.json")
    os.mkfifo(tmp_path / "other.json")
    (tmp_path / "scores.json").symlink_to("scores.json")
    sources, _ = find([str(tmp_path)])
    reasons = []
    for source in sources:
        with pytest.raises(HyperfitError) as refused:
            read_rows(source)
        reasons.append(str(refused.value).partition(": ")[2])
    assert reasons == [
        "cannot be read (a pipe, socket or device, a file was expected)",
        "cannot be read (Too many levels of symbolic links)",
    ]


def test_one_model_however_its_path_was_typed(tmp_path, monkeypatch):
    (tmp_path / "runs" / "little").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "runs")
    typed = ["little", "./little", "../runs/little", str(tmp_path / "runs" / "little"), "little/"]
    assert {model_identity(name) for name in typed} == {str(tmp_path / "runs" / "little")}
    assert model_identity("ada/little") == "ada/little" and model_identity("x" * 5000) == "x" * 5000


def test_a_path_in_a_file_is_not_followed(tmp_path):
    """The error does not print a piece of the other file, since that is not opened."""
    (tmp_path / "secret.jsonl").write_text('{"format": "password", "rows": 1}\n')
    (tmp_path / "in").mkdir()
    entry = {"mean": 5.0, "signature": "ttr|N:4|ctx:32|dec:greedy|block:none|v:0.1.0"}
    side = {"all": {"ttr_at_128": entry, "ttr_at_256": entry}}
    document = {"format": "hyperfit-eval/scores", "version": 1, "records": "../secret.jsonl"}
    (tmp_path / "in" / "scores.json").write_text(json.dumps(document | {"generated": side, "original": side}))
    (tmp_path / "in" / "secret.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (row,) = read_rows(Source(tmp_path / "in" / "scores.json", "scores.json"))
    assert row.called == "secret"
