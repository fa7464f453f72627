"""The blocker in `generate`: THE GUARANTEE, then a model that recites its training text."""

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import citation_tokenizers as kinds
import naive_checker
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessorList, PreTrainedTokenizerFast, set_seed

from hyperfit_eval.blocking import CitationBlocker, windows
from hyperfit_eval.blocking import starts as starts_module
from hyperfit_eval.blocking.device import DeviceMatcher
from hyperfit_eval.blocking.starts import DeviceRowStarts, RowStarts
from hyperfit_eval.citation import CitationIndex, Counters
from hyperfit_eval.citation.words import starts_word
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
        with pytest.raises(NotImplementedError, match="meta"):
            _ = blocker.counters


# A model that recites.

TEXTS = [
    "The quick brown foxes don't jump over the dog's well known tail in the barn, said Anna. The end.",
    "Anna said the dog knew a barn over the known end. Don't jump, quick foxes! The tail was brown.",
]


@pytest.fixture(scope="module")
def world():
    """Tokenizer, training ids and a Llama of 50k parameters that has learned both texts by heart."""
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
    return len(naive_checker.violations(generated, world[1], world[0]))


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
def test_recites_without_the_blocker_and_never_with_it(world, mode, monkeypatch):
    tokenizer, ids, _ = world
    inputs = prompts(world, 4, 3, 6)
    set_seed(0)
    assert violations(world, generate(world, inputs, **MODES[mode])) > 10
    for on_host in (True, False) if mode in ("greedy", "beams") else (True,):
        monkeypatch.setattr(windows, "on_host", lambda tensor, answer=on_host: answer)
        blocker = CitationBlocker(CitationIndex.build(ids, tokenizer))
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
    for number, length in enumerate([4, 5, 20, 19, 13, 2, 4, 30, 29]):
        inputs = {"input_ids": torch.tensor([ids[number % 2][:length]])}
        fresh = generate(world, inputs, logits_processor=[CitationBlocker(index)], max_new_tokens=8)
        assert generate(world, inputs, logits_processor=[blocker], max_new_tokens=8) == fresh
    # The same length as one more step would have had, but another text.
    blocker = CitationBlocker(index)
    generate(world, {"input_ids": torch.tensor([ids[1][:4]])}, logits_processor=[blocker], max_new_tokens=6)
    inputs = prompts(world, 10)
    fresh = generate(world, inputs, logits_processor=[CitationBlocker(index)])
    assert generate(world, inputs, logits_processor=[blocker]) == fresh


def test_a_prompt_that_is_a_row_seen_before_errs_towards_blocking(world):
    """A client that asks for one token at a time, and sends the text back."""
    tokenizer, ids, _ = world
    blocker = CitationBlocker(CitationIndex.build(ids, tokenizer))
    at_once = generate(world, prompts(world, 4), logits_processor=[CitationBlocker(blocker.index)])[0]

    def next_token(text):
        return generate(world, {"input_ids": torch.tensor([text])}, logits_processor=[blocker], max_new_tokens=1)[0]

    text = ids[0][:4]
    for _ in at_once:
        text = text + next_token(text)
    assert text[4:] == at_once
    assert next_token(ids[0][:9]) != [ids[0][9]]
    blocker.reset()
    assert next_token(ids[0][:9]) == [ids[0][9]]


def group_beams(model, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs):
    """Two groups of two beams, which call the processors as transformers' group beam search does: one after the
    other, each with its own rows."""
    groups = [input_ids.repeat(2, 1), input_ids.repeat(2, 1)]
    for step in range(generation_config.max_new_tokens):
        for number, rows in enumerate(groups):
            scores = logits_processor(rows, model(rows).logits[:, -1].log_softmax(dim=-1))
            taken = scores[:1].topk(2).indices[0] if step == 0 else scores.argmax(dim=-1)
            groups[number] = torch.cat([rows, taken[:, None]], dim=1).flip(0)  # beams change places
    return torch.cat(groups)


@pytest.mark.parametrize("on_host", [True, False])
def test_groups_of_beams(world, on_host, monkeypatch):
    monkeypatch.setattr(windows, "on_host", lambda tensor: on_host)
    tokenizer, ids, _ = world
    inputs = prompts(world, 4)
    settings_ = {"custom_generate": group_beams, "max_new_tokens": 24}
    assert violations(world, generate(world, inputs, **settings_)) > 20
    blocker = CitationBlocker(CitationIndex.build(ids, tokenizer))
    assert violations(world, generate(world, inputs, logits_processor=[blocker], **settings_)) == 0
    assert blocker.counters.banned > 2


def passages(world):
    """Prompts from the middle of the texts, none of which goes on with another, and what `generate` makes of each."""
    rows = [{"input_ids": torch.tensor([row[start : start + 4]])} for row in world[1] for start in (0, 6, 13)]
    index = CitationIndex.build(world[1], world[0])
    assert violations(world, [generate(world, row)[0] for row in rows]) > 30
    return index, rows, [generate(world, row, logits_processor=[CitationBlocker(index)])[0] for row in rows]


