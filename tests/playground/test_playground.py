"""The playground: columns that grow side by side, their HTML, and the page in a browser."""

import asyncio
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from browser import start_browser
from hyperfit_server.engine.requests import Sampling
from publish_fixtures import tiny_run_fixture  # noqa: F401
from typer.testing import CliRunner

from hyperfit_eval.citation import CitationIndex
from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.playground.columns import Column, Progress, continue_side_by_side, open_columns
from hyperfit_eval.playground.view import column_html
from hyperfit_eval.report.marked import source_text
from hyperfit_eval.tokenizers import plain_ids

pytestmark = pytest.mark.slow

PASSAGE = "the cat sat on a mat and dog ran to see it was old"


@pytest.fixture(scope="module")
def index(tiny_tokenizer):
    return CitationIndex.build([plain_ids(tiny_tokenizer, text) for text in ("it was old", PASSAGE)], tiny_tokenizer)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint, index, tmp_path_factory):
    """The tiny model with a citation index beside it."""
    folder = tmp_path_factory.mktemp("playground") / "<b>tiny"
    shutil.copytree(tiny_checkpoint, folder)
    index.save(folder / "citation_index.safetensors")
    return folder


@pytest.fixture(scope="module")
def columns(checkpoint, tiny_checkpoint):
    opened = open_columns([str(tiny_checkpoint), str(checkpoint)], "cpu")
    yield opened
    for engine in {column.engine for column in opened}:
        engine.close()


def shown(tokenizer, text, index=None, blocked=(), context="no one"):
    """A column's HTML after its heading."""
    ids = plain_ids(tokenizer, text)
    column = Column("m", SimpleNamespace(tokenizer=tokenizer), blocking=bool(blocked), sources=index)
    return column_html(Progress(column, plain_ids(tokenizer, context), ids, [0.5] * len(ids), list(blocked)))


def numbers(html):
    return re.findall("<dd>(.*?)</dd>", html)


def text(html):
    return re.sub("<.*?>", "", html.partition('<p dir="auto">')[2])


def test_by_hand(tiny_tokenizer, index):
    """Ten tokens, six of them copied from the second passage; TTR 9/10."""
    html = shown(tiny_tokenizer, "red cat sat on a mat and sky in red", index)
    assert numbers(html) == ["90", "6", "50", "-"]
    assert "passage 2: …the [cat sat on a mat and]dog ran to see it was old…" in html.replace("&#x27;", "'")
    assert re.search(
        '<span class="copied" title="6 tokens in a row, from passage 2.*?"> ?cat sat on a mat and</span>', html
    )
    assert text(html) == "no onered cat sat on a mat and sky in red"


def test_a_blocked_token_says_what_was_not_gone_on_with(tiny_tokenizer, index):
    html = shown(tiny_tokenizer, "cat sat on a mat sun in", index, blocked=[5])
    assert numbers(html)[3] == "1"
    found = re.search('<span class="blocked" title="(.*?)">(.*?)</span>', html)
    assert found[1] == "banned here: going on as in passage 2: …the [cat sat on a mat]and dog ran to see it was old…"
    assert found[2].strip() == "sun"
    assert text(html) == "no onecat sat on a mat sun in"


def test_repeated_tokens_are_colored(tiny_tokenizer):
    html = shown(tiny_tokenizer, "the cat sat on the cat sat on")
    assert re.search('<span class="r1" title=""> ?the cat sat on</span>', html)
    assert numbers(html) == ["50", "-", "50", "-"]


def test_a_model_without_index_says_so(tiny_checkpoint, tiny_tokenizer, index):
    said = []
    (column,) = open_columns([str(tiny_checkpoint)], "cpu", said.append)
    column.engine.close()
    assert column.sources is None and not column.blocking
    assert said == [
        f"{column.title}: no citation_index.safetensors, so copies are not marked and nothing is blocked; build one "
        "with `hyperfit index build`"
    ]
    note = "No citation index: copies are not marked."
    assert note in shown(tiny_tokenizer, "the cat") and note not in shown(tiny_tokenizer, "the cat", index)


def test_nothing_yet(tiny_tokenizer, index):
    assert numbers(shown(tiny_tokenizer, "", index)) == ["-", "-", "-", "-"]


