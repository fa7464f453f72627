"""Two request types of our own, given to every lm-eval model by importing this module.

lm-eval runs `getattr(lm, request_type)(requests)` for whatever types a task emits. We add two NEW
methods to its LM base class and override none:

- hyperfit_continue: cut a text to its 32-token context with the model's own tokenizer and continue it;
- hyperfit_score: loss, entropy and top-k mass of the model along the text's 256 tokens.

`--model hf` gives exact token ids. Every other model has only `generate_until`, which gives text: its
token metrics are reported as unavailable instead of being taken from re-tokenized text.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from ..errors import HyperfitError
from ..records import CONTEXT_TOKENS, LONG, SHORT
from ..terminal import bar
from ..texts.contexts import Passage
from ..tokenizers import bos_ids, former_fingerprint, tokenizer_fingerprint

AUTO_BATCH_SIZE = 64
"""First try for --batch_size auto; halved when memory runs out. lm-eval's own search would probe the
model's full context, thousands of tokens, and often choose 1."""

Doc = dict[str, Any]
"""A text of the task, as datasets gives it."""
Answer = dict[str, Any]
"""Answer of a model to a request, as lm-eval hands it to the task."""

CHAT_MODELS = (
    ("lm_eval.models.openai_completions", "LocalChatCompletion"),
    ("lm_eval.models.anthropic_llms", "AnthropicChat"),
)
"""Modules and base classes of lm-eval's models that take messages alone."""

logger = logging.getLogger("lm_eval.tasks.hyperfit_openended")


@dataclass(frozen=True)
class ContinueSettings:
    """Settings of a continuation, beside text and model; hashable, so that equal requests run once."""

    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    citation_index: str | None = None
    max_overlap_tokens: int | None = None


@dataclass(frozen=True)
class _Request:
    """Content of a request, without lm-eval's book-keeping."""

    passage: Passage
    settings: ContinueSettings | None


def continue_request(doc: Doc, settings: ContinueSettings, metadata: tuple[Any, ...]) -> Instance:
    """A request to continue the document's text; `metadata` is lm-eval's (task, document, repeats)."""
    options = {"id": doc["id"], "source": doc["source"], **asdict(settings)}
    return Instance("hyperfit_continue", doc, (doc["text"], options), 0, metadata)


def score_request(doc: Doc, metadata: tuple[Any, ...]) -> Instance:
    """A request to score the document's text."""
    return Instance("hyperfit_score", doc, (doc["text"], {"id": doc["id"], "source": doc["source"]}), 1, metadata)


def hyperfit_continue(lm: LM, requests: Sequence[Instance]) -> list[dict[str, Any]]:
    """Answer each request with the fields of a `records.Continuation` and those of its `Generation`.

    `generated_ids` is None for a model that gives only text. With citation blocking, `blocker` holds
    what it did over all requests of the call.
    """
    return _once_each(requests, lambda group: _continue_group(lm, group))


def hyperfit_score(lm: LM, requests: Sequence[Instance]) -> Sequence[dict[str, Any] | None]:
    """Answer each request with the model's predictions along the text, or None for a text-only model.

    Keys: context_nll and nll (lists of nats), entropy_bits (mean, bits), top_1, top_3, top_5 (mean
    probability mass).
    """
    if not _is_hf(lm):
        logger.warning(
            "%s gives no predicted distributions: perplexity, entropy and top-k mass are unavailable", type(lm).__name__
        )
        return [None] * len(requests)
    return _once_each(requests, lambda group: _score_group(lm, group))


def _once_each(requests: Sequence[Instance], run: Callable[[list[_Request]], list[Answer]]) -> list[Answer]:
    """Run equal requests once (several tasks may share texts), one batch for each kind of settings."""
    keys = [_parse(request) for request in requests]
    groups: dict[ContinueSettings | None, list[_Request]] = {}
    for key in dict.fromkeys(keys):
        groups.setdefault(key.settings, []).append(key)
    answers: dict[_Request, Answer] = {}
    for group in groups.values():
        answers.update(zip(group, run(group), strict=True))
    return [answers[key] for key in keys]


def _parse(request: Instance) -> _Request:
    text, options = request.args
    passage = Passage(options["id"], options["source"], None, text)
    settings = {name: value for name, value in options.items() if name not in ("id", "source")}
    return _Request(passage, ContinueSettings(**settings) if settings else None)


def _continue_group(lm: LM, group: list[_Request]) -> list[dict[str, Any]]:
    settings, passages = group[0].settings, [request.passage for request in group]
    assert settings is not None
    _refuse_chat(lm)
    answers = _with_ids(lm, passages, settings) if _is_hf(lm) else _as_text(lm, passages, settings)
    tokenizer = _tokenizer(lm)
    prints = {"tokenizer": tokenizer_fingerprint(tokenizer), "former_tokenizer": former_fingerprint(tokenizer)}
    return [answer | prints for answer in answers]


