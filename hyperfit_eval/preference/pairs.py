"""From continuation records to the pairs of a study (paper, Section 4 and Appendix A)."""

import hashlib
import hmac
import random
import re
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import HyperfitError
from ..metrics.repetition import type_token_ratio
from ..records import Continuation, Generation, generated_fingerprint, read_continuations
from ..scores.measure import SCENARIOS, TTR_WINDOW
from .study import ALL, AVERAGE, ORIGINAL, SHUFFLED, Pair, Study

ANNOTATIONS = 3
CHECK_RATE = 0.05
MAX_CHECK_RATE = 0.5
CLEANING = 1
"""Version of `clean`, for signatures."""

_SPECIAL = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:pad|unk|bos|eos|mask)>")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")

Run = tuple[str, Generation, list[Continuation]]
"""A model's name, how its continuations came to be, and the continuations."""


def clean(text: str) -> str:
    r"""A continuation as annotators see it; originals and generated ones go through the same steps.

    Out go special tokens that decoding left, control characters and invisible ones (zero width, changes of
    direction: they could tell the sides apart or disorder the page), half characters where the cut went
    through one, and white space at both ends. Runs of spaces become one, runs of empty lines one. Words,
    repetitions and markup stay as they are.

    Example:
        clean(" He  left.<|endoftext|>\r\n\n\n\nThen") == "He left.\n\nThen"
    """
    text = unicodedata.normalize("NFC", _SPECIAL.sub("", text)).replace("\r\n", "\n").replace("\r", "\n")
    text = _INVISIBLE.sub("", text)
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc").strip("\ufffd")
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


def read_runs(records: Sequence[str]) -> list[Run]:
    """Read continuation files, FILE or NAME=FILE.

    Raises:
        HyperfitError: a file of another kind, or two of the same name.
    """
    runs: list[Run] = []
    for argument in records:
        name, separator, path = argument.partition("=")
        if not separator or Path(argument).exists():
            name, path = "", argument
        generation, continuations = read_continuations(path)
        name = name or model_name(generation)
        if name in (ORIGINAL, SHUFFLED):
            raise HyperfitError(f"{path}: the name '{name}' is taken by the study itself; give NAME={path}")
        if name in [other for other, _, _ in runs]:
            raise HyperfitError(f"{path}: a second model is called '{name}'; name them, for instance NAME={path}")
        runs.append((name, generation, continuations))
    return runs


def model_name(generation: Generation) -> str:
    """Name of a model in tables: "base, greedy", "hyperfitted, greedy, citation blocking"."""
    model = Path(generation.model).name if Path(generation.model).is_absolute() else generation.model
    decoding = generation.decoding
    how = str(decoding.get("method", "greedy"))
    if how == "sample" and "top_p" in decoding:
        how = f"top-p {decoding['top_p']}"
    return ", ".join([model, how, *(["citation blocking"] if generation.blocker else [])])


def make_study(
    runs: Sequence[Run],
    *,
    scenarios: Sequence[int] = tuple(SCENARIOS),
    annotations: int = ANNOTATIONS,
    check_rate: float = CHECK_RATE,
    per_source: int | None = None,
    seed: int | None = None,
    salt: str | None = None,
) -> Study:
    """Mix the models' continuations into one pool of pairs.

    Args:
        runs: from `read_runs`, all over the same evaluation texts.
        scenarios: 128, 256 or both.
        annotations: that each pair is to get.
        check_rate: share of attention checks among what an annotator sees, 0 for none.
        per_source: contexts of each source, chosen at random; None for all.
        seed, salt: fresh random ones by default.
    Raises:
        HyperfitError: no runs, runs that cannot be mixed, or a record without what a pair needs.
    """
    for scenario in scenarios:
        if scenario not in SCENARIOS:
            raise HyperfitError(f"--length {scenario}: expected one of {', '.join(map(str, SCENARIOS))}")
    if not 0 <= check_rate <= MAX_CHECK_RATE:
        raise HyperfitError(f"--attention-rate {check_rate:g}: expected a share from 0 to {MAX_CHECK_RATE:g}")
    if not runs:
        raise HyperfitError("no records; give continuation files, such as runs/demo/continuations_*.jsonl")
    _check_mixable(runs)
    seed = secrets.randbits(32) if seed is None else seed
    salt = secrets.token_hex(16) if salt is None else salt
    generator = random.Random(seed)
    contexts = _contexts(runs[0][2], per_source, generator)
    scenarios = sorted(set(scenarios))
    pairs = [
        _pair(name, record, scenario, generator, salt)
        for name, _, records in runs
        for record in records
        if record.id in contexts
        for scenario in scenarios
    ]
    checks = round(check_rate / (1 - check_rate) * len(pairs))
    pairs += _checks(pairs, max(checks, 1) if check_rate else 0, generator, salt)
    generator.shuffle(pairs)
    models = {
        name: vars(generation) | {"generated": generated_fingerprint(records)} for name, generation, records in runs
    }
    return Study(pairs, seed, salt, annotations, check_rate, runs[0][1].texts, models)


