"""Small studies for the tests: invented texts, named models, annotators with known preferences.

`python tests/support/preference_study.py` prints how often the intervals cover, the tables of docs/preference.md, and
`python tests/support/preference_study.py speed` how long the store takes with as many pairs as the paper's study had.
"""

import dataclasses
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from hyperfit_eval.preference.consensus import BAD, GOOD
from hyperfit_eval.preference.estimates import tables
from hyperfit_eval.preference.pairs import make_study
from hyperfit_eval.preference.store import Store
from hyperfit_eval.preference.study import CHOICES, Study, write_study
from hyperfit_eval.preference.votes import Vote, Votes, percent_interval
from hyperfit_eval.records import Continuation, Generation

SENTENCE = "the a old young ferry harbour crew captain left found sold saw and but river night letter door rain"
WORDS = SENTENCE.split()


def record(number, model, source="fiction", tokens=224, tokenizer="t1"):
    """One record; the original depends on the number alone, and the first 96 words are the head of all."""
    texts = {}
    for side in ("original", model):
        generator = random.Random(f"{number} {side}")
        texts[side] = generator.choices(WORDS, k=tokens)
    ids = {side: [WORDS.index(word) for word in words] for side, words in texts.items()}
    return Continuation(
        id=f"{source}-{number:02}",
        source=source,
        context_ids=[number] * 32,
        original_ids=ids["original"],
        generated_ids=ids[model],
        context_text=f"Text {number} begins",
        original_text=" " + " ".join(texts["original"]),
        generated_text=" " + " ".join(texts[model]),
        original_text_at_128=" " + " ".join(texts["original"][:96]),
        generated_text_at_128=" " + " ".join(texts[model][:96]),
    )


def generation(model="base", **changes):
    values = {"model": model, "tokenizer": "t1", "decoding": {"method": "greedy", "new_tokens": 224}, "texts": "e1"}
    return Generation(**(values | changes))


def run(model="base", contexts=4, sources=("fiction",), **changes):
    records = [record(number, model, source) for source in sources for number in range(contexts)]
    return model, generation(model, **changes), records


def study(models=("base", "hyper"), contexts=4, sources=("fiction",), **settings) -> Study:
    runs = [run(model, contexts, sources) for model in models]
    return make_study(runs, **({"seed": 0, "check_rate": 0.0} | settings))


def written(folder, **settings):
    made = study(**settings)
    write_study(folder, made)
    return made


def choice_of(pair, outcome):
    """What to click for "original", "equal" or "model"."""
    if outcome == "equal":
        return "equal"
    return "first" if (outcome == "original") == pair.original_first else "second"


def votes_of(study, outcomes):
    """Votes from {pair number among those without checks: outcomes of annotators 0, 1, ...}."""
    pairs = [pair for pair in study.pairs if not pair.is_check]
    rows = [
        Vote(pairs[number].id, annotator, choice_of(pairs[number], outcome))
        for number, said in outcomes.items()
        for annotator, outcome in enumerate(said)
    ]
    return Votes.of(study, rows)


def simulate(pairs, preferences, annotators=3, spread=0.0, first_bias=0.0, seed=0):
    """Choices of annotators with known preferences: (pair id, annotator, choice) for every pair and annotator.

    Args:
        preferences: for each model (P(preferred), P(equal)).
        spread: of a context's effect, shared by all pairs and annotators of the context.
        first_bias: chance to click "first" whatever the texts.
    """
    generator = np.random.default_rng(seed)
    effect = dict.fromkeys(sorted({pair.context for pair in pairs}), 0.0)
    effect = {context: generator.uniform(-spread, spread) for context in effect}
    for pair in pairs:
        preferred, equal = preferences[pair.other]
        preferred = min(max(preferred + effect[pair.context], 0), 1 - equal)
        for annotator in range(annotators):
            outcome = generator.choice(["model", "equal", "original"], p=[preferred, equal, 1 - preferred - equal])
            choice = "first" if generator.random() < first_bias else choice_of(pair, outcome)
            assert choice in CHOICES
            yield pair.id, annotator, choice


def coverage(contexts, share, spread, studies, resamples):
    """Percent of studies whose interval holds the true percentage, and half of the mean width of the intervals.

    Three annotators, contexts that differ.
    """
    generator = np.random.default_rng(7)
    inside, width = 0, 0.0
    for seed in range(studies):
        hits = generator.binomial(3, share + generator.uniform(-spread, spread, contexts))
        interval = percent_interval(hits, np.full(contexts, 3), resamples=resamples, seed=seed)
        inside += interval.low <= 100 * share <= interval.high
        width += interval.high - interval.low
    return 100 * inside / studies, width / studies / 2


