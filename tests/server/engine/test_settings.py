"""What a request can ask of the embedded engine: sampling, penalties, stops, blocking, scores."""

import random

import pytest
import torch
from hyperfit_server.engine import runner
from hyperfit_server.engine.requests import Request, Sampling
from hyperfit_server.engine.sampling import check_sampling, choose
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import EOS, alone, ask, fifty_words, ids_of, requests, running

from hyperfit_eval.blocking import CitationBlocker, windows
from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.citation import CitationIndex, Counters
from hyperfit_eval.generation import score_ids


@pytest.fixture(scope="module")
def words():
    return fifty_words()


def test_sampling_does_not_depend_on_the_neighbors(tiny_model, words):
    warped = {"do_sample": True, "temperature": 1.3, "top_k": 40, "top_p": 0.95}
    asked = [Request((3, 4), Sampling(20, 20, seed=seed, **warped)) for seed in (1, 2)]
    crowd = requests(12, do_sample=True, min_p=0.01, typical_p=0.9)
    with running(tiny_model, words) as engine:
        [(first, _)] = ask(engine, asked[0])
        results = ask(engine, *crowd[:6], *asked, *crowd[6:])
    assert ids_of(first) == ids_of(results[6][0])
    assert ids_of(first) != ids_of(results[7][0])


def test_a_drawn_seed_gives_the_same_again(tiny_model, words):
    free = Request((3, 4), Sampling(20, 20, do_sample=True))
    with running(tiny_model, words) as engine:
        (first, drawn), (second, other) = ask(engine, free, free)
        assert drawn.seed != other.seed and ids_of(first) != ids_of(second)
        [(again, finished)] = ask(engine, Request((3, 4), Sampling(20, 20, do_sample=True, seed=drawn.seed)))
        [(_, greedy)] = ask(engine, Request((3, 4), Sampling(2)))
    assert ids_of(again) == ids_of(first) and finished.seed == drawn.seed and greedy.seed is None


def test_top_k_bounds_what_is_sampled(tiny_model, words):
    asked = [Request((3, 4), Sampling(15, do_sample=True, top_k=2, seed=s), top_n_tokens=2) for s in range(8)]
    with running(tiny_model, words) as engine:
        results = ask(engine, *asked)
    for tokens, _ in results:
        assert all(token.scored.id in [top.id for top in token.top] for token in tokens)
    assert len({tuple(ids_of(tokens)) for tokens, _ in results}) > 1


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    temperature=st.floats(1e-300, 1e300),
    top_k=st.integers(0, 12),
    shares=st.tuples(*[st.floats(1e-12, 1.0)] * 3),
    possible=st.integers(1, 10),
    scale=st.sampled_from([1e-3, 1.0, 5e3]),
)
def test_no_setting_makes_sampling_fail(temperature, top_k, shares, possible, scale):
    """A failure would take the neighbors with it."""
    scores = scale * torch.randn(2, 10, generator=torch.Generator().manual_seed(possible))
    scores[:, possible:] = -torch.inf
    top_p, typical_p, min_p = shares
    sampling = Sampling(
        do_sample=True, temperature=temperature, top_k=top_k, top_p=top_p, typical_p=typical_p, min_p=min_p
    )
    check_sampling(sampling)
    chosen = choose(scores, [(1, sampling, torch.Generator().manual_seed(0))])
    assert chosen[0] == scores[0].argmax() and chosen[1] < possible


def test_penalties(tiny_model, words):
    plain = Request((3, 4, 3), Sampling(20, 20))
    repetition = Request((3, 4, 3), Sampling(20, 20, repetition_penalty=1.7))
    presence = Request((3, 4, 3), Sampling(20, 20, presence_penalty=2.0, frequency_penalty=2.0))
    with running(tiny_model, words) as engine:
        results = [ids_of(tokens) for tokens, _ in ask(engine, plain, repetition, presence)]
    assert results[0] == alone(tiny_model, plain, min_new_tokens=20)
    assert results[1] == alone(tiny_model, plain, min_new_tokens=20, repetition_penalty=1.7)
    counts = {}
    ids = [3, 4, 3]
    for token in results[2]:
        with torch.no_grad():
            scores = tiny_model(torch.tensor([ids])).logits[0, -1]
        scores[EOS] = -torch.inf
        for seen, times in counts.items():
            scores[seen] -= 2.0 * times + 2.0
        assert token == int(scores.argmax())
        counts[token] = counts.get(token, 0) + 1
        ids.append(token)


def test_the_logprob_is_the_models_own(tiny_model, words):
    request = Request((3, 4), Sampling(10, 10, do_sample=True, temperature=0.1, repetition_penalty=1.5, seed=3))
    with running(tiny_model, words) as engine:
        [(tokens, _)] = ask(engine, request)
    score = score_ids(tiny_model, [[3, 4, *ids_of(tokens)]])[0]
    assert [-token.scored.logprob for token in tokens] == pytest.approx(score.nll[-10:].tolist(), abs=1e-4)


def test_stop_sequences_end_the_text_where_they_end(tiny_model, words):
    long = Request((5, 6, 7), Sampling(12, 12))
    with running(tiny_model, words) as engine:
        [(tokens, whole)] = ask(engine, long)
        stop = " ".join(whole.text.split()[2:4])[:-1]  # ends inside the fourth word
        [(short, finished)] = ask(engine, Request((5, 6, 7), Sampling(12, 12, stop=("nothing", stop))))
    assert finished.reason == "stop_sequence"
    assert finished.text == whole.text[: whole.text.index(stop) + len(stop)]
    assert "".join(token.scored.text for token in short) == finished.text
    assert ids_of(short) == ids_of(tokens)[:4]


