"""Automatic filters in place of the paper's manual validation of its 300 texts (Section 4).

Each takes a passage and returns None, or a few words that say why it is dropped.
"""

import re
from collections.abc import Callable

MIN_TOKENS = 256

_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_START = re.compile(r"[\"“'‘]?[A-Z]")
# A quotation that is closed without a mark before the closing quote is a title or a term, not speech.
_SPEECH = re.compile(r"[\"“](?![^\"“”]*[^\s.,;:?!…—–-][\"”])")
_SENTENCE_END = re.compile(r"[.?!…:;,—–-][\"'”’)\]]*$")
_MARKUP = re.compile(
    r"<[a-zA-Z/!][^>]*>|&[a-z]+;|https?://|www\.|\S@\S|\[\[|\]\]|\{\{|\}\}|''|==|\*\*|__|\[\d+\]|\\[a-z]+\b"
    r"|\ufffd|[|{}<>~^\\*_]"
)
_SPACED_TOKENS = re.compile(
    r" [,;:!?)\]](?:\s|$)| \.(?:\s|$)|@[-,.]@|[(\[] |\( ?[,;)]|(?:^|\s)[\"'](?:[\s,;]|\.(?!\.)|$)"
    r"|,,|(?<!\.)\.\. |[a-z]{2}\.[A-Z][a-z]|[\"“][b-hj-z] "
)
_LIST_ITEM = re.compile(
    r"^(?:[-•·*‣–—] |\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]+)[.)] |(?:[A-Z][\w.'’-]* ){1,4}[–-] )", re.MULTILINE
)
_SPEAKER = re.compile(
    r"^(?:[A-Z]{2}[A-Z '’-]*[.:]|[A-Z][\w.'’-]*(?: [A-Z][\w.'’-]*){0,2}:|\[[^\]]*\]$|\([A-Z][^)]*\)$)", re.MULTILINE
)
_BOILERPLATE = re.compile(
    r"image (?:source|caption|copyright)|media caption|getty images|video can ?not be played|enable javascript"
    r"|playback is (?:not|un)supported|last updated on|from the section|follow (?:us|bbc)\b|click here|contact us"
    r"|sign up (?:for|to) (?:our|the)|read more:|related (?:topics|stories)|get in touch|share this"
    r"|if you have been affected|copyright ©|all rights reserved|cookies? policy|project gutenberg|standard ebooks"
    r"|table of contents|transcriber['’]s note|\billustration:|\bisbn\b",
    re.IGNORECASE,
)
_RUN_ON = re.compile(
    r"(?<=[\w-]) (?:The|This|These|They|There|But|It|Of|Following|After|According|When|While|However) (?=[a-z\d])"
)
# Three to five words in ten of English prose; lists, rows of names and other languages have far fewer.
_FUNCTION_WORDS = frozenset(
    """the of and to a in that it is was he she his her for with as on be at by i you had not they from have but this
    which or an were are there been their who one all we when would so if no him my me them then what has its more
    out up into could will said do about some after than other over only also""".split()  # noqa: SIM905
)


def min_tokens(text: str) -> int:
    """Tokens that every common tokenizer needs at least for `text`.

    The usual pre-tokenizers part words at blanks and, from the word before it, a mark such as a comma
    or a full stop; a token never crosses such a border. So words plus marks after a word is a lower
    bound whatever the vocabulary. Ordinary English takes 10% (200,000 entries) to 60% (4,096) more.
    """
    return len(text.split()) + len(re.findall(r"(?<=\w)[,.;:!?]+[\"'”’)\]]*(?=\s|$)", text))


def too_short(text: str) -> str | None:
    """Stands in for choosing texts that fill 256 tokens: with any tokenizer, not just the one at hand."""
    return None if min_tokens(text) >= MIN_TOKENS else "too short"


def opens_midway(text: str) -> str | None:
    """Stands in for checking that the context opens as a text does, and not within a conversation."""
    if _SPEECH.match(text):
        return "opens with speech"
    return None if _SENTENCE_START.match(text) else "does not start at the start of a sentence"


def has_markup(text: str) -> str | None:
    """Stands in for spotting what a conversion left behind: tags, links, wiki marks, blanks lost or gained."""
    return "markup residue" if _MARKUP.search(text) or _SPACED_TOKENS.search(text) else None


def runs_on(text: str) -> str | None:
    """Stands in for stumbling over a lost full stop, often where a caption or a quotation was cut out."""
    return "sentences run together" if _RUN_ON.search(text) else None


def has_list(text: str) -> str | None:
    """Stands in for refusing lists, tables, verse and headings: each paragraph is one line of whole sentences."""
    if "\n" in text.replace("\n\n", ""):
        return "line breaks of verse, a list or a table"
    if _LIST_ITEM.search(text):
        return "list item"
    if not all(_SENTENCE_END.search(paragraph) for paragraph in text.split("\n\n")):
        return "paragraph that ends in no sentence (heading, caption or list)"
    return None


def has_script(text: str) -> str | None:
    """Stands in for refusing plays and interviews: lines that open with a speaker, stage directions."""
    return "dialogue script" if _SPEAKER.search(text) else None


def has_boilerplate(text: str) -> str | None:
    """Stands in for refusing what publishers add to a text: captions, notices, appeals."""
    return "boilerplate" if _BOILERPLATE.search(text) else None


def is_no_prose(text: str) -> str | None:
    """Stands in for reading whether this is English prose, by its letters, digits and function words."""
    chars = [char for char in text if not char.isspace()]
    letters = [char for char in chars if char.isalpha()]
    if any(ord(letter) > 0x24F for letter in letters):
        return "letters that are not Latin"
    if len(letters) < 0.9 * len(chars) or sum(map(str.isdigit, chars)) > 0.05 * len(chars):
        return "many digits or signs"
    words = [word.lower() for word in _WORD.findall(text)]
    if sum(word in _FUNCTION_WORDS for word in words) < 0.3 * len(words):
        return "few English function words"
    return None


def repeats_itself(text: str) -> str | None:
    """Stands in for noticing a text that says a thing twice: refrains, tables as prose, scraping twice."""
    sentences = [s for s in re.split(r"(?<=[.?!])[\"'”’)]*\s+", text) if len(s.split()) >= 5]
    return "repeated sentence" if len(set(sentences)) < len(sentences) else None


FILTERS: tuple[Callable[[str], str | None], ...] = (
    too_short,
    opens_midway,
    has_boilerplate,
    has_markup,
    runs_on,
    has_list,
    has_script,
    is_no_prose,
    repeats_itself,
)


def problem(text: str) -> str | None:
    """Why a passage is dropped: the first filter's reason, or None when it passes them all."""
    return next((reason for check in FILTERS if (reason := check(text)) is not None), None)
