"""What the engines share: settings from the environment, and bans by the last tokens of each row."""

import random

import citation_tokenizers as kinds
import pytest
import torch
from hyperfit_server.hooks.environment import BlockerSettings, wants_blocking

from hyperfit_eval.blocking.device import DeviceMatcher
from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.citation import CitationIndex, CitationMatcher, Counters
from hyperfit_eval.citation.matcher import NO_TOKEN
from hyperfit_eval.errors import HyperfitError

INF = float("inf")


@pytest.fixture(scope="module")
def tokenizer():
    return kinds.byte_level()


@pytest.fixture(scope="module")
def corpus(tokenizer):
    return [tokenizer(kinds.TEXT)["input_ids"]]


@pytest.fixture(scope="module")
def index(tokenizer, corpus):
    return CitationIndex.build(corpus, tokenizer, ngram=3)


def test_by_hand(tokenizer):
    the, t, he, dog = tokenizer.convert_tokens_to_ids(["The", "Ġt", "he", "Ġdog"])
    blocker = WindowBlocker(CitationIndex.build([[the, t, he, dog]], tokenizer, ngram=3))
    scores = torch.zeros(3, len(tokenizer))
    windows = blocker.windows(3, [(2, [dog, the, t, he]), (0, [t, he])])
    assert windows.tolist() == [[NO_TOKEN, t, he], [NO_TOKEN] * 3, [the, t, he]]
    blocker.ban_(scores, windows)
    assert (scores == -INF).nonzero().tolist() == [[2, dog]]
    assert blocker.counters == Counters(steps=3, matched=1, banned=1, unblocked=0)


def test_gather_reads_right_padded_histories(tokenizer, index):
    """A prompt of 2 tokens, then 4, 1 and 0 generated ones; whatever stands behind them is padding."""
    blocker = WindowBlocker(index)
    ids = torch.tensor([[10, 11, 1, 2, 3, 4, 99], [10, 11, 1, 99, 99, 99, 99], [10, 11, 99, 99, 99, 99, 99]])
    starts, ends = torch.tensor([2, 2, 2]), torch.tensor([6, 3, 2])
    none = NO_TOKEN
    expected = [[2, 3, 4], [none, none, 1], [none, none, none]]
    assert blocker.gather(ids, torch.arange(3), starts, ends).tolist() == expected
    # A row of scores is not a row of the table; a prompt that is read in parts ends before it begins.
    assert blocker.gather(ids, torch.tensor([2, 0]), torch.tensor([2, 2]), torch.tensor([1, 6])).tolist() == [
        [none, none, none],
        [2, 3, 4],
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("max_overlap_tokens", [None, 4])
def test_bans_what_the_matcher_bans(tokenizer, index, corpus, dtype, max_overlap_tokens):
    rng = random.Random(0)
    histories = []
    for _ in range(40):
        start = rng.randrange(len(corpus[0]) - 8)
        histories.append(corpus[0][start : start + rng.randrange(8)])
    blocker = WindowBlocker(index, max_overlap_tokens)
    matcher = CitationMatcher(index, max_overlap_tokens)
    scores = torch.randn(40, len(tokenizer), generator=torch.Generator().manual_seed(0)).to(dtype)
    before = scores.clone()
    windows = blocker.windows(40, enumerate(histories))
    blocker.ban_(scores, windows)
    expected = {(row, token) for row, ids in enumerate(histories) for token in matcher.banned_after(ids).ids.tolist()}
    assert expected
    assert {tuple(place) for place in (scores == -INF).nonzero().tolist()} == expected
    kept = scores != -INF
    assert torch.equal(scores[kept], before[kept])
    on_device = before.clone()
    DeviceMatcher(index, torch.device("cpu"), max_overlap_tokens).ban_(on_device, windows)
    assert torch.equal(on_device, scores)


def test_refuses_scores_of_another_model(index):
    blocker = WindowBlocker(index)
    with pytest.raises(HyperfitError, match=r"the model scores 10 tokens, the citation index has ids up to \d+; use"):
        blocker.ban_(torch.zeros(1, 10), blocker.windows(1, []))


def test_settings_survive_the_environment():
    for settings in (BlockerSettings("a b", None, False), BlockerSettings("/i", 12, True, "word")):
        assert BlockerSettings.from_environment(settings.variables()) == settings
    assert "word" not in repr(BlockerSettings("/i", 12, True, "word"))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "HYPERFIT_CITATION_INDEX is not set: the citation blocker has no index; set it to the index file"),
        ({"HYPERFIT_CITATION_INDEX": "i", "HYPERFIT_MAX_OVERLAP_TOKENS": "-1"}, "=-1: expected a number of tokens"),
        ({"HYPERFIT_CITATION_INDEX": "i", "HYPERFIT_FORCE_BLOCKING": "yes"}, "=yes: expected 0 or 1"),
    ],
)
def test_refuses_settings(environment, message):
    with pytest.raises(HyperfitError, match=message):
        BlockerSettings.from_environment(environment)


def test_an_index_must_fit_the_model(tmp_path, tokenizer, index):
    path = tmp_path / "index.safetensors"
    index.save(path)
    settings = BlockerSettings(str(path), None, False)
    assert settings.load_index(len(tokenizer), tokenizer).header == index.header
    with pytest.raises(HyperfitError, match="has ids up to"):
        settings.load_index(20, tokenizer)
    with pytest.raises(HyperfitError, match="built with tokenizer"):
        settings.load_index(len(tokenizer), kinds.sentencepiece())
    with pytest.raises(HyperfitError, match=r"missing\.safetensors"):
        BlockerSettings(str(tmp_path / "missing.safetensors"), None, False).load_index(400, tokenizer)


def test_the_switch_of_a_request():
    free, forced = BlockerSettings("i", None, False, "secret"), BlockerSettings("i", None, True, "secret")
    for value in ("on", "true", True, 1, 1.0):
        assert wants_blocking({"hyperfit_blocking": value}, forced)
    assert wants_blocking(None, free) and wants_blocking({"other": "off"}, free)
    for value in ("off", "false", False, 0, 0.0):
        assert not wants_blocking({"hyperfit_blocking": value}, free)
        with pytest.raises(HyperfitError, match="does not let requests switch the citation blocker off"):
            wants_blocking({"hyperfit_blocking": value}, forced)
    assert not wants_blocking({"hyperfit_blocking": "secret"}, forced)
    for value in ("maybe", 2, None, [], "", "OFF"):
        with pytest.raises(HyperfitError, match="expected on or off"):
            wants_blocking({"hyperfit_blocking": value}, BlockerSettings("i", None, False))
    with pytest.raises(HyperfitError, match="hyperfit_bloking: no such argument, expected hyperfit_blocking"):
        wants_blocking({"hyperfit_bloking": "off"}, free)
