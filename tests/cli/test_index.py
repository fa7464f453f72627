"""`hyperfit index`, and what it reads."""

import json
import random
import re

import citation_tokenizers as kinds
import pytest
from typer.testing import CliRunner

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.citation.corpus import read_sequences
from hyperfit_eval.cli.index import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts.blocks import make_blocks, write_blocks
from hyperfit_eval.texts.corpus import Corpus

STORY = " ".join(random.Random(0).choices(kinds.TEXT.split(), k=600))


@pytest.fixture
def folder(tmp_path):
    """A checkpoint's tokenizer and its training blocks."""
    tokenizer = kinds.byte_level()
    tokenizer.save_pretrained(tmp_path)
    blocks = make_blocks(Corpus("story", [STORY]), tokenizer, num_samples=4, sequence_length=32, num_validation=2)
    write_blocks(tmp_path / "training_blocks.jsonl", blocks)
    return tmp_path


def run(*arguments, code=0, **settings):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False, **settings)
    assert result.exit_code == code, result.output
    return result.output


def test_build_inspect_and_check(folder):
    blocks, index = folder / "training_blocks.jsonl", folder / "citation_index.safetensors"
    output = run("build", blocks, "--output", index)
    header = CitationIndex.load(index).header
    assert (header.sequences, header.tokens) == (4, 128)  # the blocks for validation are not there
    assert run("inspect", index) == output
    for line in ("ngram                5", "sequences            4", f"corpus               {header.corpus}"):
        assert line in output

    copied = kinds.byte_level().decode(read_sequences(blocks, kinds.byte_level())[2][3:20])
    (folder / "text.txt").write_text(f"Nobody wrote this.{copied}\n")
    first, last = run("check", index, folder / "text.txt").splitlines()
    assert "(17), sequence 2, token 3: " in first and first.endswith(repr(copied))
    assert last.endswith(" tokens, 1 segments of 5 tokens or more, the longest of 17")
    output = run("check", index, "-", "--tokenizer", folder, input="Nobody wrote this.")
    assert output.endswith(" tokens, 0 segments of 5 tokens or more, the longest of 0\n")


def test_check_says_what_was_compared(folder, monkeypatch):
    index = folder / "citation_index.safetensors"
    run("build", folder / "training_blocks.jsonl", "--output", index)
    opened = CitationIndex.load(index)
    whole = f"{index}: 128 tokens, {opened.header.ngrams} n-grams; structure whole, checksums "
    assert run("check", index) == run("check", index, "--full") == f"{whole}agree\n"
    monkeypatch.setattr("hyperfit_eval.citation.stored.COMPARED_BYTES", 1000)
    assert run("check", index).startswith(f"{whole}not compared (more than 0 GiB, add --full to compare")
    swapped = opened.positions.copy()
    swapped[[0, -1]] = swapped[[-1, 0]]  # in bounds, and wrong
    index.write_bytes(index.read_bytes().replace(opened.positions.tobytes(), swapped.tobytes()))
    assert run("check", index).startswith(whole)
    with pytest.raises(HyperfitError, match=r"positions has checksum [0-9a-f]{8}, its header says '[0-9a-f]{8}'; the"):
        run("check", index, "--full")


def test_texts(tmp_path):
    tokenizer = kinds.byte_level()
    one, two = "The dog.", "Anna said."
    (tmp_path / "two.txt").write_text(f"{one}\n\n\n{two}")
    (tmp_path / "two.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in (one, two)))
    expected = [tokenizer(text)["input_ids"] for text in (one, two)]
    for name in ("two.txt", "two.jsonl"):
        assert [row.tolist() for row in read_sequences(tmp_path / name, tokenizer)] == expected


def test_refused(folder):
    blocks, index = folder / "training_blocks.jsonl", folder / "citation_index.safetensors"
    other = folder / "other"
    kinds.wordpiece().save_pretrained(other)
    with pytest.raises(HyperfitError, match=r"training_blocks.jsonl: blocks of tokenizer [0-9a-f]{16}, this one is"):
        run("build", blocks, "--tokenizer", other, "--output", index)
    assert not index.exists()
    run("build", blocks, "--output", index)
    with pytest.raises(HyperfitError, match=r"built with tokenizer [0-9a-f]{16}, this one is [0-9a-f]{16}"):
        run("check", index, "-", "--tokenizer", other, input="x")
    with pytest.raises(HyperfitError, match="no tokenizer can be loaded"):
        run("build", blocks, "--tokenizer", folder / "nothing")
    with pytest.raises(HyperfitError, match=r"nothing\.txt: no such file"):
        run("build", folder / "nothing.txt")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(HyperfitError, match=r"latin.txt: not UTF-8 text \(byte 3\)"):
        run("check", index, folder / "latin.txt")
    # Typer draws a box around it, and breaks lines at the terminal's width.
    assert "No such file" in re.sub(r"[\s│]+", " ", run("check", index, folder / "nothing.txt", code=2))
