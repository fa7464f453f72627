"""The texts that ship with the package."""

import json
from collections import Counter

from hyperfit_eval.texts.contamination import shared_ngrams
from hyperfit_eval.texts.contexts import demo_corpus_path, demo_texts
from hyperfit_eval.texts.corpus import load_corpus
from hyperfit_eval.texts.filters import problem


def test_twenty_prompts_of_each_style_pass_the_filters():
    passages = demo_texts().passages
    assert Counter(passage.source for passage in passages) == {"fiction": 20, "encyclopedic": 20, "news": 20}
    assert [passage.source for passage in passages[:4]] == ["fiction", "encyclopedic", "news", "fiction"]
    assert [passage.id for passage in passages if problem(passage.text) is not None] == []


def test_training_passages_are_long_enough_and_stand_apart_from_the_prompts():
    rows = [json.loads(line) for line in demo_corpus_path().read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 96
    assert len({row["title"] for row in rows}) == len(rows)
    assert min(len(row["text"].split()) for row in rows) >= 230
    training = {row["id"]: row["text"] for row in rows}
    assert shared_ngrams(training, demo_texts().by_id()) == []


def test_the_corpus_is_read_as_any_other():
    corpus = load_corpus(demo_corpus_path())
    assert len(corpus.texts) == 108
    assert corpus.texts[0].startswith("Nobody in my aunt's bakery")