def _pair(name: str, record: Continuation, scenario: int, generator: random.Random, salt: str) -> Pair:
    """One record's pair; what it lacks is refused."""
    tokens = SCENARIOS[scenario]
    short = tokens < SCENARIOS[256]
    where = f"{name}: '{record.id}'"
    for side, ids in (("original", record.original_ids), ("generated", record.generated_ids)):
        if not ids:
            raise HyperfitError(f"{where} has no {side} continuation; leave the record out, or make it anew")
        # Text cannot be cut by tokens: the whole text must have as many as the longer scenario, exactly.
        if len(ids) < tokens or (not short and len(ids) != tokens):
            raise HyperfitError(
                f"{where}: {len(ids)} {side} tokens, pairs at {scenario} need {tokens}{'' if short else ' exactly'}; "
                f"generate with --max-new-tokens {SCENARIOS[256]}, or give --length 128"
            )
    original, generated = (
        (record.original_text_at_128, record.generated_text_at_128)
        if short
        else (record.original_text, record.generated_text)
    )
    if not (original := clean(original)):
        raise HyperfitError(f"{where} has no original continuation: its text is empty")
    return Pair(
        id=_pair_id(salt, name, record.id, scenario),
        context=record.id,
        source=record.source,
        scenario=scenario,
        other=name,
        original_first=generator.random() < 0.5,
        context_text=clean(record.context_text),
        original_text=original,
        other_text=clean(generated),
        ttr=type_token_ratio(record.generated_ids[:tokens], TTR_WINDOW),
    )


def _checks(pairs: Sequence[Pair], count: int, generator: random.Random, salt: str) -> Iterator[Pair]:
    """Attention checks: originals against their own words in random order, where another order is another text."""
    originals = [
        pair
        for pair in {(pair.context, pair.scenario): pair for pair in reversed(pairs)}.values()
        if len(set(pair.original_text.split())) > 1
    ]
    if count and not originals:
        raise HyperfitError("no original has two different words to shuffle for attention checks; --attention-rate 0")
    for pair in generator.sample(originals, min(count, len(originals))):
        yield Pair(
            id=_pair_id(salt, SHUFFLED, pair.context, pair.scenario),
            context=pair.context,
            source=pair.source,
            scenario=pair.scenario,
            other=SHUFFLED,
            original_first=generator.random() < 0.5,
            context_text=pair.context_text,
            original_text=pair.original_text,
            other_text=_shuffled(pair.original_text, generator),
            ttr=None,
        )


def _shuffled(text: str, generator: random.Random) -> str:
    """The words, of which two differ, in another order; the white space between them stays: both sides look alike."""
    parts = re.split(r"(\s+)", text)
    words = parts[::2]
    while words == parts[::2]:  # a shuffle may give the same text, more so where words are few
        generator.shuffle(words)
    parts[::2] = words
    return "".join(parts)


def _pair_id(salt: str, name: str, context: str, scenario: int) -> str:
    return hmac.new(salt.encode(), f"{name}\0{context}\0{scenario}".encode(), hashlib.sha256).hexdigest()[:16]


def _contexts(records: Sequence[Continuation], per_source: int | None, generator: random.Random) -> set[str]:
    """Ids of the contexts to take, `per_source` random ones of each source."""
    by_source: dict[str, list[str]] = {}
    for record in records:
        by_source.setdefault(record.source, []).append(record.id)
    reserved = {ALL: "all sources together", AVERAGE: "the mean over the sources"}
    # The endings of preference_at_256 and preference_SOURCE, columns of Tables 1 and 4.
    reserved |= {f"at_{scenario}": f"all sources at {scenario} tokens" for scenario in SCENARIOS}
    for name in by_source:
        if name in reserved:
            raise HyperfitError(f"source '{name}': the name stands for {reserved[name]}; rename it")
    if per_source is None:
        return {record.id for record in records}
    for source, ids in by_source.items():
        if len(ids) < per_source:
            raise HyperfitError(f"--per-source {per_source}: {source} has {len(ids)} contexts")
    return {id for ids in by_source.values() for id in generator.sample(ids, per_source)}


def _check_mixable(runs: Sequence[Run]) -> None:
    """Refuse models over different texts, and the same continuations under two names.

    Tokenizers may differ: then 32 tokens end at different words, and each pair is cut by its own model's
    tokenizer, both sides alike. The beginnings must agree all the same.
    """
    first, generation, records = runs[0]
    if not records:
        raise HyperfitError(f"{first}: no records")
    expected = {record.id: record for record in records}
    for name, other, others in runs[1:]:
        if other.texts != generation.texts:
            raise HyperfitError(
                f"{name}: made from other evaluation texts ({other.texts or 'unknown'}) than {first} "
                f"({generation.texts or 'unknown'}); a study compares models on the same texts"
            )
        differing = sorted(expected.keys() ^ {record.id for record in others})
        if differing:
            raise HyperfitError(
                f"{len(differing)} contexts are in one of {first} and {name} only, such as '{differing[0]}'; a study "
                "compares models on the same contexts"
            )
        for record in others:
            _check_same_text(first, expected[record.id], name, record, generation.tokenizer == other.tokenizer)
    for i, (name, _, others) in enumerate(runs):
        texts = {record.id: record.generated_text for record in others}
        for earlier, _, records in runs[:i]:
            if texts == {record.id: record.generated_text for record in records}:
                raise HyperfitError(f"{earlier} and {name}: the same continuations under two names; leave one out")


def _check_same_text(first: str, a: Continuation, name: str, b: Continuation, same_tokenizer: bool) -> None:
    if same_tokenizer:
        same = (a.context_ids, a.original_ids, a.source) == (b.context_ids, b.original_ids, b.source)
    else:
        # Without white space, because some tokenizers drop a space at the beginning of what they decode.
        texts = ["".join(clean(record.context_text + record.original_text).split()) for record in (a, b)]
        same = texts[0].startswith(texts[1]) or texts[1].startswith(texts[0])
    if not same:
        raise HyperfitError(f"context '{a.id}' is another text in {first} than in {name}; they cannot be mixed")