def test_threads_share_a_blocker(world):
    index, rows, alone = passages(world)
    blocker, ready = CitationBlocker(index), threading.Barrier(len(rows))

    def task(row):
        ready.wait()
        return [generate(world, row, logits_processor=[blocker])[0] for _ in range(3)]

    with ThreadPoolExecutor(len(rows)) as pool:
        together = list(pool.map(task, rows))
    assert together == [[answer] * 3 for answer in alone]
    assert violations(world, alone) == 0


def test_generations_that_take_turns(world):
    index, rows, alone = passages(world)
    blocker, texts = CitationBlocker(index), [row["input_ids"] for row in rows]
    with torch.no_grad():
        for _ in range(16):
            for number, text in enumerate(texts):
                token = blocker(text, world[2](text).logits[:, -1]).argmax(dim=-1, keepdim=True)
                texts[number] = torch.cat([text, token], dim=1)
    for text, answer in zip(texts, alone, strict=True):
        assert text[0, 4:].tolist()[: len(answer)] == answer


def test_continuous_batching_is_refused(world):
    tokenizer, ids, model = world
    blocker, prompt = CitationBlocker(CitationIndex.build(ids, tokenizer)), ids[0][:4]
    for processors in ([blocker], LogitsProcessorList([blocker])):
        with pytest.raises(HyperfitError, match="continuous batching drops logits processors, the citation blocker"):
            model.generate_batch([prompt], logits_processor=processors, max_new_tokens=8)
        with pytest.raises(HyperfitError, match=r"call generate\(\) without it \(and without"):
            model.generate(torch.tensor([prompt]), cache_implementation="paged", logits_processor=processors)
        with pytest.raises(HyperfitError, match="continuous batching drops"):
            model.generate(torch.tensor([prompt]), None, processors, cache_implementation="paged")
    with pytest.raises(HyperfitError, match="continuous batching drops"):
        _ = blocker.supports_continuous_batching
    assert model.generate_batch([]) == {}  # without a blocker as ever


def test_rows_that_cannot_be_blocked_warn(world, caplog):
    """The only token left is the one that would be banned: 1, 2, 4, ... times."""
    tokenizer, ids, _ = world
    blocker = CitationBlocker(CitationIndex.build(ids, tokenizer), include_prompt=True)
    banned = next(i for i in range(5, 20) if starts_word(tokenizer, ids[0][:i], ids[0][i]))
    for _ in range(5):
        scores = torch.full((1, 400), -INF)
        scores[0, ids[0][banned]] = 0.0
        blocker(torch.tensor([ids[0][:banned]]), scores)
        assert scores[0, ids[0][banned]] == 0.0
    assert blocker.counters.unblocked == 5
    assert [record.args for record in caplog.records] == [(1, 1), (2, 2), (4, 4)]
    assert "tokens were chosen without the citation blocker, since all others had probability zero" in caplog.text


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    calls=st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 4), st.integers(0, 3), st.booleans()), min_size=1, max_size=30
    )
)
def test_starts_of_rows_on_a_device_are_those_on_the_host(calls):
    """Calls of any shape over few ids, so that rows meet again."""
    host, device = RowStarts(), DeviceRowStarts(torch.device("cpu"))
    rows = torch.zeros((1, 0), dtype=torch.int64)
    for length, count_, token, goes_on in calls:
        if goes_on:
            rows = torch.cat([rows, torch.full((len(rows), 1), token)], dim=1)
        else:
            rows = torch.full((count_, length), token)
        assert device.of(rows).tolist() == host.of(rows)
        assert device.copy().of(rows).tolist() == host.copy().of(rows)


def test_starts_of_rows_by_hand(monkeypatch):
    starts = RowStarts()

    def of(*rows):
        return starts.of(torch.tensor(rows, dtype=torch.int64))

    assert of([7, 8], [1, 2]) == [2, 2]  # prompts
    assert of([1, 2, 3], [1, 2, 4]) == [2, 2]  # both beams follow the second row
    assert of([5, 5, 5]) == [3]  # another prompt
    assert of([1, 2, 4, 6], [9, 9, 9, 9]) == [2, 4]  # a row joins
    assert of([1, 2, 4], [7, 8, 1]) == [2, 2]  # drafted tokens were rejected
    assert of([7, 8, 1, 2, 3]) == [5]  # more than one token longer: a prompt
    long = list(range(40))
    assert [of(long[:30]), of(long[:31]), of(long)] == [[30], [30], [40]]
    monkeypatch.setattr(starts_module, "REMEMBERED_ROWS", 4)
    assert [of(long[:31]), of([0]), of([1]), of([2])] == [[30], [1], [1], [1]]
    assert of(long[:32]) == [30]
    assert [of([3]), of([4]), of([5]), of(long[:32])] == [[1], [1], [1], [30]]
    with pytest.raises(HyperfitError, match="2 rows in one call: the citation blocker keeps generations of 1 rows"):
        of([1], [2])


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
