"""`hyperfit judge` against a small HTTP server on loopback."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import preference_study as invented
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.preference.analysis import analyze
from hyperfit_eval.preference.judge import KEY_VARIABLE, Judge, judge_from, run_judge
from hyperfit_eval.preference.judge_answers import JudgeCounts, judge_path, looks_refused, read_judges
from hyperfit_eval.preference.study import CHOICES
from hyperfit_eval.preference.verdicts import INSTRUCTION, parse_verdict

KEY = "key-that-must-not-be-written"


class Endpoint(ThreadingHTTPServer):
    """Answers chat completions by a function of the request's body and its number, from 0."""

    daemon_threads = True
    retry_after = "0"

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.seen, self.keys, self.lock = reply, [], set(), threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            number = len(self.server.seen)
            self.server.seen.append(body)
            self.server.keys.add(self.headers["authorization"])
        status, answer = self.server.reply(body, number)
        assert self.path == "/v1/chat/completions"
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.send_header("retry-after", self.server.retry_after)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    servers = []

    def start(reply):
        servers.append(Endpoint(reply))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def said(text, **choice):
    return 200, {"model": "m-1", "choices": [{"message": {"content": text}, "finish_reason": "stop"} | choice]}


def prefers_the_longer(body, number):
    """A judge without side bias."""
    first, second = (body["messages"][1]["content"].split(f"<{side}>\n")[1] for side in ("first", "second"))
    first, second = first.split("\n</first>")[0], second.split("\n</second>")[0]
    return said(f"Reasons.\n\nVerdict: {'FIRST' if len(first) > len(second) else 'SECOND'}")


def judge(url, **settings):
    return Judge(url, "m", "m", waits=(0.01, 0.02), **settings)


READABLE = [
    "Verdict: FIRST", "verdict: first", "**Verdict: FIRST**", "**Verdict:** FIRST", "Verdict: **FIRST**",
    "__Verdict__: _FIRST_", "Verdict: FIRST.", "Verdict: FIRST!", "Verdict:FIRST", "Verdict : FIRST",
    "Verdict：FIRST。", "Verdict - FIRST", "## Verdict: FIRST", "### Final Verdict: FIRST", "3. **Verdict:** FIRST",
    "- Verdict: FIRST", "`Verdict: FIRST`", "```\nVerdict: FIRST\n```", '"Verdict: FIRST"', "Verdict: 'FIRST'",
    "Verdict: “FIRST”.", "Verdict: «FIRST»", "Verdict: „FIRST“", "「Verdict: FIRST」", "Verdict: [[FIRST]]",
    "Verdict: <first>",
    "## Verdict\n\nFIRST", "**Verdict:**\n**FIRST**", "Verdict: FIRST<|im_end|>", "Verdict: FIRST</s>",
    "Verdict: FIRST<end_of_turn>\n", "Verdict: FIRST<｜end▁of▁sentence｜>", "<b>Verdict: FIRST</b>",
    "Verdict: FIRST\n\n---",
    r"\boxed{FIRST}", r"Verdict: $\boxed{\text{FIRST}}$", r"\boxed{Verdict: FIRST}", r"\[\textbf{Verdict: FIRST}\]",
    '{"verdict": "FIRST"}', '```json\n{"reason": "It is, in \\"parts\\", alive.", "verdict": "FIRST"}\n```',
    '{\n  "Verdict": "first",\n  "confidence": 0.9\n}', "<verdict>FIRST</verdict>", "\ufeffVerdict:\u200b FIRST",
    "Verdict: FIRST\nVerdict: FIRST", "<think>Verdict: SECOND? No.\nVerdict: EQUAL\n</think>\nVerdict: FIRST",
    "One could write Verdict: SECOND, but no.\nVerdict: FIRST",
]  # fmt: skip


@pytest.mark.parametrize("reply", READABLE)
@pytest.mark.parametrize("choice", ["first", "second", "equal"])
def test_a_verdict_that_leaves_no_doubt(reply, choice):
    said = {"first": choice, "second": "equal" if choice == "second" else "second"}
    reply = re.sub("first|second", lambda match: said[match[0]], reply)
    reply = re.sub("FIRST|SECOND", lambda match: said[match[0].lower()].upper(), reply)
    assert parse_verdict(reply) == parse_verdict(f"It loops.\n{reply}\n\n") == choice


