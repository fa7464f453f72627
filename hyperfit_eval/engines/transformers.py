"""The citation blocker for `model.generate` of transformers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor

from ..citation import CitationIndex, CitationMatcher, Counters, ban
from ..citation.matcher import NO_TOKEN
from ..errors import HyperfitError
from .device import DeviceMatcher


class CitationBlocker(LogitsProcessor):
    """Gives probability zero to what would continue a copy of the hyperfitting dataset (paper, Section 3).

    If the last 5 generated tokens of a row occur in the index, every token that follows them there and
    starts a word is set to -inf. Nothing is remembered of a row, so beams may be reordered at will.

    Args:
        index: from `CitationIndex.load(path, tokenizer)`.
        prompt_length: tokens before the first generated one, left padding included; the same in every call.
            When None it is taken from the first call of each generation, which sees the prompt alone.
        include_prompt: let the prompt's tokens count as generated (in the paper they do not).
        max_overlap_tokens: also bound copies inside long words, see `CitationMatcher`.
        in_place: edit the scores that are passed in. `generate` passes a copy of its own, and returns the
            same tensor as raw logits: use False with `output_logits=True`.

    Example:
        blocker = CitationBlocker(CitationIndex.load("citation_index.safetensors", tokenizer))
        model.generate(**inputs, logits_processor=[blocker])
    """

    def __init__(
        self,
        index: CitationIndex,
        prompt_length: int | None = None,
        include_prompt: bool = False,
        max_overlap_tokens: int | None = None,
        in_place: bool = True,
    ) -> None:
        if prompt_length is not None and include_prompt:
            raise HyperfitError(f"prompt_length={prompt_length} and include_prompt=True exclude each other; give one")
        if prompt_length is not None and prompt_length < 0:
            raise HyperfitError(f"prompt_length={prompt_length}: expected 0 or more tokens")
        self.index = index
        self.prompt_length = prompt_length
        self.include_prompt = include_prompt
        self.max_overlap_tokens = max_overlap_tokens
        self.in_place = in_place
        self._matcher = CitationMatcher(index, max_overlap_tokens)
        self._tail_tokens = max(self._matcher.window_tokens, _COMPARED + 1)
        self._device_matcher: DeviceMatcher | None = None
        self._counters = Counters()
        self.reset()

    def reset(self) -> None:
        """Forget the generation under way: the next call is the first of another. Counters go on."""
        self._start: Any = self.prompt_length or 0  # on a device a 0-dim tensor
        self._learns_start = self.prompt_length is None and not self.include_prompt
        self._last_ids: Any = None  # of the last call: numpy on the host, a tensor on a device
        self._last_tail: list[int] | None = None
        self._vocabulary: int | None = None

    @property
    def counters(self) -> Counters:
        """What was done in all calls so far. Waits for an accelerator if one is in use."""
        if self._device_matcher is None:
            return replace(self._counters)
        matched, banned, unblocked = self._device_matcher.counts.tolist()
        host = self._counters
        return Counters(host.steps, host.matched + matched, host.banned + banned, host.unblocked + unblocked)

    @property
    def supports_continuous_batching(self) -> bool:  # type: ignore[override]
        """Raises: continuous batching would drop a processor that says no, and pass one that says yes no history."""
        raise HyperfitError(
            "continuous batching shows a logits processor no history, the citation blocker would block nothing; "
            "call generate() without it"
        )

    def __deepcopy__(self, memo: dict) -> "CitationBlocker":
        """The same settings and the same index, counters at zero, no generation under way."""
        return CitationBlocker(
            self.index, self.prompt_length, self.include_prompt, self.max_overlap_tokens, self.in_place
        )

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Ban for one step.

        Args:
            input_ids: prompt and generated ids, int64, shape (B, T).
            scores: logits or log-probabilities of the next token, floating point, shape (B, vocabulary).
        Raises:
            HyperfitError: the scores are those of another model than the index or the last call was for.
        """
        vocabulary = scores.size(1)
        if vocabulary != self._vocabulary:
            self._check_vocabulary(vocabulary)
        if not self.in_place:
            scores = scores.clone()
        if scores.is_cpu:
            self._ban_on_host(input_ids, scores)
        else:
            self._ban_on_device(input_ids, scores)
        return scores

    def _check_vocabulary(self, vocabulary: int) -> None:
        if self._vocabulary is not None:
            raise HyperfitError(
                f"scores of {vocabulary} tokens after scores of {self._vocabulary}: a citation blocker serves one "
                "model; make another one (an assistant model needs the same vocabulary), or call reset() between"
            )
        if vocabulary <= self.index.header.largest_id:
            raise HyperfitError(
                f"the model scores {vocabulary} tokens, the citation index has ids up to "
                f"{self.index.header.largest_id}; use the index that was built with this model's tokenizer"
            )
        self._vocabulary = vocabulary

    def _ban_on_host(self, input_ids: torch.Tensor, scores: torch.Tensor) -> None:
        ids, matcher = input_ids.numpy(), self._matcher
        rows, length = ids.shape
        self._counters.steps += rows
        tail = ids[0, -self._tail_tokens :].tolist() if rows == 1 else None
        if self._learns_start:
            self._learn_start(ids, tail)
        known = length - self._start
        if known > matcher.window_tokens:
            known = matcher.window_tokens
        if known < self.index.ngram:
            return
        if tail is not None:
            bans = matcher.banned_after(tail[-known:])
        else:
            windows = ids[:, length - known :]
            if known < matcher.window_tokens:
                missing = matcher.window_tokens - known
                windows = np.pad(windows, ((0, 0), (missing, 0)), constant_values=NO_TOKEN)
            bans = matcher.banned(windows)
        if not bans.matched:
            return
        if scores.dtype is torch.bfloat16:  # numpy has none; float32 holds the same numbers
            values = scores.float()
            ban(values.numpy(), bans, self._counters)
            scores.copy_(values)
        else:
            ban(scores.numpy(), bans, self._counters)

    def _learn_start(self, ids: np.ndarray, tail: list[int] | None) -> None:
        length, last_ids, last_tail = ids.shape[1], self._last_ids, self._last_tail
        self._last_ids, self._last_tail = ids, tail
        if last_ids is not None:
            # The usual step of a single row: lists compare faster than a numpy operation starts.
            if tail and last_tail and length == last_ids.shape[1] + 1 and tail[:-1] == last_tail[1 - len(tail) :]:
                return
            if length >= self._start and _extends(ids, last_ids):
                return
        self._start = length

    def _ban_on_device(self, input_ids: torch.Tensor, scores: torch.Tensor) -> None:
        if self._device_matcher is None:
            self._device_matcher = DeviceMatcher(self.index, scores.device, self.max_overlap_tokens)
        rows, length = input_ids.shape
        self._counters.steps += rows
        width = self._matcher.window_tokens
        if self._learns_start:
            if self._last_ids is None:
                self._start = length
            else:
                extends = _extends_on_device(input_ids, self._last_ids)
                self._start = torch.where(extends, self._start, length).clamp(max=length)
            self._last_ids = input_ids
        windows = torch.nn.functional.pad(input_ids[:, -width:], (max(0, width - length), 0), value=NO_TOKEN)
        columns = torch.arange(length - width, length, device=scores.device)
        self._device_matcher.ban_(scores, windows.masked_fill(columns < self._start, NO_TOKEN))


