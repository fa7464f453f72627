"""Tokens per second of the generation server beside bare `model.generate`; and a load test.

    python scripts/bench_server.py                    # the demo model, some minutes
    python scripts/bench_server.py --model runs/book  # any checkpoint with a citation index
    python scripts/bench_server.py --load             # 1,000 requests, a third of the clients cut off midway

Every round measures each way once with blocking off and once with blocking on, the order of the two by
turns; the table has medians over the rounds. The server runs in a process of its own on loopback, on the same
cores as its clients.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from bench_client import metrics, post, process_state, server
from hyperfit_server.engine.embedded import TransformersEngine
from hyperfit_server.engine.loading import load_engine
from hyperfit_server.engine.requests import Request, Sampling
from transformers import ContinuousBatchingConfig, GenerationConfig

from hyperfit_eval.blocking import CitationBlocker
from hyperfit_eval.texts.contexts import demo_texts
from hyperfit_eval.tokenizers import bos_ids

PROMPT_TOKENS = 32
WAYS = (
    "model.generate, one batch",
    "the engine, requests at once",
    "the server, whole answers",
    "the server, streaming",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hub id; by default the demo model with the index of its corpus")
    parser.add_argument("--index", help="citation index; by default the checkpoint's own")
    parser.add_argument("--clients", type=int, default=32, help="at a time (default 32)")
    parser.add_argument("--new-tokens", type=int, default=64, help="of each request (default 64)")
    parser.add_argument("--rounds", type=int, default=5, help="measured, after one more (default 5)")
    parser.add_argument("--alternatives", action="store_true", help="only what else could be under the server")
    parser.add_argument("--load", action="store_true", help="the load test instead")
    parser.add_argument("--requests", type=int, default=1000, help="of the load test (default 1000)")
    args = parser.parse_args()
    engine = load_engine(args.model, args.index, dtype="float32", max_batch=args.clients)
    try:
        if args.load:
            asyncio.run(load_test(engine, args))
        else:
            if not args.alternatives:
                side_by_side(engine, args)
            alternatives(engine, args)
    finally:
        engine.close()


def side_by_side(engine: TransformersEngine, args: argparse.Namespace) -> None:
    """Print all ways of generating the same tokens in one table."""
    prompts = chosen_prompts(engine, args.clients)
    speeds: dict[tuple[str, bool], list[float]] = {(way, on): [] for way in WAYS for on in (False, True)}
    with server(args.model, args.index, "--max-batch", str(args.clients)) as (port, _):
        for number in range(args.rounds + 1):
            for way in WAYS:
                for blocking in (True, False) if number % 2 else (False, True):
                    speed = tokens_per_second(way, engine, port, prompts, args.new_tokens, blocking)
                    if number:  # the first round warms up
                        speeds[way, blocking].append(speed)
    print(
        f"\n{engine.model_id}, {engine.model.num_parameters() / 1e6:.1f}M parameters, float32, "
        f"{torch.get_num_threads()} threads; {args.clients} at a time, {PROMPT_TOKENS} prompt tokens and "
        f"{args.new_tokens} new ones; median of {args.rounds} rounds, tokens per second:\n"
    )
    print("| | blocking off | of generate | blocking on | of generate | blocking costs |")
    print("|---|---|---|---|---|---|")
    for way in WAYS:
        cells = []
        for on in (False, True):
            ratios = [a / b for a, b in zip(speeds[way, on], speeds[WAYS[0], on], strict=True)]
            cells += [f"{statistics.median(speeds[way, on]):.0f}", f"{statistics.median(ratios):.2f}"]
        costs = [1 - on / off for off, on in zip(speeds[way, False], speeds[way, True], strict=True)]
        print(f"| {way} | {' | '.join(cells)} | {statistics.median(costs):+.1%} |")
    print(f"\n{share_of_a_step(engine, prompts, args.new_tokens)}")


def share_of_a_step(engine: TransformersEngine, prompts: Sequence[Sequence[int]], new: int) -> str:
    """Share of the blocker in the engine's time, by the clock inside: free of the noise between two runs."""
    blocker: Any = engine.blocker
    inside = [0.0, 0]
    if blocker is None:
        return "no index, nothing to block"
    ban = blocker.ban_

    def timed_ban(*args: Any) -> set[int]:
        start = time.perf_counter()
        try:
            return ban(*args)
        finally:
            inside[0] += time.perf_counter() - start
            inside[1] += 1

    blocker.ban_ = timed_ban
    try:
        seconds = timed(lambda: run_engine(engine, [(prompt, new) for prompt in prompts], blocking=True))
    finally:
        blocker.ban_ = ban
    micros, step = inside[0] / inside[1] * 1e6, seconds / inside[1] * 1e3
    return f"Inside the engine the blocker takes {micros:.0f} us of a step of {step:.1f} ms: {micros / step / 10:.2f}%."


