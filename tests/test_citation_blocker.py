"""The blocker in `generate`: THE GUARANTEE, then a model that recites its training text."""

from collections import defaultdict
from copy import deepcopy

import citation_tokenizers as kinds
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from hyperfit_eval.citation import CitationBlocker, CitationIndex, Counters
from hyperfit_eval.citation.words import starts_word
from hyperfit_eval.engines.device import DeviceMatcher
from hyperfit_eval.errors import HyperfitError

INF = float("inf")


def continuations(sequences, ngram=5):
    table = defaultdict(set)
    for row in sequences:
        for start in range(len(row) - ngram):
            table[tuple(row[start : start + ngram])].add(row[start + ngram])
    return table


def ngrams(sequences, ngram=5):
    return {tuple(row[i : i + ngram]) for row in sequences for i in range(len(row) - ngram + 1)}


def test_by_hand():
    tokenizer = kinds.byte_level()
    the, t, he, dog, dot = tokenizer.convert_tokens_to_ids(["The", "Ġt", "he", "Ġdog", "."])
    blocker = CitationBlocker(CitationIndex.build([[the, t, he, dog, dot]], tokenizer, ngram=2))
    prompt = torch.tensor([[the, t, he], [the, t, the]])

    def banned(*generated):
        ids = torch.cat([prompt, torch.tensor(generated).T], dim=1) if generated else prompt
        scores = blocker(ids, torch.zeros(2, len(tokenizer)))
        return [row.nonzero().flatten().tolist() for row in scores == -INF]

    assert banned() == [[], []]  # ' t', 'he' are of the prompt
    assert banned([t, dot]) == [[], []]
    assert banned([t, dot], [he, t]) == [[dog], []]
    assert banned([t, dot], [he, t], [the, he]) == [[], [dog]]
    assert banned([t, dot], [he, t], [the, he], [t, dog]) == [[], [dot]]  # the, t: 'he' starts no word
    assert blocker.counters == Counters(steps=10, matched=4, banned=3, unblocked=0)


