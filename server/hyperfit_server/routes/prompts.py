"""From texts and chats to the token ids that the model reads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2

from hyperfit_eval.tokenizers import bos_ids

from ..errors import Refusal
from ..settings import Limits


class Prompt(NamedTuple):
    """A prompt as the model reads it."""

    ids: list[int]
    added: int
    """How many ids at the front stand for nothing in the text: the BOS."""


def read_text(tokenizer: Any, text: str, limits: Limits, add_special_tokens: bool = True) -> Prompt:
    """Tokenize a prompt.

    BOS comes first wherever the tokenizer has one, as in this package's training and evaluation, even if the
    tokenizer's own template leaves it out; a server and `hyperfit eval` continue a text alike.

    Raises:
        Refusal: "validation", of a text that is too long.
    """
    limits.check_text(len(text))
    ids = list(tokenizer(text, add_special_tokens=add_special_tokens, verbose=False)["input_ids"])
    if not add_special_tokens:
        return Prompt(ids, 0)
    bos = bos_ids(tokenizer)
    if ids[: len(bos)] != bos:
        ids = bos + ids
    return Prompt(ids, len(bos))


def truncated(prompt: Prompt, tokens: int | None) -> Prompt:
    """The last `tokens` tokens of the text; a BOS stays in front and counts."""
    if tokens is None or len(prompt.ids) <= tokens:
        return prompt
    kept = tokens - prompt.added
    if kept < 1:
        raise Refusal("validation", f"truncate is {tokens}: with BOS, expected {prompt.added + 1} or more", "truncate")
    return Prompt(prompt.ids[: prompt.added] + prompt.ids[-kept:], prompt.added)


def read_chat(tokenizer: Any, messages: Sequence[dict[str, Any]], limits: Limits) -> list[int]:
    """Apply the tokenizer's chat template.

    Raises:
        Refusal: "validation", if there is no template or it refuses the messages.
    """
    if not tokenizer.chat_template:
        raise Refusal(
            "validation",
            "this model has no chat template: use /v1/completions, or start the server with --chat-template FILE",
            "messages",
            "no_chat_template",
        )
    try:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        message = "messages: the chat template refuses them"
        raise Refusal("validation", f"{message} ({error})", "messages", logged=message) from error
    return read_text(tokenizer, text, limits, add_special_tokens=False).ids


def token_spans(tokenizer: Any, text: str, limits: Limits, add_special_tokens: bool) -> list[dict[str, Any]]:
    """Each token of `text` with its characters' place in it; BOS and other additions have an empty one.

    A character that several tokens share, byte by byte, is in the text of each of them.

    Raises:
        Refusal: "validation", of a text with too many characters or tokens.
    """
    limits.check_text(len(text))
    encoded = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True, verbose=False)
    if len(encoded["input_ids"]) > limits.max_request_cost:
        tokens, most = len(encoded["input_ids"]), limits.max_request_cost
        message = f"the text has {tokens} tokens, at most {most} are listed (--max-request-cost)"
        raise Refusal("validation", message)
    spans = [
        {"id": token, "text": text[start:stop], "start": start, "stop": stop}
        for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
    bos = bos_ids(tokenizer) if add_special_tokens else []
    if bos and [span["id"] for span in spans[:1]] != bos:
        spans.insert(0, {"id": bos[0], "text": "", "start": 0, "stop": 0})
    return spans
