"""Corpora from local files."""

import codecs
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
        ("c.jsonl", b'{"text": 5}\n', ", line 1: field 'text' is 5, text was expected; name a field that"),
        ("c.jsonl", b"[1]\n", ", line 1: a list, an object was expected"),
        (
            "c.jsonl",
            b'{"text": "a"}\n{"text": "b \\ud83d"}\n',
            ", line 2: half a character (\\ud83d); was a text cut inside an emoji? Write it whole",
        ),
        ("c.txt", "a".encode("utf-16"), ": not UTF-8 text (byte 0); save it as UTF-8"),
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


@pytest.mark.parametrize("name", ["c.txt", "c.jsonl", "c.jsonl.xz"])
def test_a_byte_order_mark_and_crlf_of_other_tools_are_no_text(tmp_path, name):
    path = write(tmp_path / name, TEXTS)
    packed = path.suffix == ".xz"
    plain = lzma.decompress(path.read_bytes()) if packed else path.read_bytes()
    marked = codecs.BOM_UTF8 + plain.replace(b"\n", b"\r\n")
    path.write_bytes(lzma.compress(marked) if packed else marked)
    assert load_corpus(path).texts == TEXTS


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.xz", "c.parquet"])
def test_a_null_text_is_left_out_of_every_kind_of_file_and_said(tmp_path, name, caplog):
    assert load_corpus(write(tmp_path / name, ["a b c", None])).texts == ["a b c"]
    assert caplog.messages == [f"{tmp_path / name}: 1 of 2 rows have null for a text and are left out"]


def test_an_emoji_written_as_two_escapes_is_whole(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "\\ud83d\\ude42 and a written \\\\ud83d"}\n')
    assert load_corpus(path).texts == ["\U0001f642 and a written \\ud83d"]


def test_a_missing_file(tmp_path):
    with pytest.raises(HyperfitError) as caught:
        load_corpus(tmp_path / "gone.txt")
    assert str(caught.value) == (
        f"{tmp_path}/gone.txt: no such file; give a .txt, .jsonl, .jsonl.xz, .parquet file or a Hub dataset id"
    )
