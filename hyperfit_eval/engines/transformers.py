"""The citation blocker for `model.generate` of transformers."""

from dataclasses import replace

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
        self._device_matcher: DeviceMatcher | None = None
        self._counters = Counters()
        self.reset()

    def reset(self) -> None:
        """Forget the generation under way: the next call is the first of another. Counters go on."""
        self._start: int | torch.Tensor = self.prompt_length or 0
        self._learns_start = self.prompt_length is None and not self.include_prompt
        self._last_ids: torch.Tensor | None = None
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
    def supports_continuous_batching(self) -> bool:
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

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Ban for one step.

        Args:
            input_ids: prompt and generated ids, int64, shape (B, T).
            scores: logits or log-probabilities of the next token, floating point, shape (B, vocabulary).
        Raises:
            HyperfitError: the scores are those of another model than the index or the last call was for.
        """
        if scores.shape[1] != self._vocabulary:
            self._check_vocabulary(scores.shape[1])
        if not self.in_place:
            scores = scores.clone()
        self._counters.steps += len(scores)
        if scores.device.type == "cpu":
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
        ids, width = input_ids.numpy(), self._matcher.window_tokens
        length = ids.shape[1]
        if self._learns_start:
            extends = self._last_ids is not None and _extends(ids, self._last_ids.numpy())
            self._start = min(self._start, length) if extends else length
            self._last_ids = input_ids
        start = max(self._start, length - width)
        if length - start < self.index.ngram:
            return
        windows = ids[:, start:]
        if windows.shape[1] < width:
            windows = np.pad(windows, ((0, 0), (width - windows.shape[1], 0)), constant_values=NO_TOKEN)
        bans = self._matcher.banned(windows)
        if scores.dtype is not torch.bfloat16:
            ban(scores.numpy(), bans, self._counters)
        elif bans.matched:  # numpy has no bfloat16; float32 holds the same numbers
            values = scores.float()
            ban(values.numpy(), bans, self._counters)
            scores.copy_(values)

    def _ban_on_device(self, input_ids: torch.Tensor, scores: torch.Tensor) -> None:
        if self._device_matcher is None:
            self._device_matcher = DeviceMatcher(self.index, scores.device, self.max_overlap_tokens)
        length, width = input_ids.shape[1], self._matcher.window_tokens
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
_COMPARED = 16


def _compared_columns(ids: np.ndarray | torch.Tensor, last: np.ndarray | torch.Tensor) -> slice | None:
    """The columns in which `ids` must repeat `last` to be of the same generation; None if it cannot be."""
    rows, length = ids.shape
    longer = length - last.shape[1]
    if rows != len(last) or longer > 1 or (rows > 1 and longer < 1):
        return None
    return slice(max(0, length - 1 - _COMPARED), max(0, length - 1))


def _extends(ids: np.ndarray, last: np.ndarray) -> bool:
    """Does each row of `ids` repeat a row of `last` up to its newest token? Beams change places."""
    columns = _compared_columns(ids, last)
    if columns is None:
        return False
    now, before = ids[:, columns], last[:, columns]
    return now.tobytes() == before.tobytes() or {r.tobytes() for r in now} <= {r.tobytes() for r in before}


def _extends_on_device(ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The same as a 0-dim bool tensor, which the host never reads."""
    columns = _compared_columns(ids, last)
    if columns is None:
        return torch.zeros((), dtype=torch.bool, device=ids.device)
    same = ids[:, None, columns] == last[None, :, columns]
    return same.all(dim=2).any(dim=1).all()
