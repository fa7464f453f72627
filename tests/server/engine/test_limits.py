"""The embedded engine under load: its queue and limits, clients that go away, memory that runs out, failures."""

import asyncio
import gc
import random
import threading
from dataclasses import replace

import pytest
import torch
from hyperfit_server.engine.embedded import TransformersEngine
from hyperfit_server.engine.requests import Failed, Overloaded, Request, Sampling
from hyperfit_server.engine.row import Row
from serving_world import alone, ask, fifty_words, ids_of, long_request, requests, running, until

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.errors import HyperfitError


@pytest.fixture(scope="module")
def words():
    return fifty_words()


def test_cancelled_requests_leave_the_batch_and_the_queue(tiny_model, words):
    async def main(engine):
        first, second, third = (engine.submit(long_request(seed)) for seed in range(3))
        async for _ in first:
            break
        assert (engine.running, engine.queued) == (2, 1)
        third.cancel()
        assert engine.queued == 0
        first.cancel()
        first.cancel()
        await until(lambda: engine.running == 1)
        tokens, finished = await second.whole()
        assert len(tokens) == 120 and finished.reason == "length"
        with pytest.raises(Failed, match="the request was cancelled"):
            await third.whole()
        assert not engine._generations and engine._runner._cache is None

    with running(tiny_model, words, max_batch=2) as engine:
        asyncio.run(main(engine))


def test_many_clients_of_which_a_third_goes_away(tiny_model, words):
    asked = requests(40, seed=3)
    expected = [alone(tiny_model, request) for request in asked]
    rng = random.Random(4)
    outcome = {"whole": 0, "cut": 0}

    async def client(engine, places):
        number = rng.randrange(len(asked))
        async with places:
            generation = engine.submit(asked[number])
            if rng.random() < 1 / 3:
                await asyncio.sleep(rng.random() * 0.05)
                generation.cancel()
                outcome["cut"] += 1
                return
            tokens, _ = await generation.whole()
            assert ids_of(tokens) == expected[number]
            outcome["whole"] += 1

    async def main(engine):
        places = asyncio.Semaphore(24)
        await asyncio.gather(*(client(engine, places) for _ in range(120)))
        await until(lambda: (engine.running, engine.queued) == (0, 0))

    with running(tiny_model, words, max_batch=8, max_queue=16) as engine:
        asyncio.run(main(engine))
        assert not engine._generations
    assert outcome["cut"] > 20 and sum(outcome.values()) == 120


def test_what_nobody_waits_for_any_more_is_given_up(tiny_model, words):
    """An event loop that is closed without cancelling."""

    async def main(engine):
        engine.submit(long_request())

    with running(tiny_model, words) as engine:
        asyncio.run(main(engine))
        asyncio.run(until(lambda: engine.running == engine.queued == 0))
        assert ask(engine, *requests(2))


def test_the_queue_is_bounded(tiny_model, words):
    async def main(engine):
        accepted = [engine.submit(long_request()) for _ in range(3)]
        with pytest.raises(Overloaded, match="1 requests run and 2 wait; try again later"):
            engine.submit(long_request())
        accepted.pop().cancel()
        accepted.append(engine.submit(long_request()))
        for generation in accepted:
            await generation.whole()

    with running(tiny_model, words, max_batch=1, max_queue=2) as engine:
        asyncio.run(main(engine))


def test_drain_finishes_what_was_accepted(tiny_model, words):
    async def main():
        engine = TransformersEngine(tiny_model, words, model_id="tiny", max_batch=2)
        generations = [engine.submit(request) for request in requests(7)]
        ends = asyncio.gather(*(generation.whole() for generation in generations))
        draining = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="shutting down"):
            engine.submit(long_request())
        await draining
        assert not engine.alive
        return await ends

    results = asyncio.run(main())
    assert [ids_of(tokens) for tokens, _ in results] == [alone(tiny_model, request) for request in requests(7)]
    assert "hyperfit-engine" not in [thread.name for thread in threading.enumerate()]


def test_closing_fails_what_is_under_way(tiny_model, words):
    async def main(engine):
        generation = engine.submit(long_request())
        engine.close()
        with pytest.raises(Failed, match="the server has stopped"):
            await generation.whole()

    with running(tiny_model, words) as engine:
        asyncio.run(main(engine))


class Broken:
    """The model's forward, failing where it is told to."""

    def __init__(self, model, error, at_rows):
        self.model, self.error, self.at_rows, self.forward = model, error, at_rows, model.forward
        self.times = 0

    def __enter__(self):
        # Set on the instance: the engine has looked at the signature of the class's forward before.
        self.model.forward = self
        return self

    def __exit__(self, *_):
        del self.model.forward

    def __call__(self, **inputs):
        rows, columns = inputs["input_ids"].shape
        if rows >= self.at_rows and columns == 1:
            self.times += 1
            raise self.error
        return self.forward(**inputs)


def test_a_failing_step_fails_its_requests_and_the_engine_goes_on(tiny_model, words, caplog):
    async def outcome(generation):
        try:
            await generation.whole()
        except Failed as failed:
            return str(failed)

    async def main(engine):
        generations = [engine.submit(long_request(seed)) for seed in range(3)]
        return await asyncio.gather(*map(outcome, generations))

    with running(tiny_model, words) as engine:
        with Broken(tiny_model, ValueError("no\nsuch luck"), at_rows=1):
            assert asyncio.run(main(engine)) == ["the model failed: ValueError: no"] * 3
        request = requests(1)[0]
        assert ids_of(ask(engine, request)[0][0]) == alone(tiny_model, request)
    assert "requests failed" in caplog.text


