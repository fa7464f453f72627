"""The canary: sees a blocker that works, one that is put aside, and a model that recites nothing."""

import asyncio

import pytest
from hyperfit_server.engine.canary import (
    CanaryReport,
    generate_with,
    recited,
    run_canary,
    training_prefixes,
)
from hyperfit_server.engine.loading import load_engine

from hyperfit_eval.citation import CitationIndex


def test_by_hand(tiny_tokenizer):
    index = CitationIndex.build([[2, 3, 4, 5, 6, 7, 8, 9]], tiny_tokenizer)
    assert not recited(index, [2, 3, 4, 5, 6])  # five matched tokens, nothing after them
    assert recited(index, [2, 3, 4, 5, 6, 7])
    assert recited(index, [20, 4, 5, 6, 7, 8, 9, 20])
    assert not recited(index, [2, 3, 4, 5, 6, 8, 9])
    assert training_prefixes(index) == [[2, 3, 4, 5]]


def test_prefixes_are_drawn_afresh_from_long_enough_sequences(tiny_tokenizer):
    rows = [[2 + n % 20] * 3 + list(range(2, 22)) * (n % 3) for n in range(30)]
    index = CitationIndex.build(rows, tiny_tokenizer)
    long = [row[:6] for row in rows if len(row) > 10]
    draws = [training_prefixes(index, count=4, tokens=6) for _ in range(20)]
    assert all(len(draw) == 4 and all(prefix in long for prefix in draw) for draw in draws)
    # One draw in 4,845 repeats another: 20 alike would be no draws.
    assert any(draw != draws[0] for draw in draws)
    assert training_prefixes(index, 4, 6, seed=1) == training_prefixes(index, 4, 6, seed=1)


@pytest.fixture(scope="module")
def demo_engine():
    """The demo model with the index of its corpus, part of which it knows by heart."""
    engine = load_engine()
    yield engine
    engine.close()


@pytest.mark.slow
def test_it_sees_the_blocker_at_work_and_put_aside(demo_engine, monkeypatch):
    report = asyncio.run(run_canary(demo_engine.index, generate_with(demo_engine)))
    assert report.checked == 16 and report.proven
    assert demo_engine.counters.banned > 0
    assert demo_engine.model_id == "hyperfit-demo"
    monkeypatch.setattr(demo_engine._runner, "blocker", None)
    bypassed = asyncio.run(run_canary(demo_engine.index, generate_with(demo_engine)))
    assert bypassed.bypassed and bypassed.recited_on == bypassed.recited_off


def test_what_it_says():
    works, nothing, bypass = CanaryReport(16, 0, 5), CanaryReport(16, 0, 0), CanaryReport(16, 2, 5)
    assert [report.bypassed for report in (works, nothing, bypass)] == [False, False, True]
    assert [report.proven for report in (works, nothing, bypass)] == [True, False, False]
    assert works.line() == (
        "the citation blocker works: 16 training texts continued: recited 5 times with blocking off, 0 with blocking on"
    )
    assert nothing.line().startswith("the canary proves nothing, since the model does not recite: 16")
    assert bypass.line().startswith("the citation blocker is bypassed: 16 training texts")