@pytest.mark.parametrize(
    "reply",
    [
        "", "FIRST", "Verdict:", "Verdict: FIRST or SECOND", "Verdict: FIRST/SECOND", "Verdict: FIRST, narrowly",
        "Verdict: FIRST?", "Verdict: not FIRST", "Verdict: !FIRST", "Verdict: ~~FIRST~~ SECOND", "Verdict: ~~FIRST~~",
        "Verdict: FIRSTLY", "Verdict: THIRD", "Verdict: 1", "The verdict: FIRST loops.", "> Verdict: FIRST",
        "Verdict: FIRST\nVerdict: SECOND", "**Verdict: FIRST**\n`Verdict: SECOND`", "Verdict: FIRST\nBut who knows?",
        "Verdict: FIRST (fluent)\nVerdict: SECOND", '{"verdict": "FIRST"}\nVerdict: SECOND',
        '{"verdict": "FIRST", "verdict": "SECOND"}', '{"verdict": ["FIRST", "SECOND"]}', '{"verdict": null}',
        r"\boxed{FIRST}" + "\n" + r"\boxed{SECOND}", "I was asked to end with “Verdict: FIRST”.",
        INSTRUCTION, INSTRUCTION.partition("\nVerdict: SECOND")[0], "<think>It loops.\nVerdict: FIRST</think>",
    ],
)  # fmt: skip
def test_a_reply_that_leaves_a_doubt_has_no_verdict(reply):
    assert parse_verdict(reply) is None


@given(st.text(alphabet=st.characters() | st.sampled_from('\n{}<>|*\\`"')), st.sampled_from(CHOICES))
def test_what_comes_before_gives_and_takes_no_verdict(reasons, choice):
    line = f"Verdict: {choice.upper()}"
    assert parse_verdict(reasons) is None
    assert parse_verdict(f"{reasons}\n{line}") == choice
    assert parse_verdict(f"Verdict: {'FIRST' if choice == 'equal' else 'EQUAL'}\n{reasons}\n{line}") is None


def test_answers_that_an_earlier_version_could_not_read_are_read(tmp_path, endpoint):
    invented.written(tmp_path, models=("base",), contexts=1, scenarios=[128])
    asked = judge(endpoint(lambda body, number: said("**Verdict: FIRST**")).url)
    run_judge(tmp_path, asked)
    path = judge_path(tmp_path, "m")
    written = path.read_text()
    path.write_text(
        written.replace('"verdict": "first"', '"verdict": null').replace('"status": "verdict"', '"status": "unparsed"')
    )
    again = run_judge(tmp_path, asked)
    assert again.counts().verdict == again.counts().answers == 2 and again.counts().unparsed == 0


def test_refusals():
    assert looks_refused("I'm sorry, but I can't compare these.") and looks_refused("I cannot help with that.")
    assert not looks_refused("The first is better.") and not looks_refused("Sorry texts, both.")


def test_both_orders_and_one_verdict_for_a_pair(tmp_path, endpoint):
    study = invented.written(tmp_path, models=("base",), contexts=3, check_rate=0.2)
    server = endpoint(prefers_the_longer)
    answers = run_judge(tmp_path, judge(server.url, api_key=KEY))
    assert len(server.seen) == 2 * len(study.pairs) and server.keys == {f"Bearer {KEY}"}
    assert server.seen[0]["temperature"] == 0 and server.seen[0]["model"] == "m"
    verdicts = answers.verdicts()
    for pair in study.pairs:
        if len(pair.original_text) != len(pair.other_text):
            first, second = pair.shown
            assert verdicts[pair.id] == ("first" if len(first) > len(second) else "second")
    assert KEY not in judge_path(tmp_path, "m").read_text() and KEY not in repr(judge(server.url, api_key=KEY))


def test_contradictions_failures_and_refusals_are_counted_apart(tmp_path, endpoint):
    study = invented.written(tmp_path, models=("base",), contexts=3, scenarios=[128])
    replies = [
        said("Verdict: FIRST"), said("Verdict: FIRST"),  # both times the first: follows the place
        said("Verdict: EQUAL"), said("I like both."),
        said("I'm sorry, but I can't do that."), said(None, message={"content": None, "refusal": "No."}),
    ]  # fmt: skip
    server = endpoint(lambda body, number: replies[number])
    answers = run_judge(tmp_path, judge(server.url, parallel=1))
    assert answers.counts() == JudgeCounts(
        answers=6, verdict=3, unparsed=1, refused=2, pairs=1, cut_off=0, contradictory=1, first_position=100
    )
    assert answers.verdicts() == {study.pairs[0].id: "equal"}
    filtered = endpoint(lambda body, number: (400, {"error": {"code": "content_filter", "message": "Filtered."}}))
    assert run_judge(tmp_path, Judge(filtered.url, "m", "other")).counts().refused == 6


