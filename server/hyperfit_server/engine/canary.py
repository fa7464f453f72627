"""Does the citation blocker really work in this engine? Asked by generating, not by reading settings.

Every engine has ways to silently skip a logits processor. So before a server says that it is
ready it continues the beginnings of known training texts twice, with blocking on and off.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.citation.verbatim import verbatim_copies

from .requests import Engine, Request, Sampling

Generate = Callable[[Sequence[int], bool], Awaitable[Sequence[int]]]
"""From prompt ids, and whether to block, to the generated ids, greedily."""

PREFIXES = 16
PREFIX_TOKENS = 32
"""Length of the paper's contexts (Section 4)."""
NEW_TOKENS = 32
"""The first 5 can only be matched, not blocked: the prompt is not part of the history."""
_AT_A_TIME = 8


@dataclass(frozen=True)
class CanaryReport:
    """How often training texts were continued into a token that the blocker bans."""

    checked: int
    """Training prefixes, each continued with blocking on and off."""
    recited_on: int
    """With blocking on: must be 0."""
    recited_off: int
    """With blocking off: where it is 0 the canary proves nothing, since there was nothing to block."""

    @property
    def bypassed(self) -> bool:
        """The blocker does not work: the server must not become ready."""
        return self.recited_on > 0

    @property
    def proven(self) -> bool:
        """The blocker was seen to work."""
        return not self.bypassed and self.recited_off > 0

    def line(self) -> str:
        """One line for a log."""
        counts = (
            f"{self.checked} training texts continued: recited {self.recited_off} times with blocking off, "
            f"{self.recited_on} with blocking on"
        )
        if self.bypassed:
            return f"the citation blocker is bypassed: {counts}"
        if not self.proven:
            return f"the canary proves nothing, since the model does not recite: {counts}"
        return f"the citation blocker works: {counts}"


def training_prefixes(
    index: CitationIndex, count: int = PREFIXES, tokens: int = PREFIX_TOKENS, seed: int | None = None
) -> list[list[int]]:
    """The beginnings of sequences of the corpus, each with something left to recite.

    Args:
        tokens: of a prefix; fewer where a sequence is shorter than twice that.
        seed: of the draw. None draws others each time: an index that holds what an earlier canary asked for, and
            nothing else, does not pass.
    """
    lengths = [len(row) for row in index.sequences()]
    long_enough = [number for number, length in enumerate(lengths) if length > 2 * index.ngram] or range(len(lengths))
    places = np.sort(np.random.default_rng(seed).permutation(len(long_enough))[:count])
    rows = [index.sequence(long_enough[place]) for place in places]
    return [row[: max(1, min(tokens, len(row) // 2))].tolist() for row in rows]


def recited(index: CitationIndex, generated: Sequence[int]) -> bool:
    """Does a token continue a matched n-gram of generated ids and start a word?"""
    return verbatim_copies(index, [generated]).citations > 0


async def run_canary(index: CitationIndex, generate: Generate, prefixes: int = PREFIXES) -> CanaryReport:
    """Continue training texts with blocking on and off.

    Args:
        index: the one that the engine blocks by.
        generate: the way that clients' requests take.
    """
    places = asyncio.Semaphore(_AT_A_TIME)

    async def recites(prompt: list[int], blocking: bool) -> bool:
        async with places:
            return recited(index, await generate(prompt, blocking))

    prompts = training_prefixes(index, prefixes)
    on = asyncio.gather(*(recites(prompt, True) for prompt in prompts))
    off = asyncio.gather(*(recites(prompt, False) for prompt in prompts))
    return CanaryReport(len(prompts), sum(await on), sum(await off))


def generate_with(engine: Engine, new_tokens: int = NEW_TOKENS) -> Generate:
    """`generate` for `run_canary`, through the engine's queue like every other request."""
    room = engine.max_total_tokens

    async def generate(prompt_ids: Sequence[int], blocking: bool) -> list[int]:
        wanted = min(new_tokens, room - len(prompt_ids))
        # A text that ends early recites less: EOS waits.
        sampling = Sampling(max_new_tokens=wanted, min_new_tokens=wanted)
        tokens, _ = await engine.submit(Request(tuple(prompt_ids), sampling, blocking=blocking)).whole()
        return [token.scored.id for token in tokens]

    return generate