# A step of the same generation shows the ids of the last call with one token more; in assisted generation, which
# is for single rows, also fewer, when drafted tokens were rejected. Everything else is another generation with its
# own prompt. Comparing this many tokens before the newest is as good as comparing all: only a prompt that repeats
# the last text at the same places, but for its newest token, is taken for its continuation, and that errs towards
# blocking.
_COMPARED = 8


def _compared_columns(shape: Sequence[int], last_shape: Sequence[int]) -> slice | None:
    """The columns in which ids must repeat the last ones to be of the same generation; None if they cannot be."""
    rows, length = shape
    longer = length - last_shape[1]
    if rows != last_shape[0] or longer > 1 or (longer < 1 and rows > 1):
        return None
    return slice(length - 1 - _COMPARED if length > _COMPARED else 0, length - 1 if length else 0)


def _extends(ids: np.ndarray, last: np.ndarray) -> bool:
    """Does each row of `ids` repeat a row of `last` up to its newest token? Beams change places."""
    columns = _compared_columns(ids.shape, last.shape)
    if columns is None:
        return False
    now, before = ids[:, columns], last[:, columns]
    return now.tobytes() == before.tobytes() or {r.tobytes() for r in now} <= {r.tobytes() for r in before}


def _extends_on_device(ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The same as a 0-dim bool tensor, which the host never reads."""
    columns = _compared_columns(ids.shape, last.shape)
    if columns is None:
        return torch.zeros((), dtype=torch.bool, device=ids.device)
    same = ids[:, None, columns] == last[None, :, columns]
    return same.all(dim=2).any(dim=1).all()