def test_waits_and_tries_again(tmp_path, endpoint):
    invented.written(tmp_path, models=("base",), contexts=1, scenarios=[128])
    failures = {0: 429, 1: 503, 3: 500}
    server = endpoint(
        lambda body, number: (
            (failures[number], {"error": {"message": "busy"}}) if number in failures else said("Verdict: EQUAL")
        )
    )
    lines = []
    assert run_judge(tmp_path, judge(server.url, parallel=1), say=lines.append).counts().verdict == 2
    assert len(server.seen) == 5
    assert lines == [f"{server.url}: status 503 (busy); trying again in 0.02 s"]  # not the first, short wait


def test_waits_as_long_as_the_endpoint_asks(tmp_path, endpoint):
    invented.written(tmp_path, models=("base",), contexts=1, scenarios=[128])
    server = endpoint(lambda body, number: said("Verdict: EQUAL") if number else (429, {"error": {"message": "slow"}}))
    server.retry_after, started, lines = "0.5", time.monotonic(), []
    run_judge(tmp_path, judge(server.url, parallel=1), say=lines.append)
    assert time.monotonic() - started > 0.5 and lines[0].endswith("trying again in 0.5 s")


def test_answers_cut_off_are_counted(tmp_path, endpoint):
    invented.written(tmp_path, models=("base",), contexts=2, scenarios=[128])
    server = endpoint(lambda body, number: said("The first one", finish_reason="length" if number else "stop"))
    arguments = ["judge", str(tmp_path), "--base-url", server.url, "--model", "m"]
    output = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    assert "4 answers: 0 verdicts, 4 not parsed" in output and "3 answers were cut off before a verdict" in output
    report = CliRunner().invoke(app, ["preference", str(tmp_path)], catch_exceptions=False).output
    assert "judge m (not human): 0 judgements of 0 pairs" in report and "128 Pref" not in report


def test_settings_may_change_while_nothing_was_answered(tmp_path, endpoint):
    invented.written(tmp_path, models=("base",), contexts=1, scenarios=[128])
    with pytest.raises(HyperfitError, match="0 answers are kept"):
        run_judge(tmp_path, judge("http://127.0.0.1:9/v1"))
    server = endpoint(prefers_the_longer)
    answers = run_judge(tmp_path, judge(server.url, request={"max_tokens": 7}))
    assert len(answers.rows) == 2 and answers.header["request"] == {"max_tokens": 7}
    assert len(judge_path(tmp_path, "m").read_text().splitlines()) == 3


def test_goes_on_where_it_stopped(tmp_path, endpoint):
    study = invented.written(tmp_path, models=("base",), contexts=3, scenarios=[128])

    def reply(body, number):
        return prefers_the_longer(body, number) if number < 4 else (500, b"down")

    server = endpoint(reply)
    with pytest.raises(
        HyperfitError, match=r"status 500 \(down\), also after waiting; 4 answers are kept, the same com"
    ):
        run_judge(tmp_path, judge(server.url, parallel=1))
    path = judge_path(tmp_path, "m")
    path.write_bytes(path.read_bytes() + b'{"pair": "cut of')  # killed while it wrote
    server.reply = prefers_the_longer
    before = len(server.seen)
    answers = run_judge(tmp_path, judge(server.url))
    assert len(server.seen) - before == 2 and len(answers.rows) == 6
    assert len(read_judges(tmp_path, study)[0].verdicts()) == 3
    assert run_judge(tmp_path, judge(server.url)).counts().answers == 6 and len(server.seen) - before == 2
    with pytest.raises(HyperfitError, match="its answers were made with model 'm', not 'm2'; give another --name"):
        run_judge(tmp_path, Judge(server.url, "m2", "m"))


def test_errors_are_one_line_and_lose_nothing(tmp_path, endpoint):
    invented.written(tmp_path, models=("base",), contexts=1, scenarios=[128])
    nobody = judge("http://127.0.0.1:9/v1")
    refusing = endpoint(lambda body, number: (401, {"error": {"message": f"Incorrect key: {KEY}"}}))
    strange = endpoint(lambda body, number: (200, b"<html>hello"))
    user = judge(refusing.url.replace("http://", "http://me:secret@"))
    for asked, message in (
        (nobody, r"http://127.0.0.1:9/v1: cannot be reached \(.*refused\), also after waiting; 0 answers are kept"),
        (judge(refusing.url, api_key=KEY), rf"status 401 \(Incorrect key: \*\*\*\); set {KEY_VARIABLE}; 0 answers"),
        (judge(strange.url), "its answer is no chat completion .*<html>hello.*; is it an OpenAI-compatible endpoint"),
        (user, "http://127.0.0.1:[0-9]+/v1: status 401"),
    ):
        judge_path(tmp_path, "m").unlink(missing_ok=True)
        started = time.monotonic()
        with pytest.raises(HyperfitError, match=message) as error:
            run_judge(tmp_path, asked)
        assert "\n" not in str(error.value) and "secret" not in str(error.value)
        assert time.monotonic() - started < 5
    assert "secret" not in judge_path(tmp_path, "m").read_text()


