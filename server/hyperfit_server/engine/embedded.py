"""The embedded engine: one thread runs a transformers model for all requests, any event loop asks for them."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from hyperfit_eval.blocking.windows import WindowBlocker, check_vocabulary
from hyperfit_eval.citation import CitationIndex, Counters
from hyperfit_eval.errors import HyperfitError

from .cache import JoinPolicy
from .delivery import Outbox, PendingGeneration
from .requests import Failed, Overloaded, Request
from .row import Row
from .runner import MAX_LOGITS, Limits, Runner, first_line, is_out_of_memory
from .sampling import check_sampling
from .text import TokenTexts

log = logging.getLogger(__name__)


class TransformersEngine:
    """Many generations at a time on one model (see `requests.Engine`).

    All requests go through one step loop with one key-value cache, which they join and leave at every step.
    A request's tokens do not depend on what runs beside it, up to the rounding of its logits.

    Args:
        model: a transformers causal LM, on its device, in eval mode.
        index: of the citation blocker; None to block nothing.
        model_id: the name under which it is told to clients.
        max_batch: requests that run at a time.
        max_queue: requests that wait beyond those; more are refused.
        max_input_tokens: of one prompt; by default one less than `max_total_tokens`.
        max_total_tokens: prompt and new tokens of one request; by default the model's positions, at most 4096.
        max_batch_tokens: places in the cache, rows times the longest row; by default enough for `max_batch`
            requests of 1024 tokens, and for one of `max_total_tokens`.
        max_overlap_tokens, include_prompt: see `RowBlocker`.
    Raises:
        HyperfitError: a model that cannot be run so, or limits that do not fit together.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        index: CitationIndex | None = None,
        *,
        model_id: str,
        max_batch: int = 32,
        max_queue: int = 128,
        max_input_tokens: int | None = None,
        max_total_tokens: int | None = None,
        max_batch_tokens: int | None = None,
        max_overlap_tokens: int | None = None,
        include_prompt: bool = False,
    ) -> None:
        config = model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None) or 4096
        self.model_id = model_id
        self.model, self.tokenizer, self.index = model, tokenizer, index
        self.vocab_size: int = config.vocab_size
        self.max_batch, self.max_queue = max_batch, max_queue
        self.max_total_tokens: int = max_total_tokens or min(positions, 4096)
        self.max_input_tokens: int = max_input_tokens or self.max_total_tokens - 1
        self.max_batch_tokens: int = max_batch_tokens or max(self.max_total_tokens, 1024 * max_batch)
        self._check_limits(positions)
        self._texts = TokenTexts(tokenizer)
        self.blocker: WindowBlocker | None = None
        if index is not None:
            check_vocabulary(index, self.vocab_size)
            self.blocker = WindowBlocker(index, max_overlap_tokens)
        self._include_prompt = include_prompt
        limits = Limits(max_batch, self.max_batch_tokens)
        self._runner = Runner(model, eos_ids_of(model, tokenizer), self.blocker, limits)
        self._waiting: deque[Row] = deque()
        self._generations: dict[Row, PendingGeneration] = {}
        self._changed = threading.Condition()
        self._closing = self._aborting = False
        self._outbox = Outbox()
        self._thread = threading.Thread(target=self._run, name="hyperfit-engine", daemon=True)
        self._thread.start()

    @property
    def counters(self) -> Counters | None:
        """Counts of the citation blocker since the start; None without an index."""
        return self.blocker.counters if self.blocker else None

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._runner.rows)

    @property
    def queued(self) -> int:
        """Requests that wait for a place in it."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether it works: false once it was drained or closed."""
        return self._thread.is_alive()

    def submit(self, request: Request) -> PendingGeneration:
        """Queue a request; from the event loop that will wait for it.

        Raises: Overloaded; Failed if the engine has stopped; HyperfitError for a request that can never be served.
        """
        self._check(request)
        row = Row(request, self._texts, self._runner.device, self._include_prompt)
        generation = PendingGeneration(lambda: self._cancel(row))
        with self._changed:
            if self._closing:
                raise Overloaded("the server is shutting down; send the request to another one")
            if not self.alive:
                raise Failed("the engine has stopped; restart the server")
            if len(self._generations) >= self.max_batch + self.max_queue:
                raise Overloaded(f"{self.max_batch} requests run and {self.max_queue} wait; try again later")
            self._generations[row] = generation
            self._waiting.append(row)
            self._changed.notify()
        return generation

    async def drain(self) -> None:
        """Take no more requests, finish what was accepted, stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def close(self) -> None:
        """Stop now; what is under way fails."""
        with self._changed:
            self._closing = self._aborting = True
            self._changed.notify()
        self._thread.join()

    def _check_limits(self, positions: int) -> None:
        if min(self.max_batch, self.max_queue + 1) < 1:
            raise HyperfitError(
                f"max_batch={self.max_batch}, max_queue={self.max_queue}: expected 1 and 0 or more requests"
            )
        if not 0 < self.max_input_tokens <= self.max_total_tokens <= positions:
            raise HyperfitError(
                f"max_input_tokens={self.max_input_tokens}, max_total_tokens={self.max_total_tokens}: expected "
                f"input <= total <= {positions}, the positions of the model"
            )
        if self.max_batch_tokens < self.max_total_tokens:
            raise HyperfitError(
                f"max_batch_tokens={self.max_batch_tokens}: one request may need {self.max_total_tokens} "
                "(max_total_tokens); raise the one or lower the other"
            )

    def _check(self, request: Request) -> None:
        """Raises: HyperfitError for a request that can never be served."""
        check_sampling(request.sampling)
        prompt, new = len(request.prompt_ids), request.sampling.max_new_tokens
        if not prompt:
            raise HyperfitError("the prompt has no tokens; write a text, or use a tokenizer with a BOS token")
        if prompt > self.max_input_tokens:
            raise HyperfitError(
                f"the prompt has {prompt} tokens, at most {self.max_input_tokens} are read; shorten or truncate it"
            )
        if prompt + new > self.max_total_tokens:
            raise HyperfitError(
                f"{prompt} prompt tokens and max_new_tokens={new} are {prompt + new} together, at most "
                f"{self.max_total_tokens} are possible; ask for {max(0, self.max_total_tokens - prompt)} or fewer"
            )
        smallest, largest = min(request.prompt_ids), max(request.prompt_ids)
        if smallest < 0 or largest >= self.vocab_size:
            wrong = smallest if smallest < 0 else largest
            raise HyperfitError(f"token id {wrong} in the prompt: the model has ids from 0 to {self.vocab_size - 1}")
        if not 0 <= request.top_n_tokens <= self.vocab_size:
            raise HyperfitError(f"top_n_tokens={request.top_n_tokens}: expected 0 to {self.vocab_size}")
        whole = self._runner.join_policy is not JoinPolicy.ANY_TIME and request.prompt_logprobs
        if whole and prompt * self.vocab_size > MAX_LOGITS:
            raise HyperfitError(
                f"the prompt has {prompt} tokens, at most {MAX_LOGITS // self.vocab_size} can be scored with this "
                "model, whose cache cannot be filled part by part; shorten it"
            )

    def _cancel(self, row: Row) -> None:
        with self._changed:
            row.cancelled = True
            self._generations.pop(row, None)
            if row in self._waiting:
                self._waiting.remove(row)

    def _run(self) -> None:
        """The thread: turns until it is told to stop."""
        try:
            with torch.inference_mode():
                while self._wait():
                    self._turn()
        finally:
            self._fail(list(self._generations), "the server has stopped")
            self._runner.clear()
            self._outbox.flush()

    def _wait(self) -> bool:
        """Until there is something to do; False when there never will be."""
        with self._changed:
            while not (self._waiting or self._runner.rows or self._closing):
                self._outbox.flush()
                self._changed.wait()
            return bool(self._waiting or self._runner.rows) and not self._aborting

    def _turn(self) -> None:
        """Let rows leave and join, then one token for all."""
        runner = self._runner
        self._attempt(lambda: runner.drop([row for row in runner.rows if row.cancelled]), [])
        with self._changed:
            newcomers = runner.admit(self._waiting)
            for row in newcomers:
                self._generations[row].started()
        groups = runner.groups(newcomers)
        while groups:
            group = groups.pop(0)
            if not self._attempt(lambda group=group: runner.start(group), group):  # type: ignore[misc]
                self._put_back([row for rest in groups for row in rest])
                return
        if runner.rows:
            self._attempt(runner.step, [])

    def _attempt(self, action: Callable[[], None], newcomers: Sequence[Row]) -> bool:
        """Run something that fills the cache; False if memory ran out and the batch must be formed anew."""
        runner = self._runner
        try:
            action()
            return True
        except Exception as error:
            # Whatever went wrong may have left the cache half written.
            rows = [row for row in dict.fromkeys([*runner.clear(), *newcomers]) if not row.ended]
            if is_out_of_memory(error):
                self._halve(rows)
                return False
            log.exception("a step of %d requests failed", len(rows))
            self._fail(rows, f"the model failed: {type(error).__name__}: {first_line(error)}")
            return True
        finally:
            self._tell()

    def _halve(self, rows: Sequence[Row]) -> None:
        """Memory ran out with `rows`: go on with half of them at a time. Their tokens so far are kept."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) <= 1:
            log.error("a request alone does not fit into memory")
            self._fail(rows, "the request does not fit into the device's memory; make it shorter")
            return
        self._runner.limits = self._runner.limits._replace(rows=len(rows) // 2)
        log.warning("out of memory with %d requests; from now on %d at a time", len(rows), len(rows) // 2)
        self._put_back(rows)

    def _put_back(self, rows: Sequence[Row]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed([row for row in rows if not row.cancelled]))

    def _tell(self) -> None:
        """Hand over what the last step gave."""
        told, self._runner.told = self._runner.told, []
        urgent = False
        for row, token in told:
            generation = self._generations.get(row)
            if generation is None:  # cancelled
                continue
            urgent |= row.generated == 1 or row.ended
            if token is not None:
                self._outbox.put(generation, token)
            if row.failed is not None:
                self._fail([row], f"the model failed: {row.failed}")
            elif row.finished is not None:
                self._outbox.put(generation, row.finished)
                self._generations.pop(row, None)
        self._outbox.flush(urgent)

    def _fail(self, rows: Sequence[Row], why: str) -> None:
        for row in rows:
            generation = self._generations.pop(row, None)
            if generation is not None:
                self._outbox.put(generation, Failed(why))


def eos_ids_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end a text: of the model's generation_config, which may name several, and of the tokenizer."""
    named = model.generation_config.eos_token_id
    ids = {named} if isinstance(named, int) else set(named or ())
    return frozenset(ids | {tokenizer.eos_token_id}) - {None}
