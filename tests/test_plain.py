"""Text from elsewhere in a terminal, Markdown, HTML and CSV: what is shown is text, and nothing else happens."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfit_eval.plain import for_csv, for_markdown, for_terminal, markdown_code
from hyperfit_eval.report.tables import markdown_table


def test_by_hand():
    assert for_terminal("a\x1b[2J\nb\u202ec") == "a\\x1b[2J b\\u202ec"
    assert for_terminal("naïve, 書, 👩\u200d🔬") == "naïve, 書, 👩\u200d🔬"
    assert for_markdown("[a](b)|<i>") == r"\[a\](b)\|&lt;i&gt;"
    assert for_markdown("# no heading") == r"\# no heading"
    assert for_markdown("see http://a.example") == "see &#104;ttp://a.example"
    assert markdown_code("a`b``c") == "```a`b``c```"
    assert markdown_code("`a") == "`` `a ``"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\uff1d1", "\r=1"])
def test_a_formula_is_text_in_a_spreadsheet(cell):
    assert for_csv(cell) == "'" + cell


def test_numbers_and_plain_texts_stay_as_they_are_in_csv():
    assert [for_csv(value) for value in (-1.5, None, "", "a=b", "naïve")] == [-1.5, None, "", "a=b", "naïve"]


@given(st.text())
def test_a_line_has_no_control_characters(text):
    shown = for_terminal(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert for_terminal(shown) == shown
    shown.encode()


@given(st.text())
def test_a_cell_opens_no_other_cell_and_no_row(text):
    cell = for_markdown(text)
    table = markdown_table(["a", "b"], [[cell, "1"]])
    row = table.split("\n")[2]
    bars = [at for at, c in enumerate(row) if c == "|" and (len(row[:at]) - len(row[:at].rstrip("\\"))) % 2 == 0]
    assert len(table.split("\n")) == 3 and len(bars) == 3
    assert "<" not in cell and "](" not in cell.replace("\\]", "")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_csv_reads_back_as_text(text):
    lines = io.StringIO()
    csv.writer(lines).writerow([for_csv(text), "end"])
    ((cell, end),) = csv.reader(io.StringIO(lines.getvalue(), newline=""))
    assert end == "end" and cell.lstrip("'") == text.lstrip("'")
