"""WikiText's spaced-out tokens back to ordinary English prose.

WikiText separates punctuation by blanks and writes the marks inside a word as ` @-@ `, ` @,@ ` and
` @.@ `. A model has never seen text of that form, so contexts and training text are restored first.
"""

import re

_INSIDE_WORD = re.compile(r" @([-,.])@ ")
_NUMBER_JOINTS = re.compile(r"(?<=\d) ([:–⁄]) (?=\d)")
_PRONUNCIATION = re.compile(r" / ([^/]*[ˈˌːəɪʊɛɔæʃʒθðŋɑ][^/]*) / ")
_TIGHT = re.compile(r" (—|/|‑) ")
_APOSTROPHE = re.compile(r"(?<=\w) (['’](?=[^\W\d])|’ (?=[a-z]))")
_EDITED_LETTER = re.compile(r"(\[\w\]) (?=[a-z])")
_BEFORE_MARK = re.compile(r" (?=(?:[,.;:!?)\]%°′″]|\.\.\.)(?:\W|$))")
_AFTER_MARK = re.compile(r"(?<=[(\[$£€₤#]) |(?<=−) (?=\d)|(?<=[°′″]) (?=\d|[NSEW]\b)")
_TEMPERATURE = re.compile(r"(?<=\d)° (?=[CF]\b)")


def detokenize(line: str) -> str:
    """Return one WikiText paragraph as ordinary prose.

    Double quotes carry no direction in WikiText: they are taken to open and close in turn. A lone
    apostrophe closes a single quote that is open, else follows a plural in s, else opens a quote.
    """
    text = _INSIDE_WORD.sub(r"\1", line.strip())
    text = _NUMBER_JOINTS.sub(r"\1", text)
    # Before the quotes: after them an apostrophe before a word may open a quote.
    text = _APOSTROPHE.sub(lambda match: match[1].strip(), text)
    if '"' in text or " ' " in text:
        text = _join_quotes(text.split())
    text = _PRONUNCIATION.sub(r" /\1/ ", text)
    text = _TIGHT.sub(r"\1", text)
    text = _BEFORE_MARK.sub("", text)
    text = _AFTER_MARK.sub("", text)
    text = _EDITED_LETTER.sub(r"\1", text)
    return _TEMPERATURE.sub(" °", text)


def _join_quotes(tokens: list[str]) -> str:
    """Join tokens by blanks, except inside of quotation marks."""
    open_marks: set[str] = set()
    text, glue = "", ""
    for token in tokens:
        if token in open_marks:
            open_marks.remove(token)
            text, glue = text + token, " "
        elif token == "'" and text.endswith("s"):
            text, glue = text + token, " "
        elif token in ('"', "'"):
            open_marks.add(token)
            text, glue = text + glue + token, ""
        else:
            text, glue = text + glue + token, " "
    return text