def whole_coverage(contexts, studies, spread=0.1):
    """Percent of studies in which each kind of interval of `tables` holds the truth, by its name.

    Two models of known preferences over two sources, three annotators without a side bias, contexts that differ.
    TTR differs by context and text, and has nothing to do with the preferences: its mean is 50 in every group.
    """
    preferences = {"base": (0.1, 0.1), "hyper": (0.35, 0.2)}
    made = study(contexts=contexts // 2, sources=("fiction", "news"), scenarios=[256], seed=1)
    # Of two annotations that agree, and of agreement by chance.
    shares = np.array([[p, e, 1 - p - e] for p, e in preferences.values()])
    agreeing = (shares**2).sum(axis=1).mean() + 2 * spread**2 / 3
    chance = (shares.mean(axis=0) ** 2).sum()
    kappa = (agreeing - chance) / (1 - chance)
    strength = np.log((0.35 + 0.2 / 2) / (1 - 0.35 - 0.2 / 2))
    inside = Counter()
    for seed in range(studies):
        generator = np.random.default_rng([seed, 1])
        own, shared = generator.uniform(-0.15, 0.15, (2, len(made.pairs)))
        numbers = {name: number for number, name in enumerate(sorted({pair.context for pair in made.pairs}))}
        pairs = [
            dataclasses.replace(pair, ttr=0.5 + own[i] + shared[numbers[pair.context]])
            for i, pair in enumerate(made.pairs)
        ]
        one = dataclasses.replace(made, pairs=pairs)
        votes = Votes.of(one, [Vote(*row) for row in simulate(pairs, preferences, spread=spread, seed=seed)])
        result = tables(one, votes, by="human", checks="kept", ratings=3)
        hyper, ttr = result.preference["hyper"]["256"], result.ttr_consensus["256"]
        ranking = {row.name: row for row in result.bradley_terry["256"].rows}
        for name, interval, truth in (
            ("preferred or equal", hyper["all"], 55), ("of one source", hyper["news"], 55),
            ("mean of sources", hyper["average"], 55), ("paired difference", result.paired_tests["256"][0].result, -35),
            ("Bradley-Terry strength", ranking["hyper"], strength),
            ("first position", result.agreement["first_position"], 50),
            ("Krippendorff's alpha", result.agreement["krippendorff_alpha"], kappa),
            ("Fleiss' kappa", result.agreement["fleiss_kappa"], kappa),
            ("TTR in consensus good", ttr.groups[GOOD], 50), ("TTR in consensus bad", ttr.groups[BAD], 50),
            ("good above bad in TTR", ttr.auc, 50),
        ):  # fmt: skip
            inside[name] += interval.low <= truth <= interval.high
    return {name: 100 * count / studies for name, count in inside.items()}


def speed(answers=200):
    """Median milliseconds of what one answer on the page asks of the store, by its name, and the number of pairs."""
    seconds = {"an answer": [], "a new pair": [], "what is left": []}
    with tempfile.TemporaryDirectory() as name:
        large = written(Path(name), models=tuple("abcdefghij"), contexts=150, sources=("x", "y"), check_rate=0.05)
        store = Store(Path(name), large)
        person = store.annotator(store.add_annotator("Ann")).id
        pair = store.next(person).pair
        for _ in range(answers):
            times = [time.perf_counter()]
            store.answer(person, pair, "first")
            times.append(time.perf_counter())
            pair = store.next(person).pair
            times.append(time.perf_counter())
            store.left_for(person)
            times.append(time.perf_counter())
            for spent, start, end in zip(seconds.values(), times, times[1:], strict=False):
                spent.append(end - start)
        store.close()
    return {what: round(1000 * statistics.median(spent), 1) for what, spent in seconds.items()}, len(large.pairs)


if __name__ == "__main__":
    if sys.argv[1:] == ["speed"]:
        print(speed())
        sys.exit()
    for contexts in (20, 30, 60, 100, 300):
        row = [
            coverage(contexts, share, spread, studies=1000, resamples=500)
            for share, spread in ((0.35, 0.3), (0.1, 0.1))
        ]
        print(contexts, *(f"{covered:.1f} (half width {half:.1f})" for covered, half in row), flush=True)
    for name, value in whole_coverage(contexts=100, studies=1000).items():
        print(f"{name}: {value:.1f}", flush=True)
