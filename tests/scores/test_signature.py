"""Signatures: printed, parsed and compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from hyperfit_eval import __version__
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.metrics import Smoothing
from hyperfit_eval.scores.signature import Signature, bleu_signature


def test_by_hand():
    one = Signature.of("ttr", win=96, scn=256, note=None)
    assert str(one) == f"ttr|win:96|scn:256|v:{__version__}"
    assert (one.get("win"), one.get("note")) == ("96", None)
    assert str(one.extended(over="seeds", max=None)) == f"ttr|win:96|scn:256|v:{__version__}|over:seeds|max"
    assert str(one.without("win", "v")) == "ttr|scn:256"


def test_what_keeps_two_numbers_apart():
    one = Signature.parse("ttr|win:96|dec:greedy|seed:0|v:0.1.0")
    assert one.differs(one) == []
    assert one.differs(Signature.parse("ttr|win:128|dec:greedy|v:0.1.0")) == ["win", "seed"]
    assert one.differs(Signature.parse("ttr|win:128|dec:greedy|v:0.1.0"), ignoring=["seed"]) == ["win"]
    assert one.differs(Signature.parse("rep_4|win:96|dec:greedy|seed:0|v:0.1.0")) == ["metric"]
    # A bare name is a field too.
    assert one.differs(one.extended(max=None)) == ["max"]


words = st.text(st.characters(exclude_characters="|:", codec="utf-8"), min_size=1, max_size=8)


@given(words, st.dictionaries(words, st.none() | st.text(st.characters(exclude_characters="|"), max_size=8)))
def test_parsing_undoes_printing(metric, fields):
    one = Signature(metric, tuple(fields.items()))
    assert Signature.parse(str(one)) == one


def test_refusals():
    with pytest.raises(HyperfitError, match=r"signature field 'dec:a\|b': '\|' separates the fields; leave it out"):
        Signature.of("ttr", dec="a|b")
    for text in ("", "|win:96", "win:96", 5, None):
        with pytest.raises(HyperfitError, match=r"no signature; expected metric\|name:value\|\.\.\."):
            Signature.parse(text)


@pytest.mark.parametrize("method", ["none", "exp", "floor", "add-k"])
@pytest.mark.parametrize("effective_order", [False, True])
def test_bleu_signature_holds_all_of_sacrebleus(method, effective_order):
    scorer = BLEU(tokenize="none", smooth_method=method, effective_order=effective_order)
    scorer.corpus_score(["a b c d"], [["a b c d"]])
    ours = bleu_signature("self_bleu", Smoothing(method, effective_order=effective_order), unit="ids", N=3)
    assert ours == f"self_bleu|{scorer.get_signature()}|unit:ids|N:3|v:{__version__}"
