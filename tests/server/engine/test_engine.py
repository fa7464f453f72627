"""The embedded engine gives the ids of single runs, whatever runs beside, for every kind of cache."""

import asyncio
import random

import pytest
import torch
from hyperfit_server.engine.cache import JoinPolicy
from hyperfit_server.engine.embedded import TransformersEngine
from hyperfit_server.engine.loading import load_engine
from hyperfit_server.engine.requests import Finished, Request, Sampling
from serving_world import EOS, alone, ask, fifty_words, ids_of, requests, running
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from hyperfit_eval.errors import HyperfitError


@pytest.fixture(scope="module")
def words():
    return fifty_words()


def test_by_hand(tiny_model, words):
    request = Request((5, 6, 7), Sampling(max_new_tokens=4))
    ids = list(request.prompt_ids)
    logprobs = []
    for _ in range(4):
        with torch.inference_mode():
            scores = torch.log_softmax(tiny_model(torch.tensor([ids])).logits[0, -1], dim=-1)
        ids.append(int(scores.argmax()))
        logprobs.append(float(scores.max()))

    async def main(engine):
        return [event async for event in engine.submit(request)]

    with running(tiny_model, words) as engine:
        *tokens, finished = asyncio.run(main(engine))
    assert ids_of(tokens) == ids[3:]
    assert [token.scored.logprob for token in tokens] == pytest.approx(logprobs, abs=1e-5)
    assert finished == Finished("length", "".join(f" w{i}" for i in ids[3:]))
    assert [token.scored.text for token in tokens] == [f" w{i}" for i in ids[3:]]
    assert engine.counters is None


def test_requests_that_join_and_leave_at_random_moments(tiny_model, words):
    asked = requests(40)
    delays = random.Random(1)

    async def one(engine, request):
        await asyncio.sleep(delays.random() * 0.3)
        tokens, finished = await engine.submit(request).whole()
        return ids_of(tokens), finished

    async def main(engine):
        return await asyncio.gather(*(one(engine, request) for request in asked))

    with running(tiny_model, words, max_batch=6) as engine:
        results = asyncio.run(main(engine))
    for request, (ids, finished) in zip(asked, results, strict=True):
        assert ids == alone(tiny_model, request)
        assert finished.reason == ("eos_token" if ids[-1] == EOS else "length")


OTHERS = {
    "sliding window": (
        JoinPolicy.WHEN_EMPTY,
        MistralForCausalLM,
        MistralConfig(
            vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, sliding_window=6, max_position_embeddings=300, initializer_range=0.5,
            bos_token_id=None, eos_token_id=EOS,
        ),
    ),
    "short convolutions": (
        JoinPolicy.EQUAL_LENGTHS,
        Lfm2ForCausalLM,
        Lfm2Config(
            vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=1, layer_types=["conv", "full_attention", "conv"], max_position_embeddings=300,
            initializer_range=0.5, bos_token_id=None, eos_token_id=EOS, pad_token_id=EOS,
        ),
    ),
    "learned positions": (
        JoinPolicy.ANY_TIME,
        GPT2LMHeadModel,
        GPT2Config(
            vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=300, initializer_range=0.5,
            bos_token_id=None, eos_token_id=EOS,
        ),
    ),
    "positions from the mask": (
        JoinPolicy.ANY_TIME,
        BloomForCausalLM,
        BloomConfig(
            vocab_size=50, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.5, bos_token_id=None,
            eos_token_id=EOS, pad_token_id=EOS,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_models_with_other_caches_and_positions(kind, words):
    joining, model_class, config = OTHERS[kind]
    torch.manual_seed(0)
    model = model_class(config).eval()
    asked = requests(10)
    with running(model, words, max_batch=4) as engine:
        assert engine._runner.join_policy is joining
        results = ask(engine, *asked)
        assert [ids_of(tokens) for tokens, _ in results] == [alone(model, request) for request in asked]
        long = Request((7,) * 40, Sampling(0), prompt_logprobs=True)
        [(_, finished)] = ask(engine, long)
    assert len(finished.prompt) == 40


def test_a_model_without_a_key_value_cache_is_refused(words):
    class Recurrent(torch.nn.Module):
        config = GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2)
        generation_config = config
        device = torch.device("cpu")

        def forward(self, input_ids, state=None): ...

    with pytest.raises(HyperfitError, match=r"Recurrent: the engine needs a decoder with a key-value cache"):
        TransformersEngine(Recurrent(), words, model_id="x")


def test_loading(tiny_checkpoint, tmp_path):
    with pytest.raises(HyperfitError, match=r"no citation_index.safetensors to block citations by; build it with"):
        load_engine(tiny_checkpoint)
    with pytest.raises(HyperfitError, match=r"nowhere: no tokenizer can be loaded"):
        load_engine(tmp_path / "nowhere")
    with pytest.raises(HyperfitError, match=r"dtype=int8: expected auto, float32, bfloat16 or float16"):
        load_engine(tiny_checkpoint, dtype="int8")
    engine = load_engine(tiny_checkpoint, without_index=True, max_batch=3)
    assert (engine.model_id, engine.max_batch, engine.index) == (tiny_checkpoint.name, 3, None)
    engine.close()