def test_all_text_is_escaped(index):
    class Hostile:
        def decode(self, ids):
            return "<img src=x onerror=alert(1)>&\"'" if len(ids) else ""

    column = Column("<b>", SimpleNamespace(tokenizer=Hostile()), blocking=True, sources=index)
    html = column_html(Progress(column, [1], [2, 3, 4, 5, 6, 7], [0.5] * 6, [5]))
    assert "<img" not in html and "<b>" not in html
    assert source_text(Hostile(), index, 0, 0, 2)


def test_lanes(columns, index):
    """Both models, the one with an index also blocked; the other's copies are looked for in the same texts."""
    assert [(column.title.partition(",")[0], column.blocking) for column in columns][1:] == [
        ("<b>tiny", False),
        ("<b>tiny", True),
    ]
    assert columns[1].engine is columns[2].engine
    assert columns[0].sources is columns[1].sources


def continued(columns, context, sampling):
    async def run():
        counts = []
        async for progress in continue_side_by_side(columns, context, sampling):
            counts.append([len(one.ids) for one in progress])
        return progress, counts

    return asyncio.run(run())


def test_lanes_continue_side_by_side(columns):
    progress, counts = continued(columns, "the cat sat", Sampling(max_new_tokens=40, min_new_tokens=40))
    assert counts[-1] == [40, 40, 40]
    assert progress[0].ids == progress[1].ids  # the same weights
    assert all(0 < mass <= 1 for one in progress for mass in one.top_1)
    assert all(column_html(one) for one in progress)


def test_a_reader_who_leaves_stops_the_work(columns, caplog):
    async def run():
        steps = continue_side_by_side(columns, "the cat", Sampling(max_new_tokens=250, min_new_tokens=250))
        async for _ in steps:
            break
        await steps.aclose()
        for _ in range(100):
            if not any(column.engine.running for column in columns):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("still running")

    asyncio.run(run())
    gc.collect()
    assert caplog.text == ""  # no traceback of what was cancelled


def test_refusals(columns, tmp_path, monkeypatch):
    with pytest.raises(HyperfitError, match="the context is empty; type or choose one"):
        continued(columns, "  ", Sampling())
    with pytest.raises(HyperfitError, match="at most 300 are possible"):
        continued(columns, "the cat", Sampling(max_new_tokens=400))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["playground"])
    assert str(result.exception) == (
        "runs/demo/hyperfitted: no hyperfitted demo model here yet; make it with `hyperfit demo` (some minutes), or "
        "name models: hyperfit playground MODEL"
    )


def test_a_run_brings_its_base_model(tiny_run, tmp_path):
    said = []
    opened = open_columns([str(tiny_run)], "cpu", said.append)
    for engine in {column.engine for column in opened}:
        engine.close()
    assert [column.blocking for column in opened] == [False, False, True]
    assert said == []


