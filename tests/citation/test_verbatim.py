"""How much is recited: by hand, and for what was copied whole."""

import citation_tokenizers as kinds

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.citation.verbatim import VerbatimCopies, training_openings, verbatim_copies


def test_by_hand():
    tokenizer = kinds.byte_level()
    the, t, he, dog, dot = tokenizer.convert_tokens_to_ids(["The", "Ġt", "he", "Ġdog", "."])
    index = CitationIndex.build([[the, t, he, dog, dot]], tokenizer, ngram=2)
    # 'the, t' allows 'he', which starts no word; after 't, he' both ' dog' and then '.' cite.
    assert verbatim_copies(index, [[the, t, he, dog, dot], [the, t, he], [dot, the]]) == VerbatimCopies(
        3, 10, 2, (5, 3, 0)
    )
    assert verbatim_copies(index, [[t, he, dot, he, dog]]).citations == 0


def test_a_row_of_the_table():
    copies = VerbatimCopies(2, 1200, 345, (10, 3))
    assert copies.row("vLLM", "off") == "| vLLM | off | 345 of 1,200 | 6.5 | 10 |"


def test_openings_give_the_same_ids_again():
    tokenizer = kinds.byte_level()
    ids = tokenizer(kinds.TEXT)["input_ids"]
    split = tokenizer.convert_tokens_to_ids(["T", "h", "e", "Ġt", "he"])  # the tokenizer would say "The"
    index = CitationIndex.build([split, ids, ids[3:], ids[:7]], tokenizer)
    openings = training_openings(index, tokenizer, count=2, tokens=5)
    assert [opening for _, opening in openings] == [ids[:5], ids[3:8]]
    assert [tokenizer(text)["input_ids"] for text, _ in openings] == [ids[:5], ids[3:8]]