def test_a_row_whose_lookup_fails_ends_alone_and_never_unblocked(tiny_model, words):
    """As in a damaged index: the other rows go on, with what they would have said."""
    index = CitationIndex.build([[2, 3, 4, 5, 6, 7, 8]], words)
    good, bad = Request((5, 6), Sampling(9, 9)), Request((11, 11), Sampling(9, 9))
    expected = alone(tiny_model, good, min_new_tokens=9)
    with running(tiny_model, words, index=index, include_prompt=True) as engine:
        ban_ = engine._runner.blocker.ban_

        def damaged(scores, windows):
            if ((windows[:, 1:] == 11) & (windows[:, :-1] == 11)).any():
                raise IndexError("index 9 is out of bounds")
            return ban_(scores, windows)

        engine._runner.blocker.ban_ = damaged

        async def main():
            rows = [engine.submit(replace(one, blocking=True)) for one in (good, bad)]
            return await asyncio.gather(*(row.whole() for row in rows), return_exceptions=True)

        (tokens, _), failed = asyncio.run(main())
        assert ids_of(tokens) == expected
        assert isinstance(failed, Failed)
        assert str(failed) == "the model failed: IndexError: index 9 is out of bounds"
        assert not engine._runner.rows and not engine._generations


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_out_of_memory_halves_the_batch_and_loses_nothing(tiny_model, words, error):
    asked = [Request(r.prompt_ids, Sampling(12, 12), prompt_logprobs=True) for r in requests(9)]
    with running(tiny_model, words) as engine, Broken(tiny_model, error, at_rows=4) as broken:
        results = ask(engine, *asked)
        assert broken.times > 0 and engine._runner.limits.rows < 4
    for request, (tokens, finished) in zip(asked, results, strict=True):
        assert ids_of(tokens) == alone(tiny_model, request, min_new_tokens=12)
        assert finished.text == "".join(token.scored.text for token in tokens)
        assert len(finished.prompt) == len(request.prompt_ids)


def test_a_request_that_never_fits_fails_alone(tiny_model, words):
    with running(tiny_model, words) as engine, Broken(tiny_model, torch.OutOfMemoryError(), at_rows=1):
        with pytest.raises(Failed, match="does not fit into the device's memory; make it shorter"):
            ask(engine, long_request())
        assert engine.alive


def test_the_batch_keeps_to_its_places(tiny_model, words):
    seen = []

    async def main(engine):
        generations = [engine.submit(long_request(seed)) for seed in range(5)]
        async for _ in generations[-1]:
            seen.append(engine.running)

    with running(tiny_model, words, max_total_tokens=122, max_batch_tokens=2 * 122) as engine:
        asyncio.run(main(engine))
    assert max(seen) <= 2


REFUSED = [
    (Request(()), "the prompt has no tokens"),
    (Request((5,) * 61), "the prompt has 61 tokens, at most 60 are read; shorten or truncate it"),
    (Request((5,) * 50, Sampling(60)), "50 prompt tokens and max_new_tokens=60 are 110 together, at most 100 are "),
    (Request((5, 50), Sampling(10)), "token id 50 in the prompt: the model has ids from 0 to 49"),
    (Request((5,), Sampling(10, temperature=0.0)), "temperature=0.0: expected more than 0"),
    (Request((5,), Sampling(10, top_p=1.5)), "top_p=1.5: expected more than 0, at most 1"),
    (Request((5,), Sampling(10, 11)), "min_new_tokens=11: expected 0 to max_new_tokens"),
    (Request((5,), Sampling(10, stop=("",))), "an empty stop sequence"),
    (Request((5,), Sampling(10), top_n_tokens=51), "top_n_tokens=51: expected 0 to 50"),
]


@pytest.mark.parametrize(("request_", "message"), REFUSED)
def test_what_can_never_be_served_is_refused(tiny_model, words, request_, message):
    async def main(engine):
        engine.submit(request_)

    limits = {"max_input_tokens": 60, "max_total_tokens": 100}
    with running(tiny_model, words, **limits) as engine, pytest.raises(HyperfitError) as refused:
        asyncio.run(main(engine))
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_limits_must_fit_together(tiny_model, words):
    for limits, message in [
        ({"max_total_tokens": 301}, "max_total_tokens=301: expected input <= total <= 300"),
        ({"max_batch_tokens": 299}, "max_batch_tokens=299: one request may need 300"),
        ({"max_batch": 0}, "max_batch=0, max_queue=128: expected 1 and 0 or more requests"),
    ]:
        with pytest.raises(HyperfitError, match=message):
            TransformersEngine(tiny_model, words, model_id="x", **limits)


def test_nothing_is_left_of_finished_requests(tiny_model, words):
    def rows():
        gc.collect()
        return sum(type(thing) is Row for thing in gc.get_objects())

    before = rows()  # tracebacks of other tests keep some
    with running(tiny_model, words, max_batch=4) as engine:
        ask(engine, *requests(20))
        assert rows() <= before
        assert not engine._generations and engine._runner._cache is None
