"""What the tests of the embedded engine share: a tokenizer, an engine, requests, and single runs to compare with."""

import asyncio
import random
from contextlib import contextmanager
from functools import cache

import torch
from hyperfit_server.engine.embedded import TransformersEngine
from hyperfit_server.engine.requests import Request, Sampling
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

EOS = 0


@cache
def fifty_words():
    """A tokenizer of 50 words, as many as the tiny model knows."""
    vocabulary = {"<|endoftext|>": EOS, "<unk>": 1, **{f"w{i}": i for i in range(2, 50)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", unk_token="<unk>")


@contextmanager
def running(model, tokenizer, index=None, **limits):
    engine = TransformersEngine(model, tokenizer, index, model_id="tiny", **limits)
    try:
        yield engine
    finally:
        engine.close()
        assert not engine.alive


def ids_of(tokens):
    return [token.scored.id for token in tokens]


def ask(engine, *requests):
    """All at the same time; the results in order."""

    async def main():
        generations = [engine.submit(request) for request in requests]
        return await asyncio.gather(*(generation.whole() for generation in generations))

    return asyncio.run(main())


def alone(model, request, **more):
    """The ids that `generate` gives for it."""
    ids = torch.tensor([request.prompt_ids])
    config = {"max_new_tokens": request.sampling.max_new_tokens, "do_sample": False, "pad_token_id": EOS} | more
    with torch.inference_mode():
        return model.generate(ids, attention_mask=torch.ones_like(ids), **config)[0, ids.shape[1] :].tolist()


def prompt(rng, longest=20):
    return tuple(rng.choices(range(1, 50), k=rng.randint(1, longest)))


def requests(count, seed=0, longest=20, **sampling):
    rng = random.Random(seed)
    return [
        Request(prompt(rng, longest), Sampling(max_new_tokens=rng.randint(1, 25), **sampling)) for _ in range(count)
    ]


def long_request(seed=0):
    return Request((5 + seed, 6), Sampling(120, 120))


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to be")
