"""Pieces of a text by color and source."""

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.report.marked import marked_pieces


def test_by_hand(tiny_tokenizer):
    def ids(text):
        return tiny_tokenizer(text, add_special_tokens=False)["input_ids"]

    index = CitationIndex.build([ids("old red sun in sky with no one")], tiny_tokenizer)
    context, text = ids("the cat sat on a mat"), ids("the cat sat on red sun in sky with the dog ran")
    pieces = marked_pieces(tiny_tokenizer, context, text, index)
    assert [(piece["text"].strip(), piece["repeated"], piece["copied"], piece["source"]) for piece in pieces] == [
        ("the cat sat on", 1, 0, None),
        ("red sun in sky with", 0, 5, (0, 1)),
        ("the dog ran", 0, 0, None),
    ]
    assert "".join(piece["text"] for piece in pieces) == tiny_tokenizer.decode(text)


def test_characters_cut_by_a_border_stay_whole():
    """Bytes of one character in two pieces: the second, which completes it, gets it."""

    class Bytes:
        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    text = "aé aé aé aé aé"
    pieces = marked_pieces(Bytes(), [], text.encode())
    assert "".join(piece["text"] for piece in pieces) == text
    assert [piece["repeated"] for piece in pieces] == [0, 2]