def alternatives(engine: TransformersEngine, args: argparse.Namespace) -> None:
    """Print what else could have been under the server, without blocking: equal requests, and mixed ones."""
    prompts = chosen_prompts(engine, args.clients)
    rng = random.Random(0)
    mixed = [
        (list(prompt[: rng.randint(8, len(prompt))]), rng.randint(8, args.new_tokens))
        for prompt in [*prompts, *prompts]
    ]
    equal = [(list(prompt), args.new_tokens) for prompt in prompts]
    ways: dict[str, Callable[[list[tuple[list[int], int]]], None]] = {
        "the engine's step loop": lambda work: run_engine(engine, work, blocking=False),
        "batches by model.generate": lambda work: generate_in_batches(engine.model, work, args.clients),
        "ContinuousBatchingManager": lambda work: continuous_batching(engine.model, work),
    }
    print(f"\nThe same, and {len(mixed)} requests of 8 to {PROMPT_TOKENS} and 8 to {args.new_tokens} tokens:\n")
    print("| | equal lengths | mixed lengths |\n|---|---|---|")
    for name, way in ways.items():
        cells = []
        for work in (equal, mixed):
            seconds = min(timed(lambda way=way, work=work: way(work)) for _ in range(2))  # type: ignore[misc]
            cells.append(f"{sum(new for _, new in work) / seconds:.0f}")
        print(f"| {name} | {' | '.join(cells)} |")


def tokens_per_second(
    way: str, engine: TransformersEngine, port: int, prompts: Sequence[Sequence[int]], new: int, blocking: bool
) -> float:
    """Generate `new` tokens after each prompt, all at once."""
    if way == WAYS[0]:
        seconds = timed(lambda: generate(engine, prompts, new, blocking))
    elif way == WAYS[1]:
        seconds = timed(lambda: run_engine(engine, [(prompt, new) for prompt in prompts], blocking))
    else:
        bodies = [
            {"prompt": list(prompt), "max_tokens": new, "min_tokens": new, "temperature": 0, "blocking": blocking}
            for prompt in prompts
        ]
        for body in bodies:
            body |= {"model": engine.model_id, "stream": way == WAYS[3]}
        seconds = timed(lambda: asyncio.run(post_all(port, bodies)))
    return len(prompts) * new / seconds


def generate(
    engine: TransformersEngine, prompts: Sequence[Sequence[int]], new: int, blocking: bool, least: int | None = None
) -> list[list[int]]:
    """Bare `model.generate`, greedy, prompts of one length in one batch; `new` tokens each, or at least `least`."""
    ids = torch.tensor([list(prompt) for prompt in prompts])
    processors = [CitationBlocker(engine.index)] if blocking and engine.index is not None else []
    out = engine.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=greedy(engine.model, new, least),
        logits_processor=processors,
    )
    return out[:, ids.shape[1] :].tolist()


def greedy(model: Any, new: int, least: int | None = None) -> GenerationConfig:
    """Nothing of the model's own settings but the end of text."""
    eos = model.generation_config.eos_token_id
    least = new if least is None else least
    return GenerationConfig(max_new_tokens=new, min_new_tokens=least, do_sample=False, eos_token_id=eos, pad_token_id=0)


def run_engine(engine: TransformersEngine, work: Sequence[tuple[Sequence[int], int]], blocking: bool) -> None:
    """All requests at the same time, without HTTP."""

    async def run() -> None:
        requests = [Request(tuple(ids), Sampling(new, new), blocking) for ids, new in work]
        await asyncio.gather(*(engine.submit(request).whole() for request in requests))

    asyncio.run(run())


def generate_in_batches(model: Any, work: list[tuple[list[int], int]], batch: int) -> None:
    """As they come, padded; a batch ends with its longest request."""
    for first in range(0, len(work), batch):
        part = work[first : first + batch]
        longest = max(len(ids) for ids, _ in part)
        ids = torch.tensor([[0] * (longest - len(ids)) + ids for ids, _ in part])
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _ in part])
        config = greedy(model, max(new for _, new in part))
        model.generate(ids, attention_mask=mask, generation_config=config)


def continuous_batching(model: Any, work: list[tuple[list[int], int]]) -> None:
    """Transformers' own continuous batching; it has no min_new_tokens, so nothing may end a text."""
    settings = ContinuousBatchingConfig(page_size=32, num_blocks=1024, max_batch_tokens=1024)
    config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=1)
    with model.continuous_batching_context_manager(
        generation_config=config, continuous_batching_config=settings, block=True, timeout=5, warmup=False
    ) as manager:
        for ids, new in work:
            manager.add_request(ids, max_new_tokens=new)
        finished = 0
        while finished < len(work):
            result = manager.get_result(timeout=1)
            finished += result is not None and result.is_finished()


