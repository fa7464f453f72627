"""From three datasets to documents of paragraphs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts import sources
from hyperfit_eval.texts.detokenize import detokenize


@pytest.mark.parametrize(
    ("line", "prose"),
    [
        (" He had a guest @-@ starring role . \n", "He had a guest-starring role."),
        (
            " It cost 1 @,@ 485 dollars , or 1 @.@ 5 pounds ; no more . ",
            "It cost 1,485 dollars, or 1.5 pounds; no more.",
        ),
        (' as " Craig " in the episode " Teddy \'s Story " of it', 'as "Craig" in the episode "Teddy\'s Story" of it'),
        (" They don 't say we 'll go to Xi 'an . ", "They don't say we'll go to Xi'an."),
        (" the Beach Boys ' songs and the ' rebel ' era ", "the Beach Boys' songs and the 'rebel' era"),
        (" Du Fu ( 712 – 770 ) was born in 712 – late . ", "Du Fu (712–770) was born in 712 – late."),
        (" the album — his fifth — sold and / or not [ sic ] . ", "the album—his fifth—sold and/or not [sic]."),
        (" Bintulu / biːnˈtuːluː / ( or / else ) ", "Bintulu /biːnˈtuːluː/ (or/else)"),
        (" at 3 : 45 : they paid $ 5 , £ 6 or 7 % . ", "at 3:45: they paid $5, £6 or 7%."),
        (" to 100 ° C , − 150 ° C and 9 ° 25 ′ 45 ″ S ", "to 100 °C, −150 °C and 9°25′45″S"),
        (' that " [ b ] ut he ... left " , " he said . " ', 'that "[b]ut he... left", "he said."'),
    ],
)
def test_detokenize(line, prose):
    assert detokenize(line) == prose


LINES = [
    " = M @-@ 82 ( Michigan highway ) = \n",
    "",
    " It is a road . \n",
    " It is long . \n",
    "",
    " = = Route = = \n",
    " = = = 1926 = = = \n",
    " It ran north . \n",
    " = Second = \n",
    " Another . \n",
]


def test_articles_are_rebuilt_from_single_lines():
    first, second = sources.articles(LINES)
    assert first.title == "M-82 (Michigan highway)"
    assert first.sections == [["It is a road.", "It is long."], ["It ran north."]]
    assert (second.title, second.sections) == ("Second", [["Another."]])


def test_lines_before_the_first_title_belong_to_no_article():
    assert [each.title for each in sources.articles([" The end of another . \n", *LINES])] == [
        "M-82 (Michigan highway)",
        "Second",
    ]


def test_paragraphs_undo_hard_wrapping_and_keep_verse():
    wrapped = "It was a bright cold day in the north, and the clocks of the\ntown were striking when he came in."
    verse = "The boy stood\nOn the deck"
    lines = "He came in.\nShe went out.\n"
    text = f"One.\n\n{wrapped}\r\n \r\n{verse}\n\n{lines}"
    assert sources.paragraphs(text) == [
        "One.",
        wrapped.replace("\n", " "),
        verse,
        "He came in.",
        "She went out.",
    ]


def test_chapters_are_parted_by_two_blank_lines_and_by_headings():
    text = "One.\n\nTwo.\n\n\nThree.\n\nCHAPTER IV: The Ferry\n\nFour.\n\n* * *\n\nFive.\n\nI did it.\n"
    assert sources.chapters(text) == [["One.", "Two."], ["Three."], ["Four."], ["Five.", "I did it."]]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.lists(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=6), max_size=6), st.integers(1, 30)
)
def test_stretches_keep_every_paragraph_in_order(all_chapters, size):
    documents = list(sources.segments(all_chapters, size))
    flat = [paragraph for document in documents for section in document.sections for paragraph in section]
    assert flat == [paragraph for chapter in all_chapters for paragraph in chapter]
    chars = [sum(len(p) for section in document.sections for p in section) for document in documents]
    assert all(count >= size for count in chars[:-1])


def test_a_missing_dataset_says_what_to_do(tmp_path, monkeypatch):
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(HyperfitError) as caught:
        sources.load_hub("nobody/nothing")
    assert str(caught.value).startswith("dataset nobody/nothing cannot be loaded (")
    assert str(caught.value).endswith(
        "); check the id, and connect to the Hub once (without HF_HUB_OFFLINE) so that it is cached, or run from a "
        "folder that holds nobody/nothing/"
    )
    assert "\n" not in str(caught.value)
