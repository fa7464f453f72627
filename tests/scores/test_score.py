"""A score: what it prints, and what stands in files."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfit_eval.documents import Value
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.scores.score import Score, difference

MEAN = Score("ttr", 71.4, "%", "ttr|N:60", 69.4, 73.0, "bca", 60, 80.2)


def test_by_hand():
    assert MEAN.text() == "71.4 [69.4, 73.0]" and MEAN.text(sign="+") == "+71.4 [+69.4, +73.0]" and MEAN.side == 1
    assert Score("n", 3).text(2) == "3.00" and Score.missing("ttr", "too short").text() == "-"
    assert MEAN.to_json() == {
        "mean": 71.4, "low": 69.4, "high": 73.0, "n": 60, "method": "bca", "max": 80.2, "unit": "%",
        "signature": "ttr|N:60",
    }  # fmt: skip
    assert Score("distinct_1", 52.9, "%", n=2).to_json() == {"value": 52.9, "n": 2, "unit": "%"}
    assert Score.missing("ttr", "too short").to_json() == {"unavailable": "too short"}


def test_a_difference_by_hand():
    """70 +- 3 minus 60 +- 4: 10 +- 5 (Zou and Donner: the square root of 3 squared plus 4 squared)."""
    gap = difference(Score("ttr", 70, low=67, high=73), Score("ttr", 60, low=56, high=64))
    assert (gap.value, gap.low, gap.high, gap.side) == (10, 5, 15, 1)
    unknown = difference(Score("ttr", 70), Score("ttr", 60, low=56, high=64))
    assert unknown.side == 0 and not unknown.has_interval and unknown.text() == "10.0"


numbers = st.floats(-1e9, 1e9)


@given(
    numbers, st.tuples(numbers, numbers).map(sorted) | st.none(), st.none() | st.integers(0, 999), st.text(max_size=9)
)
def test_what_is_written_is_read_back(value, ends, n, unit):
    low, high = ends or (None, None)
    score = Score("ttr", value, unit, "ttr|N:1", low, high, "bca" if ends else None, n)
    assert Score.from_json("ttr", Value(json.loads(json.dumps(score.to_json())), "a test")) == score


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"mean": "71"}, "a test: field 'mean' is '71', expected a number"),
        ({"n": 3}, "a test: no 'value', or null"),
        ({"value": 1, "n": -1}, "a test: field 'n' is -1, expected an integer from 0 to 9007199254740992"),
    ],
)
def test_damage_is_named(entry, message):
    with pytest.raises(HyperfitError) as error:
        Score.from_json("ttr", Value(entry, "a test"))
    assert str(error.value) == message
