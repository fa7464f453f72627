"""A judge's verdict, read from its reply: what a person would read without doubt, and nothing else."""

import json
import re
import unicodedata

_LEAD = "that is exactly one of these three:"
INSTRUCTION = f"End your reply with a line of its own {_LEAD}\nVerdict: FIRST\nVerdict: SECOND\nVerdict: EQUAL"
"""Last sentence of the prompt: the form that is asked for."""

_CHOICE = "(first|second|equal)"
_THINKING = re.compile(r".*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
# Tokenizers' special tokens, and HTML that only sets off.
_TAG = re.compile(
    r"<[|｜][^<>\n]*[|｜]>|</?(?:s|eos|(?:start|end)_of_turn|b|i|em|strong|code|p|answer)>|</verdict>", re.IGNORECASE
)
_OBJECT = re.compile(r"\{[^{}]*\}(?=[\s`.]*\Z)")
_LATEX = re.compile(r"\\(?:text|math)\w*")
_VERDICT = re.compile(
    rf"(?:[-•–—] ?)?(?:\d+ )?(?:(?:my|our|the) )?(?:(?:final|overall) )?(?:verdict[ :：=–—-]+)+{_CHOICE}\b"
)
_RULE = re.compile(r"[-=]*")


def parse_verdict(reply: str) -> str | None:
    r"""The choice in a reply whose last line is `Verdict: FIRST`, `SECOND` or `EQUAL` and that gives no other verdict.

    Emphasis, quotes, brackets, a heading, a full stop, a missing space, JSON, a LaTeX box and special tokens around
    it do not matter, nor does upper or lower case; thoughts before `</think>` are no part of the reply. A verdict
    with anything else on its line, another verdict on another line, or a repetition of the prompt's list is none.

    Returns:
        "first", "second" or "equal"; None where the reply leaves a doubt.
    Example:
        parse_verdict("The first one loops.\n**Verdict:** SECOND.") == "second"
    """
    lines = _lines(_THINKING.sub("", reply))
    matches = [_VERDICT.match(line) for line in lines]
    choices = {match[1] for match in matches if match}
    # A model that repeats the prompt may be cut off inside its list.
    if len(choices) != 1 or _VERDICT.fullmatch(lines[-1]) is None or (lines[-2:-1] and lines[-2].endswith(_LEAD)):
        return None
    return choices.pop()


def _lines(reply: str) -> list[str]:
    """The lines of a reply in lower case, without what only sets off, and without those that held nothing else."""
    text = _OBJECT.sub(_spread, _TAG.sub("", reply))
    text = re.sub(r"<verdict>|\\f?boxed\b", " verdict ", text, flags=re.IGNORECASE)
    text = re.sub(f"<{_CHOICE}>", r"\1", text, flags=re.IGNORECASE)  # as the prompt sets the texts off
    text = "".join(" " if _sets_off(character) else character for character in _LATEX.sub("", text)).lower()
    lines = (" ".join(line.split()).rstrip("! ") for line in text.splitlines())
    text = "\n".join(line for line in lines if not _RULE.fullmatch(line))
    return re.sub(rf"(verdict ?[:：]?)\n(?={_CHOICE}$)", r"\1 ", text, flags=re.MULTILINE).split("\n")


def _sets_off(character: str) -> bool:
    """Whether a character is a quote or a bracket of any language, invisible, emphasis, or ends a sentence."""
    return character in "*_`#$\\\"'.。" or unicodedata.category(character) in ("Ps", "Pe", "Pi", "Pf", "Cf")


def _spread(match: re.Match[str]) -> str:
    """A JSON object that ends a reply, as lines: its verdicts, whatever their place in it."""
    try:
        pairs = json.loads(match[0], object_pairs_hook=list)
    except ValueError:
        return match[0]
    verdicts = [value for key, value in pairs if key.lower() == "verdict"]
    return "\n".join(["", *(f"verdict: {value}" for value in verdicts)]) if verdicts else match[0]