def chosen_prompts(engine: TransformersEngine, count: int) -> list[list[int]]:
    """The beginnings of the demo texts, BOS first where there is one; repeated if more are wanted."""
    prompts = []
    for passage in demo_texts().passages:
        ids = bos_ids(engine.tokenizer) + list(engine.tokenizer(passage.text, add_special_tokens=False)["input_ids"])
        prompts.append(ids[:PROMPT_TOKENS])
    return [prompts[number % len(prompts)] for number in range(count)]


async def post_all(port: int, bodies: Sequence[dict[str, Any]]) -> None:
    """One client for each body; every answer must be whole."""
    for body, (status, answer) in zip(bodies, await asyncio.gather(*(post(port, b) for b in bodies)), strict=True):
        whole = b"[DONE]" in answer if body["stream"] else b'"finish_reason":"length"' in answer
        if status != 200 or not whole:
            raise SystemExit(f"status {status}: {answer[-300:]!r}")


# The load test


@dataclass
class Outcome:
    """Outcome for the clients."""

    whole: int = 0
    cut: int = 0
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    """Other ids than a single run in float32."""


async def load_test(engine: TransformersEngine, args: argparse.Namespace) -> None:
    """1,000 requests, 64 at a time, a third of the clients going away midway."""
    rng = random.Random(0)
    longest = 48
    texts = [engine.tokenizer.decode(p, skip_special_tokens=True) for p in chosen_prompts(engine, 12)]
    ids = [bos_ids(engine.tokenizer) + engine.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    expected = {
        (number, on): generate(engine, [prompt], longest, on, least=0)[0]
        for number, prompt in enumerate(ids)
        for on in (False, True)
    }
    outcome = Outcome()
    places = asyncio.Semaphore(2 * args.clients)

    async def client(port: int) -> None:
        number, on, new = rng.randrange(len(texts)), rng.random() < 0.5, rng.randint(8, longest)
        cut, streaming = rng.random() < 1 / 3, rng.random() < 0.5
        parameters = {"max_new_tokens": new, "details": True, "blocking": on}
        body = {"inputs": texts[number], "parameters": parameters, "stream": streaming}
        after = {"bytes" if streaming else "seconds": rng.random() * (3000 if streaming else 0.5)} if cut else {}
        async with places:
            try:
                status, answer = await post(port, body, "/", after)
            except OSError as error:
                outcome.errors.append(str(error))
                return
        if cut:
            outcome.cut += 1
        elif status != 200:
            outcome.errors.append(f"{status}: {answer[:200]!r}")
        else:
            outcome.whole += 1
            outcome.wrong += ids_in(answer, streaming) != expected[number, on][:new]

    with server(args.model, args.index, "--max-batch", str(args.clients)) as (port, process):
        await asyncio.gather(*(client(port) for _ in range(200)))
        outcome = Outcome()  # the clients before these were for warming up
        before, started = process_state(process), time.monotonic()
        await asyncio.gather(*(client(port) for _ in range(args.requests // 2)))
        midway = process_state(process)
        await asyncio.gather(*(client(port) for _ in range(args.requests - args.requests // 2)))
        seconds = time.monotonic() - started
        await asyncio.sleep(1)
        after, idle = process_state(process), metrics(port)
    print(f"{args.requests} requests, {2 * args.clients} at a time, in {seconds:.0f} s:")
    print(f"  whole answers {outcome.whole}, cut off by the client {outcome.cut}, errors {len(outcome.errors)}")
    print(f"  answers with other ids than a single run in float32: {outcome.wrong}")
    for name, state in (("before, after 200 others", before), ("halfway", midway), ("after", after)):
        print(f"  {name}: {state[0]:.0f} MiB, {state[1]} threads")
    print(f"  left in the batch {idle['hyperfit_batch_size']:.0f}, in the queue {idle['hyperfit_queue_size']:.0f}")
    for error in outcome.errors[:5]:
        print(f"  {error}")


def ids_in(answer: bytes, streaming: bool) -> list[int]:
    """The generated ids of a TGI answer."""
    if not streaming:
        body = json.loads(answer)
        return [token["id"] for token in (body[0] if isinstance(body, list) else body)["details"]["tokens"]]
    events = [line[5:] for line in answer.split(b"\n") if line.startswith(b"data:")]
    return [json.loads(event)["token"]["id"] for event in events]


def timed(action: Callable[[], Any]) -> float:
    """Seconds that `action` took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
