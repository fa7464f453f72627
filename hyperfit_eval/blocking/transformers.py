"""The citation blocker for `model.generate` of transformers."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationMixin, LogitsProcessor

from ..citation import CitationIndex, Counters
from ..citation.matcher import NO_TOKEN
from ..errors import HyperfitError
from . import windows
from .starts import DeviceRowStarts, RowStarts
from .windows import WindowBlocker

_CONTINUOUS_BATCHING = (
    "continuous batching drops logits processors, the citation blocker would block nothing; call generate() without "
    "it (and without cache_implementation='paged'), or serve the model by `hyperfit serve`"
)


class CitationBlocker(LogitsProcessor):
    """Gives probability zero to what would continue a copy of the hyperfitting dataset (paper, Section 3).

    If the last 5 generated tokens of a row occur in the index, every token that follows them there and
    starts a word is set to -inf. One blocker may serve any number of generations, one after the other, taking
    turns, or in several threads.

    Args:
        index: from `CitationIndex.load(path, tokenizer)`.
        prompt_length: tokens before the first generated one, left padding included; the same in every call.
            When None it is learned for each row: a row that continues none of those seen is a prompt (`RowStarts`).
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
        refuse_continuous_batching()
        self.index = index
        self.prompt_length = prompt_length
        self.include_prompt = include_prompt
        self.max_overlap_tokens = max_overlap_tokens
        self.in_place = in_place
        self._windows = WindowBlocker(index, max_overlap_tokens)
        self.reset()

    def reset(self) -> None:
        """Forget all generations: every row is a prompt now. Counters go on."""
        self._host_starts = RowStarts()
        self._device_starts: DeviceRowStarts | None = None
        self._vocabulary: int | None = None

    @property
    def counters(self) -> Counters:
        """Counts of all calls so far. Waits for an accelerator if one is in use."""
        return self._windows.counters

    @property
    def supports_continuous_batching(self) -> bool:  # type: ignore[override]
        """Raises: continuous batching would drop a processor that says no, and pass one that says yes no history."""
        raise HyperfitError(_CONTINUOUS_BATCHING)

    def __deepcopy__(self, memo: object) -> "CitationBlocker":
        """The same settings, the same index and the same rows remembered; counters at zero."""
        copied = CitationBlocker(
            self.index, self.prompt_length, self.include_prompt, self.max_overlap_tokens, self.in_place
        )
        copied._host_starts = self._host_starts.copy()
        copied._device_starts = self._device_starts and self._device_starts.copy()
        copied._vocabulary = self._vocabulary
        return copied

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Ban for one step.

        Args:
            input_ids: prompt and generated ids, int64, shape (B, T).
            scores: logits or log-probabilities of the next token, floating point, shape (B, vocabulary).
        Raises:
            HyperfitError: the scores are those of another model than the index or the last call was for.
        """
        vocabulary = scores.shape[1]
        if vocabulary != self._vocabulary:
            if self._vocabulary is not None:
                raise HyperfitError(
                    f"scores of {vocabulary} tokens after scores of {self._vocabulary}: a citation blocker serves one "
                    "model; make another one (an assistant model needs the same vocabulary), or call reset() between"
                )
            windows.check_vocabulary(self.index, vocabulary)
            self._vocabulary = vocabulary
        if not self.in_place:
            scores = scores.clone()
        self._windows.ban_(scores, self._last_generated(input_ids))
        return scores

    def _last_generated(self, ids: torch.Tensor) -> torch.Tensor:
        """The last generated tokens of each row, int64 (B, window_tokens), NO_TOKEN where there are none."""
        length, width = ids.shape[1], self._windows.window_tokens
        starts = self._starts(ids)
        tails = ids[:, -width:]
        if length < width:
            tails = torch.nn.functional.pad(tails, (width - length, 0), value=NO_TOKEN)
        if isinstance(starts, int) and starts <= length - width:
            return tails
        return tails.masked_fill(torch.arange(length - width, length, device=ids.device) < starts, NO_TOKEN)

    def _starts(self, ids: torch.Tensor) -> int | torch.Tensor:
        """Where the generated tokens begin: in all rows, or in each, int64 (B, 1)."""
        if self.include_prompt or self.prompt_length is not None:
            return self.prompt_length or 0
        if not windows.on_host(ids):
            if self._device_starts is None:
                self._device_starts = DeviceRowStarts(ids.device)
            return self._device_starts.of(ids)[:, None]
        starts = self._host_starts.of(ids)
        return starts[0] if len(set(starts)) == 1 else torch.tensor(starts, dtype=torch.int64)[:, None]


def refuse_continuous_batching() -> None:
    """Let transformers raise where it would drop a `CitationBlocker` without a word.

    `generate_batch` swallows `logits_processor` among its keyword arguments, and `generate` leaves it out when
    `cache_implementation="paged"` sends it there. Neither looks at the processor, so nothing but the methods
    themselves can refuse. Called when a blocker is made; without one nothing is replaced.
    """
    for name, is_continuous in (
        ("generate", lambda arguments: arguments.get("cache_implementation") == "paged"),
        ("generate_batch", lambda arguments: True),
    ):
        method = getattr(GenerationMixin, name, None)
        if method is not None and not hasattr(method, "hyperfit_guard"):
            setattr(GenerationMixin, name, _guarded(method, is_continuous))


def _guarded(method: Callable[..., Any], is_continuous: Callable[[dict[str, Any]], bool]) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_continuous(kwargs):
            processors = [*args, *kwargs.values()]
            processors += [item for value in processors if isinstance(value, list | tuple) for item in value]
            if any(isinstance(item, CitationBlocker) for item in processors):
                raise HyperfitError(_CONTINUOUS_BATCHING)
        return method(self, *args, **kwargs)

    guarded.hyperfit_guard = True  # type: ignore[attr-defined]
    return guarded