def test_end_of_text_ids_may_be_several_and_wait_for_min_new_tokens(tiny_model, words):
    request = Request((5, 6, 7), Sampling(12))
    own = tiny_model.generation_config.eos_token_id
    with running(tiny_model, words) as engine:
        [(tokens, _)] = ask(engine, Request((5, 6, 7), Sampling(12, 12)))
    second = ids_of(tokens)[1]
    tiny_model.generation_config.eos_token_id = [own, second]
    try:
        with running(tiny_model, words) as engine:
            [(tokens, finished)] = ask(engine, request)
            [(later, _)] = ask(engine, Request((5, 6, 7), Sampling(12, 6)))
    finally:
        tiny_model.generation_config.eos_token_id = own
    assert (finished.reason, ids_of(tokens)[-1]) == ("eos_token", second)
    assert len(tokens) <= 2
    assert second not in ids_of(later)[:6]


@pytest.fixture(scope="module")
def index(tiny_model, words):
    """Of what the tiny model itself says: it recites all of it."""
    texts = [alone(tiny_model, request, min_new_tokens=30, max_new_tokens=30) for request in requests(6, seed=5)]
    return CitationIndex.build(texts, words)


@pytest.mark.parametrize("options", [{}, {"include_prompt": True}, {"max_overlap_tokens": 6}])
def test_it_blocks_as_in_generate(tiny_model, words, index, options):
    asked = [Request(r.prompt_ids, Sampling(30, 30)) for r in requests(6, seed=5)]
    free = [Request(r.prompt_ids, Sampling(30, 30), blocking=False) for r in asked[:3]]
    blockers = [CitationBlocker(index, **options) for _ in asked]
    expected = [
        alone(tiny_model, request, min_new_tokens=30, logits_processor=[blocker])
        for request, blocker in zip(asked, blockers, strict=True)
    ]
    with running(tiny_model, words, index, **options) as engine:
        results = ask(engine, *asked[:2], *free, *asked[2:])
    blocked = results[:2] + results[5:]
    assert [ids_of(tokens) for tokens, _ in blocked] == expected
    assert [ids_of(tokens) for tokens, _ in results[2:5]] == [
        alone(tiny_model, request, min_new_tokens=30) for request in free
    ]
    assert not any(finished.blocked_tokens for _, finished in results[2:5])
    counts = [blocker.counters for blocker in blockers]
    assert [finished.blocked_tokens for _, finished in blocked] == [count.banned for count in counts]
    assert all(sum(token.blocked for token in tokens) == finished.blocked_tokens for tokens, finished in blocked)
    assert sum(count.banned for count in counts) > 5
    totals = [sum(getattr(count, name) for count in counts) for name in ("steps", "matched", "banned", "unblocked")]
    assert engine.counters == Counters(*totals)


def test_the_lookup_of_accelerators_blocks_the_same(index, monkeypatch):
    corpus = index.tokens[:30].tolist()
    histories = dict(zip([0, 1, 3, 4, 5], [corpus[:7], corpus[3:12], [3], [], corpus[:5]], strict=True))
    scores, host, device = torch.randn(6, 50), WindowBlocker(index), WindowBlocker(index)
    scores_on_device = scores.clone()
    assert runner._ban(host, scores, histories) == {0, 1, 5}
    monkeypatch.setattr(windows, "on_host", lambda tensor: False)
    assert runner._ban(device, scores_on_device, histories) == {0, 1, 5}
    assert torch.equal(scores, scores_on_device)
    assert host.counters == device.counters


@pytest.mark.parametrize("pass_tokens", [4096, 20, 7])
def test_prompts_are_scored(tiny_model, words, monkeypatch, pass_tokens):
    monkeypatch.setattr(runner, "PREFILL_TOKENS", pass_tokens)
    rows = [random.Random(length).choices(range(1, 50), k=length) for length in (1, 2, 9, 17, 40)]
    asked = [Request(tuple(row), Sampling(0), prompt_logprobs=True, top_n_tokens=3) for row in rows]
    more = [Request(r.prompt_ids, Sampling(5), prompt_logprobs=True) for r in asked]
    with running(tiny_model, words) as engine:
        results = ask(engine, *asked, *requests(3), *more)
    for row, (tokens, finished) in zip(rows, results, strict=False):
        assert (tokens, finished.reason, finished.text) == ([], "length", "")
        assert [scored.id for scored in finished.prompt] == row
        assert finished.prompt[0].logprob is None and finished.prompt_top[0] == ()
        if len(row) > 1:
            score = score_ids(tiny_model, [row])[0]
            assert [-scored.logprob for scored in finished.prompt[1:]] == pytest.approx(score.nll.tolist(), abs=1e-4)
            assert [top[0].id for top in finished.prompt_top[1:]] == score.top1.tolist()
        assert all(len(top) == 3 for top in finished.prompt_top[1:])
    for request, first, (tokens, finished) in zip(more, results, results[-5:], strict=False):
        assert ids_of(tokens) == alone(tiny_model, request)
        assert finished.prompt_top == ()
        logprobs = [scored.logprob for scored in first[1].prompt[1:]]
        assert [scored.logprob for scored in finished.prompt[1:]] == pytest.approx(logprobs, abs=1e-4)


def test_the_text_of_a_prompt_has_its_special_tokens(tiny_model, words):
    with running(tiny_model, words) as engine:
        [(_, finished)] = ask(engine, Request((EOS, 5, 49), Sampling(0), prompt_logprobs=True))
    assert [(s.text, s.special) for s in finished.prompt] == [("<|endoftext|>", True), (" w5", False), (" w49", False)]
