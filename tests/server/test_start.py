"""The canary at the start of a server, and what the process ends with."""

import asyncio
import logging
import os
import signal

import pytest
from hyperfit_server.engine.embedded import TransformersEngine
from hyperfit_server.engine.loading import load_engine
from hyperfit_server.run import listen, run
from hyperfit_server.settings import Limits, Settings
from hyperfit_server.start import prove
from hyperfit_server.state import State
from server_client import ask, ready
from server_engine import ScriptedEngine

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.errors import HyperfitError


@pytest.fixture
def state_of():
    """Makes a state that is not ready, around an engine that is stopped at the end."""
    engines = []

    def make(engine):
        engines.append(engine)
        return State(engine, engine.tokenizer, Settings(limits=Limits(max_total_tokens=engine.max_total_tokens)))

    yield make
    for engine in engines:
        engine.close()


def test_a_blocker_that_is_bypassed_keeps_the_server_closed(state_of):
    engine = load_engine()
    engine._runner.blocker = None  # whatever may come between the blocker and the model
    state = state_of(engine)
    asyncio.run(prove(state))
    assert state.canary == "bypassed"
    reason = "the citation blocker is bypassed: 16 training texts continued: recited"
    for response in (ask(state, "/health"), ask(state, "/generate", {"inputs": "The old house"})):
        assert response.status_code == 503
        assert response.json()["error"].startswith(reason)


def test_a_model_that_does_not_recite_proves_nothing(tiny_model, tiny_tokenizer, state_of, caplog):
    index = CitationIndex.build([list(range(2, 20))], tiny_tokenizer)
    state = state_of(TransformersEngine(tiny_model, tiny_tokenizer, index, model_id="tiny"))
    with caplog.at_level(logging.WARNING, "hyperfit_server"):
        asyncio.run(prove(state))
    assert (state.canary, state.unready) == ("unproven", None)
    assert "the canary proves nothing, since the model does not recite" in caplog.text


def test_without_an_index_there_is_nothing_to_prove(tiny_model, tiny_tokenizer, state_of, caplog):
    state = state_of(TransformersEngine(tiny_model, tiny_tokenizer, None, model_id="tiny"))
    with caplog.at_level(logging.WARNING, "hyperfit_server"):
        asyncio.run(prove(state))
    assert (state.canary, state.unready) == ("off", None)
    assert "there is no citation blocker: --no-blocking" in caplog.text


@pytest.mark.parametrize(("canary", "status"), [("passed", 0), ("bypassed", 1)])
def test_the_exit_status_tells_of_the_canary(canary, status, capsys):
    state = ready(ScriptedEngine())
    state.unready = "not yet"

    async def verdict(state):
        state.canary, state.unready = canary, None if canary == "passed" else "the citation blocker is bypassed"
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGTERM)

    with listen("127.0.0.1", 0) as listener:
        assert run(state, listener, verdict, "Serving") == status
    assert state.engine.drained
    assert capsys.readouterr().out == ("Serving\n" if canary == "passed" else "")


def test_a_canary_that_cannot_be_run_ends_the_server():
    async def broken(state):
        raise RuntimeError("no model")

    message = "the canary could not be run: RuntimeError: no model"
    with listen("127.0.0.1", 0) as listener, pytest.raises(HyperfitError, match=message):
        run(ready(ScriptedEngine()), listener, broken, "Serving")