@st.composite
def random_worlds(draw):
    """A tokenizer of random pieces, a corpus and the scores of a model that likes to repeat it."""
    pieces = draw(st.lists(st.text("abĠĊ.'1ä¸", min_size=1, max_size=3), min_size=3, max_size=12, unique=True))
    tokenizer = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(["</s>", *pieces])}))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    ngram = draw(st.integers(1, 3))
    ids = st.integers(0, len(pieces))
    corpus = draw(st.lists(st.lists(ids, min_size=ngram + 1, max_size=30), min_size=1, max_size=4))
    return tokenizer, ngram, corpus, np.random.default_rng(draw(st.integers(0, 2**32)))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    world=random_worlds(),
    rows=st.sampled_from([1, 2, 12]),
    prompt_length=st.integers(0, 4),
    include_prompt=st.booleans(),
    extra_cap=st.sampled_from([None, 0, 2]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_the_guarantee(world, rows, prompt_length, include_prompt, extra_cap, dtype):
    """No position continues a matched n-gram with a word-starting token, and nothing else is ever banned.

    At every step the scores must be exactly those of the model with -inf at the forbidden tokens, or
    exactly those of the model where nothing else was possible.
    """
    tokenizer, ngram, corpus, rng = world
    cap = None if extra_cap is None else ngram + extra_cap
    table, known, vocabulary = continuations(corpus, ngram), ngrams(corpus, ngram), len(tokenizer)
    index = CitationIndex.build(corpus, tokenizer, ngram)
    blocker = CitationBlocker(index, include_prompt=include_prompt, max_overlap_tokens=cap)
    ids = rng.integers(0, vocabulary, (rows, prompt_length))
    expected = Counters()
    for _ in range(12):
        scores = torch.from_numpy(rng.standard_normal((rows, vocabulary + 2))).to(dtype)
        scores[:, vocabulary:] = -INF  # columns of no token, as in models with padded embeddings
        scores[torch.from_numpy(rng.random(scores.shape) < rng.choice([0.0, 0.5, 0.9]))] = -INF
        wanted = scores.clone()
        for row in range(rows):
            history = ids[row, 0 if include_prompt else prompt_length :].tolist()
            gram = tuple(history[-ngram:])
            run = [tuple(history[i : i + ngram]) for i in range(len(history) - (cap or 0), len(history) - ngram + 1)]
            at_cap = cap is not None and len(history) >= cap and all(part in known for part in run)
            follow = table.get(gram, set()) if len(gram) == ngram else set()
            # Id 0 is the end of the text: special, and never banned.
            forbidden = [t for t in follow if t and (at_cap or starts_word(tokenizer, gram, t))]
            possible = {t for t in range(vocabulary) if scores[row, t] > -INF} - set(forbidden)
            expected.steps += 1
            expected.matched += gram in known
            expected.banned += bool(forbidden) and bool(possible)
            expected.unblocked += bool(forbidden) and not possible
            if possible:
                wanted[row, forbidden] = -INF
        answer = blocker(torch.from_numpy(ids), scores)
        assert torch.equal(answer, wanted) and answer.dtype is dtype
        chosen = answer.float().argmax(dim=1).numpy() % vocabulary
        ids = np.concatenate([ids, chosen[:, None]], axis=1)
    assert blocker.counters == expected


@settings(deadline=None, derandomize=True, max_examples=60)
@given(world=random_worlds(), rows=st.sampled_from([1, 5, 12]), extra_cap=st.sampled_from([None, 0, 2]))
def test_the_device_path_bans_the_same(world, rows, extra_cap):
    tokenizer, ngram, corpus, rng = world
    index = CitationIndex.build(corpus, tokenizer, ngram)
    cap = None if extra_cap is None else ngram + extra_cap
    width, vocabulary = cap or ngram, len(tokenizer)
    host = CitationBlocker(index, prompt_length=1, max_overlap_tokens=cap)
    device = DeviceMatcher(index, torch.device("cpu"), cap)
    for length in range(10):
        ids = torch.from_numpy(rng.integers(0, vocabulary, (rows, length + 1)))
        scores = torch.from_numpy(rng.standard_normal((rows, vocabulary)))
        scores[torch.from_numpy(rng.random(scores.shape) < 0.5)] = -INF
        windows = torch.nn.functional.pad(ids[:, 1:], (width, 0), value=-1)[:, -width:]
        wanted = host(ids, scores.clone())
        device.ban_(scores, windows)
        assert torch.equal(scores, wanted)
    counters = host.counters
    assert device.counts.tolist() == [counters.matched, counters.banned, counters.unblocked]


def test_the_device_path_never_waits_for_the_device():
    """On the meta device there are no values to wait for: reading one raises."""
    tokenizer = kinds.byte_level()
    index = CitationIndex.build(np.random.default_rng(0).integers(4, 300, (4, 64)), tokenizer)
    for settings_ in ({}, {"include_prompt": True}, {"prompt_length": 3}, {"max_overlap_tokens": 8}):
        blocker = CitationBlocker(index, **settings_)
        for length in (3, 4, 5, 6, 5, 12):
            ids = torch.empty((6, length), dtype=torch.int64, device="meta")
            assert blocker(ids, torch.empty((6, 400), device="meta")).shape == (6, 400)
        assert blocker._counters.steps == 36
        with pytest.raises(NotImplementedError, match="meta"):
            _ = blocker.counters


class OnDevice(CitationBlocker):
    """Takes the device path on the CPU."""

    def _ban_on_host(self, input_ids, scores):
        self._ban_on_device(input_ids, scores)


# A model that recites.

TEXTS = [
    "The quick brown foxes don't jump over the dog's well known tail in the barn, said Anna. The end.",
    "Anna said the dog knew a barn over the known end. Don't jump, quick foxes! The tail was brown.",
]


@pytest.fixture(scope="module")
def world():
    """Tokenizer, training ids and a Llama of 50k parameters that has learnt both texts by heart."""
    tokenizer = kinds.byte_level()
    ids = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in TEXTS]
    set_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + 5,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=256,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            attn_implementation="eager",
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    length = max(map(len, ids))
    labels = torch.tensor([row + [-100] * (length - len(row)) for row in ids])
    for _ in range(60):
        loss = model(labels.clamp(min=0), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    return tokenizer, ids, model.eval()


def prompts(world, *lengths):
    """The beginnings of the training texts, padded on the left."""
    tokenizer, ids, _ = world
    rows = [{"input_ids": ids[n % 2][:length]} for n, length in enumerate(lengths)]
    tokenizer.padding_side = "left"
    return tokenizer.pad(rows, return_tensors="pt")


def generate(world, inputs, **settings_):
    defaults = {"max_new_tokens": 16, "do_sample": False, "pad_token_id": world[0].pad_token_id}
    with torch.no_grad():
        output = world[2].generate(**inputs, **{**defaults, **settings_})
    return output[:, inputs["input_ids"].shape[1] :].tolist()


def violations(world, generated):
    """Positions that continue a matched 5-gram with a token that starts a word."""
    tokenizer, ids, _ = world
    table = continuations(ids)
    return sum(
        row[i] in table.get(tuple(row[i - 5 : i]), ()) and starts_word(tokenizer, row[i - 5 : i], row[i])
        for row in generated
        for i in range(5, len(row))
    )


MODES = {
    "greedy": {},
    "greedy without a cache": {"use_cache": False},
    "sampling": {"do_sample": True, "temperature": 0.7, "top_p": 0.9},
    "beams": {"num_beams": 4},
    "sampled beams": {"num_beams": 3, "do_sample": True, "temperature": 0.5},
    "several answers": {"do_sample": True, "num_return_sequences": 3},
    "with other processors": {"min_new_tokens": 16, "repetition_penalty": 1.05, "no_repeat_ngram_size": 12},
}


@pytest.mark.parametrize("mode", MODES)
def test_recites_without_the_blocker_and_never_with_it(world, mode):
    tokenizer, ids, _ = world
    inputs = prompts(world, 4, 3, 6)
    set_seed(0)
    assert violations(world, generate(world, inputs, **MODES[mode])) > 10
    for blocker_class in (CitationBlocker, OnDevice) if mode in ("greedy", "beams") else (CitationBlocker,):
        blocker = blocker_class(CitationIndex.build(ids, tokenizer))
        set_seed(0)
        blocked = generate(world, inputs, logits_processor=[blocker], **MODES[mode])
        assert violations(world, blocked) == 0
        assert blocked[0][:5] == ids[0][4:9]  # five tokens may be repeated, and were
        assert blocker.counters.banned > 2 and blocker.counters.unblocked == 0


@pytest.mark.parametrize("drafting", ["prompt lookup", "assistant"])
def test_assisted_generation(world, drafting):
    """Drafted tokens are rejected: the ids go back, and the blocker with them."""
    tokenizer, ids, model = world
    index, inputs = CitationIndex.build(ids, tokenizer), prompts(world, 4)
    plain = generate(world, inputs, logits_processor=[CitationBlocker(index)])
    settings_ = {"prompt_lookup_num_tokens": 3} if drafting == "prompt lookup" else {"assistant_model": deepcopy(model)}
    blocker = CitationBlocker(index)
    drafted = generate(world, inputs, logits_processor=[blocker], **settings_)
    assert violations(world, drafted) == 0
    assert drafted == plain


def test_padding_and_batches_change_nothing(world):
    tokenizer, ids, _ = world
    index = CitationIndex.build(ids, tokenizer)
    together = generate(world, prompts(world, 4, 3, 9, 6), logits_processor=[CitationBlocker(index)])
    for row, (number, length) in zip(together, [(0, 4), (1, 3), (0, 9), (1, 6)], strict=True):
        inputs = {"input_ids": torch.tensor([ids[number][:length]])}
        alone = generate(world, inputs, logits_processor=[CitationBlocker(index)])[0]
        assert row[: len(alone)] == alone


def test_the_prompt_counts_only_when_asked(world):
    tokenizer, ids, _ = world
    index = CitationIndex.build(ids, tokenizer)
    inputs = prompts(world, 8)
    new = generate(world, inputs, logits_processor=[CitationBlocker(index)])[0]
    assert new[:5] == ids[0][8:13]
    with_prompt = generate(world, inputs, logits_processor=[CitationBlocker(index, include_prompt=True)])[0]
    assert with_prompt[0] != ids[0][8]
    assert violations(world, [ids[0][:8] + with_prompt]) == violations(world, [ids[0][:8]]) == 2
    given_length = generate(world, inputs, logits_processor=[CitationBlocker(index, prompt_length=8)])[0]
    assert given_length == new


def test_hard_cap(world):
    tokenizer, ids, _ = world
    cap = 7
    words = [tokenizer.convert_tokens_to_ids(list("incomprehensibilities") * 2)]  # one word, a letter a token
    known = ngrams(words, cap + 1)
    scores = torch.zeros(1, len(tokenizer))
    for max_overlap_tokens, longest in ((None, 42), (cap, cap)):
        blocker = CitationBlocker(CitationIndex.build(words, tokenizer), max_overlap_tokens=max_overlap_tokens)
        ids = torch.empty((1, 0), dtype=torch.int64)
        for token in words[0]:
            liked = scores.clone()
            liked[0, token] = 1.0
            ids = torch.cat([ids, blocker(ids, liked).argmax(dim=1, keepdim=True)], dim=1)
        row = ids[0].tolist()
        copied = any(tuple(row[i : i + cap + 1]) in known for i in range(len(row) - cap))
        assert copied == (longest > cap)


def test_a_blocker_used_again_learns_the_new_prompt(world):
    tokenizer, ids, _ = world
    index = CitationIndex.build(ids, tokenizer)
    blocker = CitationBlocker(index)
    for number, length in enumerate([4, 5, 20, 9, 10, 2, 3, 30, 4]):
        inputs = {"input_ids": torch.tensor([ids[number % 2][:length]])}
        fresh = generate(world, inputs, logits_processor=[CitationBlocker(index)], max_new_tokens=8)
        assert generate(world, inputs, logits_processor=[blocker], max_new_tokens=8) == fresh
    # The same length as one more step would have had, but another text.
    blocker = CitationBlocker(index)
    generate(world, {"input_ids": torch.tensor([ids[1][:4]])}, logits_processor=[blocker], max_new_tokens=6)
    inputs = prompts(world, 10)
    fresh = generate(world, inputs, logits_processor=[CitationBlocker(index)])
    assert generate(world, inputs, logits_processor=[blocker]) == fresh


def test_raw_logits_stay_as_they_were_when_not_in_place(world):
    tokenizer, ids, model = world
    index, inputs = CitationIndex.build(ids, tokenizer), prompts(world, 4)
    for in_place in (True, False):
        blocker = CitationBlocker(index, in_place=in_place)
        output = model.generate(
            **inputs,
            max_new_tokens=20,
            do_sample=False,
            logits_processor=[blocker],
            return_dict_in_generate=True,
            output_logits=True,
            output_scores=True,
        )
        assert blocker.counters.banned > 0
        assert (torch.stack(output.scores) == -INF).any()
        assert (torch.stack(output.logits) == -INF).any() == in_place


def test_copies_share_the_index_and_nothing_else(world):
    tokenizer, ids, _ = world
    blocker = CitationBlocker(CitationIndex.build(ids, tokenizer), max_overlap_tokens=9, in_place=False)
    fresh = generate(world, prompts(world, 4), logits_processor=[blocker])
    copied = deepcopy({"logits_processor": [blocker]})["logits_processor"][0]
    assert copied.index is blocker.index and copied.counters == Counters()
    assert (copied.max_overlap_tokens, copied.in_place) == (9, False)
    assert generate(world, prompts(world, 4), logits_processor=[copied]) == fresh


def test_refused(world):
    tokenizer, ids, _ = world
    index = CitationIndex.build(ids, tokenizer)
    with pytest.raises(HyperfitError, match="prompt_length=3 and include_prompt=True exclude each other"):
        CitationBlocker(index, prompt_length=3, include_prompt=True)
    with pytest.raises(HyperfitError, match="prompt_length=-1: expected 0 or more tokens"):
        CitationBlocker(index, prompt_length=-1)
    with pytest.raises(HyperfitError, match="the model scores 20 tokens, the citation index has ids up to"):
        CitationBlocker(index)(torch.zeros((1, 3), dtype=torch.int64), torch.zeros(1, 20))
    blocker = CitationBlocker(index)
    blocker(torch.zeros((1, 3), dtype=torch.int64), torch.zeros(1, 400))
    with pytest.raises(HyperfitError, match="scores of 500 tokens after scores of 400: a citation blocker serves one"):
        blocker(torch.zeros((1, 4), dtype=torch.int64), torch.zeros(1, 500))
    blocker.reset()
    blocker(torch.zeros((1, 4), dtype=torch.int64), torch.zeros(1, 500))
    with pytest.raises(HyperfitError, match="continuous batching shows a logits processor no history"):
        _ = blocker.supports_continuous_batching
