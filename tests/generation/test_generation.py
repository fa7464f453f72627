"""Continuing and scoring: exact ids, no dependence on the batch, the model's own habits put aside."""

import copy
import math

import numpy as np
import pytest
import torch
from accelerate import cpu_offload

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.generation import Decoding, continue_ids, continue_texts, score_ids
from hyperfit_eval.generation.batching import in_batches
from hyperfit_eval.texts.contexts import Passage


def prompts(count, length=8, seed=0):
    return np.random.default_rng(seed).integers(1, 50, (count, length)).tolist()


def greedy_by_hand(model, prompt, count, forbidden):
    ids = list(prompt)
    for _ in range(count):
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1]
            logits[forbidden] = -math.inf
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


def test_greedy_continuations_equal_a_hand_written_loop(tiny_model):
    decoding = Decoding(new_tokens=12)
    got = continue_ids(tiny_model, prompts(3), decoding, batch_size=3)
    expected = [greedy_by_hand(tiny_model, p, 12, tiny_model.generation_config.eos_token_id) for p in prompts(3)]
    assert got == expected


def test_continuations_do_not_depend_on_the_batch_size(tiny_model):
    runs = [continue_ids(tiny_model, prompts(7), Decoding(20), batch_size=size) for size in (1, 3, 7)]
    assert runs[0] == runs[1] == runs[2]


def test_the_models_own_decoding_habits_are_put_aside_and_given_back(tiny_model):
    plain = continue_ids(tiny_model, prompts(2), Decoding(10))
    own = tiny_model.generation_config
    own.repetition_penalty, own.no_repeat_ngram_size = 5.0, 1
    try:
        assert continue_ids(tiny_model, prompts(2), Decoding(10)) == plain
        assert tiny_model.generation_config is own
    finally:
        own.repetition_penalty, own.no_repeat_ngram_size = 1.0, 0


def test_sampling_follows_its_seed(tiny_model):
    def sample(seed):
        return continue_ids(tiny_model, prompts(4), Decoding.top_p_baseline(16, seed=seed))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_logits_processors_are_called(tiny_model):
    def only_seven(ids, scores):
        scores = torch.full_like(scores, -math.inf)
        scores[:, 7] = 0.0
        return scores

    assert continue_ids(tiny_model, prompts(2), Decoding(3), logits_processor=only_seven) == [[7, 7, 7]] * 2


def test_bad_prompts_are_refused(tiny_model):
    with pytest.raises(HyperfitError, match=r"prompts of \[2, 3\] tokens, all must be of one length"):
        continue_ids(tiny_model, [[1, 2], [1, 2, 3]], Decoding(4))
    with pytest.raises(HyperfitError, match="the model has 300 positions, 407 are needed"):
        continue_ids(tiny_model, prompts(1), Decoding(400))
    assert continue_ids(tiny_model, [], Decoding(4)) == []


def test_scores_of_two_tokens_by_hand(tiny_model):
    score = score_ids(tiny_model, [[5, 9]], prefix=[0])[0]
    with torch.inference_mode():
        logits = tiny_model(torch.tensor([[0, 5]])).logits[0].double()
    p = torch.softmax(logits, -1).numpy()
    assert score.first_scored == 0
    np.testing.assert_allclose(score.nll, [-math.log(p[0, 5]), -math.log(p[1, 9])], rtol=1e-5)
    np.testing.assert_allclose(score.entropy_bits, -(p * np.log2(p)).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(score.top_mass[:, 1], np.sort(p, -1)[:, -3:].sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(score.top1, p.argmax(-1))
    places = [sorted(row, reverse=True).index(row[token]) + 1 for row, token in zip(p.tolist(), [5, 9], strict=True)]
    assert score.rank.tolist() == places
    assert score.perplexity() == pytest.approx(math.exp(score.nll.mean()))


def test_loss_equals_that_of_transformers(tiny_model):
    rows = prompts(5, length=40)
    ids = torch.tensor(rows)
    with torch.inference_mode():
        expected = tiny_model(input_ids=ids, labels=ids).loss.item()
    scores = score_ids(tiny_model, rows, batch_size=2)
    assert {len(score.nll) for score in scores} == {39}
    assert scores[0].first_scored == 1
    assert np.mean([score.nll.mean() for score in scores]) == pytest.approx(expected, rel=1e-5)


def test_context_losses_count_the_tokens_that_have_a_prediction(tiny_model):
    with_bos, without = (score_ids(tiny_model, prompts(1, 20), prefix=prefix)[0] for prefix in ([0], []))
    assert len(with_bos.context_nll(8)) == 8
    assert len(without.context_nll(8)) == 7


def test_passages_become_records_with_exact_ids(tiny_model, tiny_tokenizer):
    text = " ".join(["the", "cat", "sat", "on", "a", "mat"] * 60)
    passage = Passage("news-1", "news", None, text)
    header, [record] = continue_texts(tiny_model, tiny_tokenizer, [passage], name="tiny", texts="65c3")
    assert (header.model, header.texts, header.dtype, header.bos) == ("tiny", "65c3", "float32", True)
    assert header.decoding == {"method": "greedy", "new_tokens": 224} and header.blocker is None
    ids = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert record.context_ids + record.original_ids == ids[:256]
    assert (len(record.context_ids), len(record.generated_ids)) == (32, 224)
    assert record.generated_text == tiny_tokenizer.decode(record.generated_ids)
    assert record.original_text_at_128 == tiny_tokenizer.decode(ids[32:128])
    with pytest.raises(HyperfitError, match="short: 3 tokens, 256 are needed"):
        continue_texts(tiny_model, tiny_tokenizer, [Passage("short", "news", None, "the cat sat")])


def test_batches_are_halved_when_memory_runs_out():
    sizes, done = [], []

    def run(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return [item * 10 for item in batch]

    assert in_batches(range(5), 5, run, done.append) == [0, 10, 20, 30, 40]
    assert sizes == [5, 2, 2, 1]
    assert done == [2, 2, 1]


def test_one_text_too_many_is_one_line():
    def run(batch):
        raise torch.OutOfMemoryError

    with pytest.raises(HyperfitError, match="a batch of one text does not fit into the device's memory"):
        in_batches([1, 2], 2, run)


def test_a_dispatched_model_gives_what_the_plain_one_gives(tiny_model):
    # accelerate keeps the weights on the device "meta" until they are used, as under parallelize=True.
    offloaded = cpu_offload(copy.deepcopy(tiny_model), execution_device="cpu")
    assert offloaded.device.type == "meta"
    prompts = [[5, 6, 7], [8, 9, 10]]
    assert continue_ids(offloaded, prompts, Decoding(8)) == continue_ids(tiny_model, prompts, Decoding(8))
    dispatched, plain = (score_ids(model, prompts, prefix=[0]) for model in (offloaded, tiny_model))
    assert [score.nll.tolist() for score in dispatched] == [score.nll.tolist() for score in plain]


def test_ids_beyond_the_embeddings_are_refused(tiny_model):
    message = "the tokenizer gives ids up to 50, the model embeds 50; give a model with its own tokenizer"
    with pytest.raises(HyperfitError, match=message):
        continue_ids(tiny_model, [[5, 50]], Decoding(8))
    with pytest.raises(HyperfitError, match=message):
        score_ids(tiny_model, [[5, 50]])
