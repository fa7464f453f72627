"""The model and the batch that runs on it: rows join and leave at every step."""

import inspect
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from hyperfit_eval.blocking.windows import WindowBlocker
from hyperfit_eval.errors import HyperfitError

from .cache import JoinPolicy, RunningCache, join_policy_of, new_cache, without
from .requests import Token
from .row import Row, TopTokens
from .sampling import choose, has_penalties

log = logging.getLogger(__name__)

PREFILL_TOKENS = 4096
"""Prompt tokens in one forward pass, padding included; longer prompts are read in several."""
MAX_LOGITS = 2**26
"""Numbers in the logits of one pass while prompts are scored: 256 MiB in float32."""


class Limits(NamedTuple):
    """Limits of the batch."""

    rows: int
    tokens: int
    """Rows times the columns of the longest, counted with all that they may generate."""


class Runner:
    """Runs a causal language model over a changing set of rows. For one thread.

    Attributes:
        rows: under way, in the order of the cache's rows.
        told: what came of them and was not yet taken away: each with its new token, or None where it ended without.
        join_policy: when others may join them.
        limits: of the batch; made smaller when memory runs out.
    """

    def __init__(self, model: Any, eos_ids: frozenset[int], blocker: WindowBlocker | None, limits: Limits) -> None:
        accepted = inspect.signature(model.forward).parameters
        if model.config.is_encoder_decoder or "past_key_values" not in accepted:
            raise HyperfitError(
                f"{type(model).__name__}: the engine needs a decoder with a key-value cache (past_key_values); "
                "choose a causal language model"
            )
        self.model, self.eos_ids, self.blocker, self.limits = model, eos_ids, blocker, limits
        self.device: torch.device = model.device
        self.rows: list[Row] = []
        self.told: list[tuple[Row, Token | None]] = []
        self.join_policy = join_policy_of(model)
        self._cache: RunningCache | None = None
        self._accepted = set(accepted)
        self._eos = torch.tensor(sorted(eos_ids), dtype=torch.int64, device=self.device)

    def admit(self, waiting: deque[Row]) -> list[Row]:
        """Take from `waiting`, first come first served, the rows that may join now."""
        if self.rows and self.join_policy is not JoinPolicy.ANY_TIME:
            return []
        taken: list[Row] = []
        longest = max((row.total_tokens for row in self.rows), default=0)
        while waiting:
            row, rows = waiting[0], len(self.rows) + len(taken) + 1
            longest = max(longest, row.total_tokens)
            # A row alone always fits: the engine accepts none that is too long.
            if rows > 1 and (rows > self.limits.rows or rows * longest > self.limits.tokens):
                break
            if taken and self.join_policy is JoinPolicy.EQUAL_LENGTHS and len(row.ids) != len(taken[0].ids):
                break
            taken.append(waiting.popleft())
        return taken

    def start(self, rows: Sequence[Row]) -> None:
        """Read prompts that belong together (see `groups`), choose their first tokens, let them join."""
        logits, cache = self._read(rows)
        wanting = [number for number, row in enumerate(rows) if row.sampling.max_new_tokens]
        for row in rows:
            if not row.sampling.max_new_tokens:
                row.finish("length")
                self.told.append((row, None))
        self._next([rows[number] for number in wanting], logits[wanting])
        gone = {number for number, row in enumerate(rows) if row.ended}
        if len(gone) == len(rows):
            return
        order = without(len(rows), gone)
        if gone:
            cache.keep(order)
        if self._cache is None:
            self._cache = cache
        else:
            self._cache.join(cache)
        self.rows += [rows[number] for number in order]

    def groups(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Which of the admitted rows are read together: those of about one length, the scored apart."""
        if self.join_policy is not JoinPolicy.ANY_TIME:
            return [list(rows)] if rows else []
        groups: list[list[Row]] = []
        tokens = 0
        for row in sorted(rows, key=lambda row: (row.prompt_scored, len(row.ids))):
            tokens += len(row.ids)
            group = groups[-1] if groups else []
            padded = (len(group) + 1) * len(row.ids)
            if group and group[0].prompt_scored == row.prompt_scored and padded <= 1.5 * tokens + 256:
                group.append(row)
            else:
                groups.append([row])
                tokens = len(row.ids)
        return groups

    def step(self) -> None:
        """One token more for every row."""
        cache = self._cache
        if cache is None:
            return
        mask, positions = cache.next_inputs(self.device)
        ids = torch.tensor([[row.ids[-1]] for row in self.rows], device=self.device)
        logits = self._forward(ids, mask, positions, cache.cache, last_only=True)[:, -1].float()
        self._next(self.rows, logits)
        self.drop([row for row in self.rows if row.ended])

    def drop(self, leaving: Sequence[Row]) -> None:
        """Let rows leave the batch."""
        if not leaving:
            return
        gone = {number for number, row in enumerate(self.rows) if row in leaving}
        order = without(len(self.rows), gone)
        self.rows = [self.rows[number] for number in order]
        if not order:
            self._cache = None
        elif self._cache is not None:
            self._cache.keep(order)

    def clear(self) -> list[Row]:
        """Give up the cache; the rows that were under way can be started again."""
        rows, self.rows, self._cache = self.rows, [], None
        return rows

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any, last_only: bool
    ) -> torch.Tensor:
        """Logits in the model's dtype, (B, T or 1, vocabulary)."""
        more: dict[str, Any] = {}
        if "position_ids" in self._accepted:  # the others count the mask themselves
            more["position_ids"] = positions
        if last_only and "logits_to_keep" in self._accepted:
            more["logits_to_keep"] = 1
        return self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more).logits

    def _read(self, rows: Sequence[Row]) -> tuple[torch.Tensor, RunningCache]:
        """Read prompts (and what was generated before the cache was lost), score those that ask for it.

        Returns:
            Logits after each, float32 (B, vocabulary), and a cache of these rows.
        """
        lengths = [len(row.ids) for row in rows]
        columns = max(lengths)
        padded = [[0] * (columns - len(row.ids)) + row.ids for row in rows]
        ids = torch.tensor(padded, device=self.device)
        padding = torch.tensor([columns - length for length in lengths], device=self.device)[:, None]
        positions = torch.arange(columns, device=self.device) - padding
        mask = (positions >= 0).long()
        positions = positions.clamp_min(0)
        scoring = [row for row in rows if not row.prompt_scored]
        for row in scoring:
            row.begin_scores()
        width = columns
        if self.join_policy is JoinPolicy.ANY_TIME:
            width = PREFILL_TOKENS // len(rows)
            if scoring or "logits_to_keep" not in self._accepted:
                width = min(width, MAX_LOGITS // len(rows) // self.model.config.get_text_config().vocab_size)
        cache = new_cache(self.model, self.join_policy)
        logits = torch.empty(0)
        for start in range(0, columns, max(1, width)):
            stop = min(columns, start + max(1, width))
            logits = self._forward(
                ids[:, start:stop], mask[:, :stop], positions[:, start:stop], cache, last_only=not scoring
            )
            if scoring:
                self._score(rows, ids, logits, start, columns)
        for row in rows:
            row.prompt_scored = True
        return logits[:, -1].float(), RunningCache(cache, self.join_policy, lengths, columns)

    def _score(self, rows: Sequence[Row], ids: torch.Tensor, logits: torch.Tensor, start: int, columns: int) -> None:
        """Tell the rows what the logits of the columns from `start` on say of the columns after them."""
        stop = min(start + logits.shape[1], columns - 1)
        targets = ids[:, start + 1 : stop + 1]
        for number, row in enumerate(rows):
            if row.prompt_scored:
                continue
            first = columns - len(row.ids)  # the column of its first token
            if start <= first < start + logits.shape[1]:
                row.add_prompt_scores([None], [()])
            begin = max(first, start)
            # What was generated before the cache was lost is not scored again.
            end = min(stop, columns - 1 - row.generated)
            if begin >= end:
                continue
            scores = logits[number, begin - start : end - start].float()
            logprobs = torch.log_softmax(scores, dim=-1)
            wanted = targets[number, begin - start : end - start, None]
            top = _top(logprobs, row.request.top_n_tokens)
            row.add_prompt_scores(logprobs.gather(-1, wanted)[:, 0].tolist(), top)

    def _next(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        """Choose a token for each row from its logits, float32 (B, vocabulary), which may be overwritten."""
        if not rows:
            return
        normalizer = torch.logsumexp(logits, dim=-1)
        tops: dict[int, TopTokens] = {}
        most = [(number, row.request.top_n_tokens) for number, row in enumerate(rows) if row.request.top_n_tokens]
        for number, count in most:
            tops[number] = _top((logits[number] - normalizer[number])[None], count)[0]
        penalized = [number for number, row in enumerate(rows) if has_penalties(row.sampling)]
        scores = logits.clone() if penalized else logits
        for number in penalized:
            with _alone(rows[number]):
                rows[number].penalize_(scores[number])
        too_early = [number for number, row in enumerate(rows) if row.generated < row.sampling.min_new_tokens]
        if too_early and self.eos_ids:
            scores[torch.tensor(too_early, device=self.device)[:, None], self._eos] = -torch.inf
        blocked = self._ban(scores, rows)
        sampled = [(n, row.sampling, row.generator) for n, row in enumerate(rows) if row.generator is not None]
        chosen = choose(scores, sampled)
        # What was masked is never chosen, so its own logit is still there where nothing was penalized.
        logprobs = logits.gather(-1, chosen[:, None])[:, 0] - normalizer
        for number, (token, logprob) in enumerate(zip(chosen.tolist(), logprobs.tolist(), strict=True)):
            row, taken = rows[number], None
            if row.failed is None:
                with _alone(row):
                    taken = row.take(token, logprob, tops.get(number, ()), number in blocked, token in self.eos_ids)
            self.told.append((row, taken))

    def _ban(self, scores: torch.Tensor, rows: Sequence[Row]) -> set[int]:
        """Block for the rows that ask for it; returns those where something was banned.

        One whose lookup fails, as in a damaged index, ends alone: never does it go on unblocked.
        """
        if self.blocker is None:
            return set()
        asking = {
            number: row.history(self.blocker.window_tokens) for number, row in enumerate(rows) if row.request.blocking
        }
        try:
            return _ban(self.blocker, scores, asking)
        except Exception as error:
            if is_out_of_memory(error):
                raise
        blocked: set[int] = set()
        for number, history in asking.items():
            with _alone(rows[number]):
                blocked |= _ban(self.blocker, scores, {number: history})
        return blocked


def _ban(blocker: WindowBlocker, scores: torch.Tensor, histories: Mapping[int, Sequence[int]]) -> set[int]:
    """Block for some rows of the scores; returns those where something was banned."""
    if not histories:
        return set()
    numbers = list(histories)
    # A selection is a copy, which most batches go without.
    part = scores if len(numbers) == len(scores) else scores[numbers]
    banned = blocker.ban_(part, blocker.windows(len(numbers), enumerate(histories.values())))
    if part is not scores:
        scores[numbers] = part
    rows = banned if isinstance(banned, list) else banned.nonzero()[:, 0].tolist()
    return {numbers[row] for row in rows}


@contextmanager
def _alone(row: Row) -> Iterator[None]:
    """Keep an error inside to the row: it fails, and the batch goes on. Memory is everybody's."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        log.exception("a request failed")
        row.failed = f"{type(error).__name__}: {first_line(error)}"


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device's or the host's memory ran out."""
    # Host memory: torch raises a RuntimeError with this text.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def first_line(error: Exception) -> str:
    """First line of an error."""
    return str(error).strip().partition("\n")[0]


def _top(logprobs: torch.Tensor, count: int) -> list[TopTokens]:
    """The `count` most probable tokens of each position, from log-probabilities (T, vocabulary)."""
    if not count:
        return []
    values, ids = torch.topk(logprobs, min(count, logprobs.shape[-1]), dim=-1)
    return [list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), values.tolist(), strict=True)]
