"""docs/formats.md has every kind of file that the code writes, and no other."""

import ast
import re

import pytest
from paths import ROOT

PACKAGE = ROOT / "hyperfit_eval"
PAGE = (ROOT / "docs" / "formats.md").read_text()
PREFIX = "hyperfit-eval/"


def rows():
    """(kind, file, writer, made by, read by) of the page's table."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    assert lines[0] == ["kind", "file", "writer", "made by", "read by"]
    return lines[1:]


def constants(tree):
    """Strings that a module gives names to, alone or several in a line."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names, values = (getattr(part, "elts", [part]) for part in (node.targets[0], node.value))
            found |= {n.id: v.value for n, v in zip(names, values) if isinstance(v, ast.Constant)}  # noqa: B905
    return found


def calls(tree, names):
    """Calls of functions of these names, whatever stands before the dot, with the name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            if name in names:
                yield node, name


def written_kinds(source):
    """Kinds that a module gives to `write_json` and `write_jsonl`, or writes into a head by itself."""
    tree = ast.parse(source)
    known = constants(tree)
    found = {known["FORMAT"].removeprefix(PREFIX)} if known.get("FORMAT", "").startswith(PREFIX) else set()
    places, passed_on = {"write_json": 1, "write_jsonl": 1}, set()
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        parameters = [argument.arg for argument in function.args.args]
        for call, name in list(calls(function, places)):
            kind = call.args[places[name]]
            if isinstance(kind, ast.Name) and kind.id in parameters:
                places[function.name] = parameters.index(kind.id)  # then its own calls tell
                passed_on.add(call)
    for call, name in calls(tree, places):
        if call not in passed_on:
            kind = call.args[places[name]]
            assert isinstance(kind, ast.Constant) or kind.id in known, f"what kind? {ast.unparse(call)}"
            found.add(kind.value if isinstance(kind, ast.Constant) else known[kind.id])
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) and re.match(r"\{'format': f'hyperfit-eval/\{\w+\}'", head := ast.unparse(node)):
            found.add(known[re.search(r"\w+(?=\}')", head)[0]])
    return found


def test_kinds_are_found():
    assert written_kinds("files.write_json(p, 'a', 1, {})") == {"a"}
    assert written_kinds("KIND, VERSION = 'b', 1\ndef f():\n    write_jsonl(p, KIND, VERSION, {}, [])") == {"b"}
    assert written_kinds("def f(p, kind):\n    write_json(p, kind, 1, {})\nf(p, 'c')\nf(p, 'd')") == {"c", "d"}
    assert written_kinds("KIND = 'e'\ng({'format': f'hyperfit-eval/{KIND}', 'version': 1})") == {"e"}
    assert written_kinds("FORMAT = 'hyperfit-eval/f'") == {"f"}
    with pytest.raises(AssertionError, match="what kind"):
        written_kinds("write_json(p, elsewhere, 1, {})")


def test_the_page_has_the_kinds_that_are_written_and_says_where():
    written = {
        (kind, path.relative_to(PACKAGE).as_posix())
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "files.py"
        for kind in written_kinds(path.read_text())
    }
    named = {(kind.strip("`"), writer.strip("`")) for kind, _, writer, _, _ in rows() if kind.startswith("`")}
    assert named == written


def test_every_kind_is_described_and_every_writer_is_there():
    assert {kind.strip("`") for kind, *_ in rows()} == set(re.findall("^## (.+)$", PAGE, re.M))
    for _, _, writer, _, _ in rows():
        assert (PACKAGE / re.search("`(.+?)`", writer)[1]).exists(), writer