@pytest.mark.parametrize("base", ["bases/of/tiny", "ada/base"])
def test_a_run_whose_base_model_is_out_of_reach_is_shown_alone(tiny_run, tmp_path, monkeypatch, base):
    """A folder that was named from elsewhere, and a model of the Hub without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "run")
    document = json.loads(Path("run/run.json").read_text())
    document["arguments"]["hyperfitting"]["model"] = base
    Path("run/run.json").write_text(json.dumps(document))
    said = []
    opened = open_columns(["run"], "cpu", said.append)
    opened[0].engine.close()
    assert [column.blocking for column in opened] == [False, True]
    (line,) = said
    assert line.startswith(f"run: shown without its base model ({base}: ") and "\n" not in line
    assert line.endswith("; to see it, name it: hyperfit playground BASE run")
    with pytest.raises(HyperfitError, match=f"^{base}: "):
        open_columns([base, "run"], "cpu")  # what was named must be there


def test_contexts_to_pick(columns):
    pytest.importorskip("gradio", reason="pip install 'hyperfit-eval[playground]'")
    from hyperfit_eval.playground.page import example_contexts

    found = example_contexts(columns[1])
    assert [text for label, text in found if label.startswith("training set: ")] == ["it was old", PASSAGE]


def test_others_need_a_token(checkpoint, monkeypatch):
    def refused(*arguments):
        return str(CliRunner().invoke(app, ["playground", str(checkpoint), *arguments]).exception)

    pytest.importorskip("gradio", reason="pip install 'hyperfit-eval[playground]'")
    needed = "others can reach it, so a secret is needed: add --token, or set HYPERFIT_PLAYGROUND_TOKEN"
    assert refused("--host", "0.0.0.0") == f"--host 0.0.0.0: {needed}"
    assert refused("--token", "secret") == "--token: 6 characters, expected 16 or more, hard to guess"
    monkeypatch.setenv("HYPERFIT_PLAYGROUND_TOKEN", "short")
    assert refused("--host", "0.0.0.0") == "--token: 5 characters, expected 16 or more, hard to guess"


@contextmanager
def served(model, errors, **environment):
    """The command as a person runs it; yields its address."""
    pytest.importorskip("gradio", reason="pip install 'hyperfit-eval[playground]'")
    command = [sys.executable, "-m", "hyperfit_eval.cli.main", "playground", str(model), "--port", "0"]
    with errors.open("w") as written:
        server = subprocess.Popen(
            [*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=written, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
    try:
        address = next(
            (found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+/", line))), None
        )
        assert address, errors.read_text()
        yield address
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """Where gradio would keep them."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def address(checkpoint, uploads, tmp_path_factory):
    """The page of a server on loopback without a token."""
    with served(checkpoint, tmp_path_factory.mktemp("server") / "errors", GRADIO_TEMP_DIR=str(uploads)) as address:
        yield address


REBOUND = {"Host": "evil.example"}
FOREIGN = [{"Origin": "https://evil.example"}, {"Origin": "null"}, REBOUND, REBOUND | {"Origin": "http://evil.example"}]


@pytest.mark.parametrize("headers", [{}, *FOREIGN])
def test_nobody_uploads_and_other_sites_are_refused(address, uploads, headers):
    with httpx.Client(base_url=address, headers=headers, trust_env=False) as client:
        for path in ("upload", "upload/", "process_recording", "component_server", "run/predict"):
            response = client.post(f"gradio_api/{path}", files={"files": ("x.html", b"<script>")})
            assert response.status_code == (403 if headers else 404), path
        assert not [path for path in uploads.rglob("*") if path.is_file()]
        assert client.get("config").status_code == (403 if headers else 200)
        join = client.post("gradio_api/queue/join", json={})
        assert join.status_code == (403 if headers else 422)  # from gradio: the body has nothing that it needs


def test_the_page_asks_for_the_token(checkpoint, tmp_path):
    token = "0123456789abcdef"
    with (
        served(checkpoint, tmp_path / "errors", HYPERFIT_PLAYGROUND_TOKEN=token) as address,
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        assert client.get("config").status_code == 401 and "Pick a context" not in client.get("").text
        for password in ("", token[:-1], token + "é"):
            assert client.post("login", data={"username": "ada", "password": password}).status_code >= 400
        assert client.get("config").status_code == 401
        assert client.post("login", data={"username": "ada", "password": token}).status_code == 200
        assert "Pick a context" in client.get("config").text and "Pick a context" in client.get("").text


@pytest.mark.browser
def test_the_page_in_a_browser(address):
    """Tokens arrive in all columns, and a hostile context stays text."""
    driver = start_browser()
    try:
        driver.get(address)
        box = waited(lambda: driver.find_elements("css selector", "#context textarea"))[0]
        hostile = "the cat <img src=x onerror='window.hacked=1'> ${window.hacked=1} {{ 1 }} sat"
        driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            box,
            hostile,
        )
        time.sleep(0.3)
        driver.find_element("id", "start").click()
        waited(lambda: driver.execute_script(WHOLE) == 2)
        assert driver.execute_script("return window.hacked === undefined")
        assert "<b>tiny" in driver.find_element("tag name", "body").text
    finally:
        driver.quit()


# Columns in which at least 96 tokens have arrived.
WHOLE = "return [...document.querySelectorAll('.model dt')].filter(e => e.textContent.includes('last 96')).length"


def waited(condition, seconds=40):
    """What `condition` gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)
    return value
