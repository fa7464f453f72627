"""Corpora from local files."""

import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.texts.corpus import Corpus, load_corpus

TEXTS = ["One.\n\nStill one — “é”.", "Two.\u2028Still two."]


def write(path, texts, column="text"):
    rows = [{column: text, "n": number} for number, text in enumerate(texts)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".txt":
        path.write_text("\n\n\n".join(texts), encoding="utf-8")
    elif path.suffix == ".xz":
        path.write_bytes(lzma.compress(lines.encode()))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text(lines, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["c.txt", "c.jsonl", "c.jsonl.xz", "c.parquet"])
def test_every_kind_of_file_gives_the_same_texts(tmp_path, name):
    corpus = load_corpus(write(tmp_path / name, TEXTS))
    assert corpus.texts == TEXTS
    assert corpus.name == str(tmp_path / name)
    assert corpus.fingerprint == Corpus("elsewhere", TEXTS).fingerprint


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.xz", "c.parquet"])
def test_a_named_column(tmp_path, name):
    path = write(tmp_path / name, TEXTS, column="story")
    assert load_corpus(path, text_column="story").texts == TEXTS
    with pytest.raises(HyperfitError, match=r"'text' \(found: story, n\); name it with --text_column"):
        load_corpus(path)


def test_the_fingerprint_changes_with_order_and_borders():
    prints = {Corpus("", texts).fingerprint for texts in (["ab", "c"], ["c", "ab"], ["a", "bc"], ["abc"])}
    assert len(prints) == 4


@pytest.mark.parametrize("name", ["c.txt", "c.jsonl", "c.jsonl.xz", "c.parquet"])
def test_an_empty_corpus_is_refused(tmp_path, name):
    path = write(tmp_path / name, [" ", "\n"])
    with pytest.raises(HyperfitError) as caught:
        load_corpus(path)
    assert str(caught.value) == f"{path}: the corpus is empty; give one with text in it"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", b"caf\xe9", ": not UTF-8 text (byte 3); save it as UTF-8"),
        ("c.jsonl", b'{"text": "a"}\n{"text": "b', ", line 2: not JSON (Unterminated string starting at); is the file"),
        ("c.jsonl", b'{"text": 5}\n', ", line 1: no text in field 'text' (found: text); name it with --text_column"),
        ("c.jsonl", b"[1]\n", ", line 1: no text in field 'text' (found: a list); name it with --text_column"),
        (
            "c.jsonl.xz",
            b"nothing packed",
            ": cannot be read (Input format not supported by decoder); is the file whole?",
        ),
        ("c.jsonl.xz", lzma.compress(b'{"text": "a"}\n' * 99)[:60], ": cannot be read (Compressed file ended before"),
        ("c.parquet", b"PAR1", ": no readable parquet file ("),
        ("c.csv", b"text\na\n", ": not a .txt, .jsonl, .jsonl.xz, .parquet file; convert it to one of these"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(HyperfitError) as caught:
        load_corpus(path)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(HyperfitError) as caught:
        load_corpus(tmp_path / "gone.txt")
    assert str(caught.value) == (
        f"{tmp_path}/gone.txt: no such file; give a .txt, .jsonl, .jsonl.xz, .parquet file or a Hub dataset id"
    )
