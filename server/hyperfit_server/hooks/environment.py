"""How engines that run in processes of their own learn which index to block by: from environment variables.

A launcher sets them; whatever process an engine starts inherits them. Nothing is guessed: without the index, or
with one of another tokenizer, the engine does not start.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperfit_eval.blocking.windows import check_vocabulary
from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.errors import HyperfitError

INDEX = "HYPERFIT_CITATION_INDEX"
"""Path of the index file."""
MAX_OVERLAP_TOKENS = "HYPERFIT_MAX_OVERLAP_TOKENS"
"""As for `CitationMatcher`; unset for none."""
FORCE_BLOCKING = "HYPERFIT_FORCE_BLOCKING"
"""1: no request may switch the blocker off."""
CANARY = "HYPERFIT_CANARY"
"""A word known to this server alone; as the value of the switch it means off, whatever is forced."""
SWITCH = "hyperfit_blocking"
"""Name of the per-request switch among an engine's extra arguments."""

_SWITCHES: dict[object, bool] = {"on": True, "true": True, 1: True, "off": False, "false": False, 0: False}


@dataclass(frozen=True)
class BlockerSettings:
    """Settings of the blocker in the environment."""

    index: str
    max_overlap_tokens: int | None
    force_blocking: bool
    canary: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "BlockerSettings":
        """Read the variables.

        Raises:
            HyperfitError: no index is named, or a value cannot be read.
        """
        index = environment.get(INDEX, "")
        if not index:
            raise HyperfitError(f"{INDEX} is not set: the citation blocker has no index; set it to the index file")
        limit = environment.get(MAX_OVERLAP_TOKENS, "")
        if limit and not limit.isdecimal():
            raise HyperfitError(f"{MAX_OVERLAP_TOKENS}={limit}: expected a number of tokens, or nothing")
        forced = environment.get(FORCE_BLOCKING, "0")
        if forced not in ("0", "1"):
            raise HyperfitError(f"{FORCE_BLOCKING}={forced}: expected 0 or 1")
        return cls(index, int(limit) if limit else None, forced == "1", environment.get(CANARY, ""))

    def variables(self) -> dict[str, str]:
        """The variables that `from_environment` reads back as this."""
        limit = "" if self.max_overlap_tokens is None else str(self.max_overlap_tokens)
        forced = str(int(self.force_blocking))
        return {INDEX: self.index, MAX_OVERLAP_TOKENS: limit, FORCE_BLOCKING: forced, CANARY: self.canary}

    def load_index(self, vocabulary: int, tokenizer: Any) -> CitationIndex:
        """Open the index, checked against the model.

        Args:
            vocabulary: how many tokens the model scores.
            tokenizer: the model's tokenizer.
        Raises:
            HyperfitError: the file cannot be read, or is for another model.
        """
        index = CitationIndex.load(self.index, tokenizer)
        check_vocabulary(index, vocabulary)
        return index


def wants_blocking(extra_arguments: Any, settings: BlockerSettings) -> bool:
    """Whether a request is to be blocked: yes, unless it says otherwise and may.

    Args:
        extra_arguments: of the request, as the client sent them; None for none.
    Raises:
        HyperfitError: no mapping, a value that is no switch, a misspelled name, or a switch that is locked.
    """
    arguments = {} if extra_arguments is None else extra_arguments
    if not isinstance(arguments, Mapping):
        raise HyperfitError(f"extra arguments {arguments!r:.80}: expected an object such as {{{SWITCH!r}: 'off'}}")
    unknown = [name for name in arguments if str(name).startswith("hyperfit") and name != SWITCH]
    if unknown:
        raise HyperfitError(f"{unknown[0]}: no such argument, expected {SWITCH}")
    value = arguments.get(SWITCH, True)
    if settings.canary and value == settings.canary:
        return False
    blocking = _SWITCHES.get(value) if isinstance(value, str | int | float) else None
    if blocking is None:
        raise HyperfitError(f"{SWITCH}={value!r}: expected on or off")
    if settings.force_blocking and not blocking:
        raise HyperfitError(f"{SWITCH}={value!r}: this server does not let requests switch the citation blocker off")
    return blocking


def refuse_constraints(sampling_params: Any, constraints: Sequence[str], settings: BlockerSettings) -> None:
    """Under forced blocking, refuse what can leave a request's next token no alternative.

    Where only banned tokens are left the blocker bans none, or nothing could be sampled: so a grammar that spells out
    a training text recites it.

    Args:
        sampling_params: an engine's own.
        constraints: names of the attributes that constrain the next token.
    Raises:
        HyperfitError: one of them is set, and blocking is forced.
    """
    for name in constraints:
        if settings.force_blocking and getattr(sampling_params, name):
            raise HyperfitError(
                f"{name}: it can leave a citation as the only choice, and this server does not let requests around the "
                f"citation blocker; leave {name} out"
            )
