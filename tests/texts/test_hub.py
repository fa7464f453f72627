"""The three real datasets under their Hub names: loading, choosing texts, cutting blocks."""

from collections import Counter

import pytest

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts import sources
from hyperfit_eval.texts.contamination import refuse_contamination, word_ngrams
from hyperfit_eval.texts.contexts import read_texts, select_texts, write_texts
from hyperfit_eval.texts.corpus import load_corpus
from hyperfit_eval.texts.filters import problem


@pytest.fixture(autouse=True)
def in_hub(hub, monkeypatch):
    """A folder named as a dataset id under the working directory is taken before the Hub."""
    monkeypatch.chdir(hub)


@pytest.fixture(scope="module")
def texts(hub):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(hub)
        return select_texts()


def test_the_three_ids_load_from_a_folder():
    tiers = list(sources.wikipedia())
    assert [tier.origin for tier in tiers] == [
        "Salesforce/wikitext/wikitext-103-raw-v1 test",
        "Salesforce/wikitext/wikitext-103-raw-v1 train",
    ]
    assert tiers[0].documents[0].title == "Robert Boulter"
    assert (
        tiers[0]
        .documents[0]
        .sections[0][0]
        .startswith("Robert Boulter is an English film, television and theatre actor. He had a guest-starring role")
    )
    assert sum(len(tier.documents) for tier in sources.fiction()) > 150
    assert sources.news_months() == ["2024-01", "2024-02"]
    assert next(sources.news()).documents[0].sections[0][0].startswith("Australia's National Rugby League")


def test_an_unknown_configuration_is_one_line():
    with pytest.raises(HyperfitError) as caught:
        sources.load_hub("Salesforce/wikitext", "wikitext-1")
    assert str(caught.value) == (
        "dataset Salesforce/wikitext cannot be loaded (BuilderConfig 'wikitext-1' not found. Available: "
        "['wikitext-103-raw-v1']); name a configuration, split and file that it has"
    )


def test_a_hundred_texts_of_each_source_in_turn(texts):
    assert [passage.source for passage in texts.passages] == ["wikipedia", "fiction", "news"] * 100
    assert len(texts.by_id()) == 300
    assert all(problem(passage.text) is None for passage in texts.passages)
    assert all(passage.id.startswith(f"{passage.source}-") for passage in texts.passages)


def test_no_two_texts_share_thirteen_words(texts):
    owners = Counter(ngram for passage in texts.passages for ngram in set(word_ngrams(passage.text)))
    assert max(owners.values()) == 1


def test_fewer_texts_are_the_first_of_more(texts):
    fewer = select_texts(7, ("news", "wikipedia"))
    for source in ("news", "wikipedia"):
        chosen = [passage for passage in texts.passages if passage.source == source]
        assert [passage for passage in fewer.passages if passage.source == source] == chosen[:7]


def test_texts_survive_a_round_trip(texts, tmp_path):
    write_texts(tmp_path / "texts.jsonl", texts)
    assert read_texts(tmp_path / "texts.jsonl") == texts
    assert read_texts(tmp_path / "texts.jsonl").fingerprint == texts.fingerprint


def test_too_few_texts_say_how_many_and_why():
    with pytest.raises(HyperfitError) as caught:
        select_texts(1000, ("news",))
    message = str(caught.value)
    assert message.startswith("news: 2")
    assert " texts found, 1000 are needed (read: RealTimeData/bbc_news_alltime 2024-01, " in message
    assert " markup residue, " in message
    assert message.endswith(" a source or give a fuller copy of the dataset")


def test_the_three_ids_are_corpora_without_further_options():
    wikitext = load_corpus("Salesforce/wikitext", split="test")
    assert len(wikitext.texts) == 31
    assert wikitext.texts[0].startswith("Robert Boulter is an English film, television")
    assert len(load_corpus("alasdairforsythe/text-english-code-fiction-nonfiction").texts) == 430
    assert len(load_corpus("RealTimeData/bbc_news_alltime").texts) == 246
    assert len(load_corpus("RealTimeData/bbc_news_alltime", config="2024-02").texts) == 136
    assert load_corpus("RealTimeData/bbc_news_alltime", config="2024-02", text_column="title").texts != []


def test_a_column_that_is_not_there_names_those_that_are():
    with pytest.raises(HyperfitError) as caught:
        load_corpus("nyu-mll/glue", config="rte")
    assert str(caught.value) == (
        "nyu-mll/glue: no column 'text' (found: sentence1, sentence2, label, idx); name it with --text_column"
    )
    with pytest.raises(HyperfitError, match="column 'label' does not hold text"):
        load_corpus("nyu-mll/glue", config="rte", text_column="label")


def test_a_corpus_that_gives_evaluation_texts_is_refused(texts):
    news = load_corpus("RealTimeData/bbc_news_alltime")
    with pytest.raises(HyperfitError, match=r"training block \d+ and evaluation text news-[0-9a-f]{8} share '"):
        refuse_contamination(news.texts, texts.by_id())