def _with_ids(lm: Any, passages: list[Passage], settings: ContinueSettings) -> list[dict[str, Any]]:
    from ..generation import Decoding, continue_texts

    options = asdict(settings)
    index_path, cap = options.pop("citation_index"), options.pop("max_overlap_tokens")
    # Model arguments may have switched blocking on for every task (harness/blocking.py).
    blocker = deepcopy(getattr(lm, "hyperfit_blocker", None))
    if index_path:
        from ..blocking import CitationBlocker
        from ..citation import CitationIndex

        blocker = CitationBlocker(CitationIndex.load(index_path, tokenizer=lm.tokenizer), max_overlap_tokens=cap)
    with bar(len(passages), "Continuing contexts", disable=lm.rank != 0) as shown:
        header, records = continue_texts(
            lm.model,
            lm.tokenizer,
            passages,
            Decoding(LONG, **options),
            prefix=_prefix(lm),
            blocker=blocker,
            batch_size=_batch_size(lm),
            progress=shown.update,
        )
    common = {name: getattr(header, name) for name in ("decoding", "blocker", "bos", "seed", "dtype")}
    return [{**asdict(record), **common} for record in records]


def _as_text(lm: LM, passages: list[Passage], settings: ContinueSettings) -> list[dict[str, Any]]:
    """Continue through `generate_until`, once for each of the paper's lengths: text cannot be cut by tokens."""
    from ..generation import cut_passages

    if settings.citation_index:
        raise HyperfitError(
            f"citation blocking needs --model hf, not {type(lm).__name__}; add --model hf or leave out the blocked task"
        )
    tokenizer = _tokenizer(lm)
    cuts = cut_passages(tokenizer, passages)
    contexts = [tokenizer.decode(context) for context, _ in cuts]
    options: dict[str, Any] = {"until": [], "do_sample": settings.do_sample, "temperature": 0.0}
    if settings.do_sample:
        options |= {"temperature": settings.temperature, "top_p": settings.top_p}
    generated = {
        length: lm.generate_until(
            [Instance("generate_until", {}, (context, {**options, "max_gen_toks": length}), 0) for context in contexts]
        )
        for length in (LONG, SHORT)
    }
    return [
        {
            "id": passage.id,
            "source": passage.source,
            "context_ids": context,
            "original_ids": original,
            "generated_ids": None,
            "context_text": text,
            "original_text": tokenizer.decode(original),
            "generated_text": long_text,
            "original_text_at_128": tokenizer.decode(original[:SHORT]),
            "generated_text_at_128": short_text,
            "decoding": {"method": "sample" if settings.do_sample else "greedy", "max_new_tokens": LONG},
            "blocker": None,
            "bos": True,
            "seed": settings.seed,
            "dtype": "unknown",
        }
        for passage, (context, original), text, long_text, short_text in zip(
            passages, cuts, contexts, generated[LONG], generated[SHORT], strict=True
        )
    ]


def _score_group(lm: Any, group: list[_Request]) -> list[dict[str, Any]]:
    from ..generation import cut_passages, score_ids

    cuts = cut_passages(lm.tokenizer, [request.passage for request in group])
    with bar(len(group), "Scoring original texts", disable=lm.rank != 0) as shown:
        scores = score_ids(
            lm.model,
            [context + original for context, original in cuts],
            prefix=_prefix(lm),
            batch_size=_batch_size(lm),
            progress=shown.update,
        )
    return [
        {
            "context_nll": score.context_nll(CONTEXT_TOKENS).tolist(),
            "nll": score.nll.tolist(),
            "entropy_bits": float(score.entropy_bits.mean()),
            **{f"top_{k}": float(mass) for k, mass in zip((1, 3, 5), score.top_mass.mean(axis=0), strict=True)},
        }
        for score in scores
    ]


def _is_hf(lm: LM) -> bool:
    huggingface = sys.modules.get("lm_eval.models.huggingface")
    if huggingface is None or not isinstance(lm, huggingface.HFLM):
        return False
    if lm.backend != "causal":
        raise HyperfitError(
            f"{lm.tokenizer_name}: an encoder-decoder; hyperfit_openended needs a causal language model"
        )
    return True


def _refuse_chat(lm: LM) -> None:
    for module, name in CHAT_MODELS:
        chat = getattr(sys.modules.get(module), name, None)
        if chat is not None and isinstance(lm, chat):
            raise HyperfitError(
                f"{type(lm).__name__} sends messages, and a chat endpoint cannot continue raw text; use "
                "--model local-completions with the server's /v1/completions, or --model hf"
            )


def _tokenizer(lm: Any) -> Any:
    tokenizer = getattr(lm, "tokenizer", None)
    if not callable(tokenizer):
        raise HyperfitError(
            f"{type(lm).__name__} brings no tokenizer to cut 32-token contexts with; add tokenizer=NAME to --model_args"
        )
    return tokenizer


def _prefix(lm: Any) -> list[int]:
    """[BOS] where the tokenizer has one, unless --model_args says add_bos_token=False."""
    return [] if lm.add_bos_token is False else bos_ids(lm.tokenizer)


def _batch_size(lm: Any) -> int:
    """The batch size asked for; for auto one sized for 256 tokens."""
    if str(lm.batch_size).startswith("auto"):
        return lm.max_batch_size or AUTO_BATCH_SIZE
    return int(lm.batch_size)


LM.hyperfit_continue = hyperfit_continue
LM.hyperfit_score = hyperfit_score
