"""Small studies for the tests: invented texts, named models, annotators with known preferences.

`python tests/preference_study.py` prints how often the intervals cover, the table of docs/preference.md.
"""

import random

import numpy as np

from hyperfit_eval.preference.pairs import make_study
from hyperfit_eval.preference.study import CHOICES, Study, write_study
from hyperfit_eval.preference.votes import percent_interval
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
    """Percent of studies whose interval holds the true percentage; three annotators, contexts that differ."""
    generator = np.random.default_rng(7)
    inside = 0
    for seed in range(studies):
        hits = generator.binomial(3, share + generator.uniform(-spread, spread, contexts))
        interval = percent_interval(hits, np.full(contexts, 3), resamples=resamples, seed=seed)
        inside += interval.low <= 100 * share <= interval.high
    return 100 * inside / studies


if __name__ == "__main__":
    for contexts in (20, 60, 100, 300):
        row = [
            coverage(contexts, share, spread, studies=1000, resamples=500)
            for share, spread in ((0.35, 0.3), (0.1, 0.1))
        ]
        print(contexts, *(f"{value:.1f}" for value in row), flush=True)