def test_settings(monkeypatch):
    common = {"name": None, "parallel": 1, "timeout": 1.0}
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    made = judge_from("https://h/v1/", "m", body='{"max_tokens": null, "seed": 1}', **common)
    assert made.request == {"temperature": 0, "seed": 1} and made.api_key == KEY and made.shown_url == "https://h/v1"
    with pytest.raises(HyperfitError, match="--base-url localhost:8000: expected http:// or https://"):
        judge_from("localhost:8000", "m", body=None, **common)
    with pytest.raises(HyperfitError, match="--body: expected a JSON object without model, messages, stream and n"):
        judge_from("http://h", "m", body='{"model": "x"}', **common)


URLS = ["http://h:99999/v1", "http://[::1/v1", "http://h:port/v1", "http://:80/v1", "http://me:secret@h:0/v1?k=secret"]


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_is_none(url):
    with pytest.raises(HyperfitError, match=r"--base-url http://.*: expected http:// or https://, such as") as error:
        judge_from(url, "m", name=None, body=None, parallel=1, timeout=1.0)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r"])
def test_a_key_is_stripped(monkeypatch, end):
    monkeypatch.setenv(KEY_VARIABLE, KEY + end)
    assert judge_from("http://h", "m", name=None, body=None, parallel=1, timeout=1.0).api_key == KEY


@pytest.mark.parametrize("key", [f"{KEY}\nmore", f"{KEY} more", f"{KEY}\u00e9", f"{KEY}\x07x"])
def test_a_key_that_no_header_can_carry(monkeypatch, key):
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(HyperfitError, match=f"{KEY_VARIABLE}: white space or a character that is not ASCII") as error:
        judge_from("http://h", "m", name=None, body=None, parallel=1, timeout=1.0)
    assert KEY not in str(error.value) and "\n" not in str(error.value)


def test_an_endpoint_that_repeats_the_key(tmp_path, endpoint):
    """In a reply, a refusal, a filter's message and what is no completion at all; also where a cut would halve it."""
    invented.written(tmp_path, models=("base",), contexts=1, scenarios=[128])
    path = judge_path(tmp_path, "m")
    long = "x" * 190 + KEY
    for reply in (
        said(f"{KEY}\nVerdict: EQUAL"), said(None, message={"content": None, "refusal": f"No, {KEY}."}),
        (400, {"error": {"code": "content_filter", "message": long}}),
    ):  # fmt: skip
        run_judge(tmp_path, judge(endpoint(lambda body, number, reply=reply: reply).url, api_key=KEY))
        text = path.read_text()
        assert KEY[:8] not in text and "***" in text
        path.unlink()
    for reply in ((200, f"<html>{KEY}".encode()), (200, ("y" * 70 + KEY).encode()), (403, long.encode())):
        with pytest.raises(HyperfitError) as error:
            run_judge(tmp_path, judge(endpoint(lambda body, number, reply=reply: reply).url, api_key=KEY))
        assert KEY[:8] not in str(error.value)
        path.unlink()


def test_results_stay_apart_from_peoples(tmp_path, endpoint):
    from hyperfit_eval.preference.store import Store

    study = invented.written(tmp_path, models=("base",), contexts=4, scenarios=[128], check_rate=0.2)
    server = endpoint(prefers_the_longer)
    arguments = ["judge", str(tmp_path), "--base-url", server.url, "--model", "m/1", "--name", "long", "--limit", "9"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "verdicts, 0 not parsed, 0 refusals;" in result.output
    alone = analyze(tmp_path)
    assert alone.human.all is None and list(alone.judges) == ["long"]
    assert alone.judges["long"].agreement_with_humans.pairs == 0
    store = Store(tmp_path, study)
    person = store.annotator(store.add_annotator("Ann")).id
    for _ in range(3):
        store.answer(person, store.next(person).pair, "first")
    store.close()
    both = analyze(tmp_path)
    assert both.judges["long"].estimates.preference == alone.judges["long"].estimates.preference
    assert both.human.all.annotations <= 3
    assert "|by:judge:long|" in both.judges["long"].estimates.preference["base"]["128"]["all"].signature
    assert 0 < both.judges["long"].agreement_with_humans.pairs <= 3
