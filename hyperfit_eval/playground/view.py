"""A growing continuation as HTML: repeated, copied and blocked tokens marked. All text is escaped."""

from bisect import bisect
from collections.abc import Iterator
from html import escape
from itertools import pairwise

from ..metrics import type_token_ratio
from ..records import SHORT
from ..report.marked import marked_pieces, source_text
from .columns import Column, Progress

STYLE = """
.model { --r1: #fde9c8; --r2: #f9c784; --r3: #ef8f5a; --copied: #6a3d9a; --blocked: #00695c; --quiet: #5c5c5c; }
.dark .model { --r1: #4a3a1e; --r2: #75500f; --r3: #9c4a1b; --copied: #c3a0ea; --blocked: #5fd6c3; --quiet: #a3a3a0; }
.model h3 { margin: 0 0 .4rem; font-size: 1rem; }
.model dl { display: grid; grid-template-columns: repeat(4, 1fr); gap: .2rem .6rem; margin: 0 0 .7rem; }
.model dl > div { display: flex; flex-direction: column; }
.model dt { color: var(--quiet); font-size: .75rem; order: 2; line-height: 1.25; }
.model dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.model p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.65; min-height: 12rem; }
#context textarea, .model p { unicode-bidi: plaintext; }
.model .context { color: var(--quiet); }
.model p.note { color: var(--quiet); font-size: .85rem; min-height: 0; margin: 0 0 .5rem; }
.model .r1 { background: var(--r1); } .model .r2 { background: var(--r2); } .model .r3 { background: var(--r3); }
.model .copied { text-decoration: underline 2px var(--copied); text-underline-offset: 3px; cursor: help; }
.model .blocked { border-bottom: 2px dotted var(--blocked); color: var(--blocked); font-weight: 600; cursor: help; }
.legend > span { margin-right: 1.1rem; } .legend.model { font-size: .85rem; }
"""
LEGEND = (
    '<div class="model legend"><span><span class="r1">said before</span>: 4, <span class="r2">8</span>, '
    '<span class="r3">16</span> tokens or more</span>'
    '<span><span class="copied">copied</span> from the training set</span>'
    '<span><span class="blocked">blocked</span>: another token was banned here</span>Hover for the source.</div>'
)


def column_html(progress: Progress) -> str:
    """One column: its title, numbers and text."""
    context = escape(progress.column.engine.tokenizer.decode(progress.context_ids))
    return (
        f'<div class="model"><h3>{escape(progress.column.title)}</h3>{_numbers(progress)}{_note(progress.column)}'
        f'<p dir="auto"><span class="context">{context}</span>'
        f"{''.join(_text(progress))}</p></div>"
    )


def _note(column: Column) -> str:
    return "" if column.sources is not None else '<p class="note">No citation index: copies are not marked.</p>'


def _numbers(progress: Progress) -> str:
    ids, index = progress.ids, progress.column.sources
    window = min(SHORT, len(ids))
    ttr = f"{100 * type_token_ratio(ids, window):.0f}" if ids else "-"
    longest = max((overlap.length for overlap in index.find(ids)), default=0) if index else 0
    copied = "-" if index is None or not ids else str(longest) if longest else f"< {index.ngram}"
    mass = f"{100 * sum(progress.top_1) / len(ids):.0f}" if ids else "-"
    shown = [
        (f"TTR of the last {window or SHORT} tokens, %", ttr),
        ("longest copied run, tokens", copied),
        ("mean top-1 mass, %", mass),
        ("blocked", str(len(progress.blocked)) if progress.column.blocking else "-"),
    ]
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in shown) + "</dl>"


def _text(progress: Progress) -> Iterator[str]:
    """The pieces of the continuation as spans, cut once more at blocked positions."""
    column, start = progress.column, 0
    tokenizer, index = column.engine.tokenizer, column.sources
    if not progress.ids:
        return
    stops = _blocked_stops(progress)
    for piece in marked_pieces(tokenizer, progress.context_ids, progress.ids, index):
        classes = [f"r{piece['repeated']}"] if piece["repeated"] else []
        title = ""
        if piece["source"] is not None and index is not None:
            classes.append("copied")
            sequence, offset = piece["source"]
            source = source_text(tokenizer, index, sequence, offset, piece["copied"])
            title = f"{piece['copied']} tokens in a row, from passage {sequence + 1}: {source}"
        for text, blocked in _cut(piece["text"], start, stops):
            names, why = ([*classes, "blocked"], blocked) if blocked else (classes, title)
            yield _span(text, names, why)
        start += len(piece["text"])


def _blocked_stops(progress: Progress) -> list[tuple[int, int, str]]:
    """Beginning and end of each token's characters that was chosen because another was banned, and why."""
    decode, index = progress.column.engine.tokenizer.decode, progress.column.sources
    stops = []
    for place in progress.blocked:
        begin, end = (len(decode(progress.ids[:stop]).rstrip("\ufffd")) for stop in (place, place + 1))
        why = "another token was banned here"
        if index is not None:
            found = index.find(progress.ids[max(0, place - index.ngram) : place])
            if found:
                sequence, offset = found[0].sequence, found[0].offset
                source = source_text(progress.column.engine.tokenizer, index, sequence, offset, index.ngram)
                why = f"banned here: going on as in passage {sequence + 1}: {source}"
        stops.append((begin, end, why))
    return stops


def _cut(text: str, start: int, stops: list[tuple[int, int, str]]) -> Iterator[tuple[str, str]]:
    """A piece that begins at character `start` in parts, each with why it is blocked, or ""."""
    borders = {0, len(text)}
    for begin, end, _ in stops:
        borders |= {border - start for border in (begin, end) if 0 < border - start < len(text)}
    ordered, begins = sorted(borders), [begin for begin, _, _ in stops]
    for left, right in pairwise(ordered):
        place = bisect(begins, start + left) - 1
        why = stops[place][2] if place >= 0 and start + left < stops[place][1] else ""
        yield text[left:right], why


def _span(text: str, classes: list[str], title: str) -> str:
    if not classes:
        return escape(text)
    return f'<span class="{" ".join(classes)}" title="{escape(title)}">{escape(text)}</span>'
