"""The annotation server over HTTP: who may do what, what it tells, and many annotators at two processes."""

import csv
import io
import json
import random
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import preference_study as invented
import pytest
from hyperfit_annotate.access import access_for
from hyperfit_annotate.app import create_app
from starlette.testclient import TestClient
from typer.testing import CliRunner

from hyperfit_eval.cli.main import app as command
from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.preference.progress import progress
from hyperfit_eval.preference.store import Store
from hyperfit_eval.preference.study import CHOICES, read_study

TOKEN = "a-token-for-the-tests"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, invented.written(tmp_path, contexts=2, check_rate=0.1))
    yield store
    store.close()


@pytest.fixture
def client(store):
    """Of a server that only this machine reaches."""
    with TestClient(create_app(store, access_for("127.0.0.1", None)), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def public(store):
    """Of a server with a token."""
    with TestClient(create_app(store, access_for("0.0.0.0", TOKEN)), base_url="http://study.example") as client:
        yield client


def test_from_the_link_to_the_last_pair(client, store):
    me = bearer(client.post("/api/join", json={"name": "Ann"}).json()["token"])
    work = client.post("/api/next", headers=me).json()
    assert (work["state"], work["done"], work["left"], work["name"]) == ("pair", 0, 9, "Ann")  # one of them a check
    assert set(work["pair"]) == {"id", "context", "first", "second"}  # nothing tells the sides apart
    count = 0
    while work["state"] == "pair":
        pair = store.study.by_id[work["pair"]["id"]]
        assert (work["pair"]["first"], work["pair"]["second"]) == pair.shown
        body = {"pair": pair.id, "choice": "second", "seconds": 0.0}
        work = client.post("/api/answer", headers=me, json=body).json()
        count += 1
    assert work["state"] == "finished" and work["left"] == 0 and work["done"] == count == len(store.answers())
    for _ in range(2):  # sent again, where the reply was lost
        again = client.post("/api/undo", headers=me, json={"answer": work["last"]}).json()
        assert again["pair"]["id"] == pair.id and again["done"] == count - 1 and "notice" not in again
        assert again["last"] != work["last"]
    conflict = client.post("/api/answer", headers=me, json=body | {"pair": "0" * 16}).json()
    assert conflict["notice"] == "Not counted: this pair was not given to you."
    assert conflict["pair"]["id"] == pair.id


def test_joining_again_with_the_same_token_is_one_account(client, store):
    body = {"name": "Ann", "token": "0f" * 16}
    assert [client.post("/api/join", json=body).json() for _ in range(2)] == [{"token": "0f" * 16}] * 2
    assert [person.name for person in store.annotators()] == ["Ann"]
    assert client.post("/api/join", json=body | {"token": "short"}).status_code == 422
    one, two = (client.post("/api/join", json={"name": "Ann"}).json()["token"] for _ in range(2))
    assert one != two


def test_loopback_needs_no_invitation_and_takes_no_other_name(client):
    assert client.post("/api/join", json={"name": "Ann"}).status_code == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert client.post("/api/join", json={"name": "Eve"}, headers=headers).status_code == 403
        assert client.get("/", headers=headers).status_code == 403
    assert client.post("/api/join", json={"name": "Ann"}, headers={"Origin": "http://127.0.0.1"}).status_code == 200
    assert client.get("/api/admin/progress").status_code == 401


def test_with_a_token_every_door_is_shut(public):
    invitation = access_for("0.0.0.0", TOKEN).invitation
    assert public.post("/api/join", json={"name": "Ann"}).status_code == 401
    assert public.post("/api/join", json={"name": "Ann"}, headers=bearer("x")).status_code == 401
    mine = public.post("/api/join", json={"name": "Ann"}, headers=bearer(invitation)).json()["token"]
    for token in ("", invitation, mine, TOKEN[:-1]):
        for path in ("progress", "export/csv"):
            assert public.get(f"/api/admin/{path}", headers=bearer(token)).status_code == 401
        assert public.post("/api/admin/annotators", json={"name": "B"}, headers=bearer(token)).status_code == 401
    assert public.get("/api/admin/progress", headers=bearer(TOKEN)).json()["invitation"] == invitation
    for path in ("next", "undo", "answer"):
        for token in ("", invitation, TOKEN):
            body = {"pair": "x", "choice": "first"}
            assert public.post(f"/api/{path}", json=body, headers=bearer(token)).status_code == 401


def test_access():
    with pytest.raises(HyperfitError, match=r"--host 0.0.0.0: others can reach it, so a secret is needed: add --token"):
        access_for("0.0.0.0", None)
    with pytest.raises(HyperfitError, match="--token: 5 characters, expected 16 or more, hard to guess"):
        access_for("127.0.0.1", "short")
    assert access_for("::1", None).loopback and access_for("localhost", None).loopback
    assert not access_for("127.0.0.1", TOKEN).loopback  # a proxy may stand before it
    assert TOKEN not in repr(access_for("127.0.0.1", TOKEN))


def test_files_and_headers(client):
    for path, kind in (("/", "text/html"), ("/admin", "text/html"), ("/static/page.js", "text/javascript")):
        response = client.get(path)
        assert response.status_code == 200 and response.headers["content-type"].startswith(kind)
        assert "script-src 'self'" in response.headers["content-security-policy"]
    assert client.get("/static/..%2fapp.py").status_code == 404
    assert client.post("/api/join", content=b"x" * 20_000).status_code == 413
    assert client.post("/api/join", json={"name": ""}).json()["detail"] == "a name of 0 characters; expected 1 to 60"
    assert client.post("/api/join", json={}).json() == {"detail": "name: Field required"}
    assert client.head("/").status_code == client.head("/static/page.js").status_code == 200  # monitors ask so


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("join", '{"name": NaN}', "name nan: expected a valid string"),
        ("join", r'{"name": "a\ud800"}', r"name 'a\ud800': expected a valid string, unable to parse raw data as a"),
        ("join", r'{"name": "Ann", "token": "\udfff"}', r"token '\udfff': expected a valid string"),
        ("answer", '{"pair": "x", "choice": "first", "seconds": NaN}', "seconds nan: expected a finite number"),
        ("answer", '{"pair": "x", "choice": "first", "seconds": -Infinity}', "seconds -inf: expected a"),
        ("answer", r'{"pair": "\ud800", "choice": "first"}', r"pair '\ud800': expected a valid string"),
        ("answer", '{"pair": "x", "choice": Infinity}', "choice inf: expected 'first', 'second' or 'equal'"),
        ("undo", '{"answer": 1e999}', "answer inf: expected a finite number"),
        ("undo", "NaN", "body nan: expected a valid dictionary or object"),
        ("undo", "{", "body: not JSON, an object was expected"),
    ],
)
def test_what_is_wrong_with_a_call_is_said_in_one_line(client, path, body, detail):
    me = bearer(client.post("/api/join", json={"name": "Ann"}).json()["token"])
    response = client.post(f"/api/{path}", content=body, headers=me | JSON)
    assert response.status_code == 422 and response.json()["detail"].startswith(detail)


def test_a_disk_that_is_full_is_told_and_the_store_goes_on(client, store, monkeypatch):
    """The page sends what was not stored again after a status of 5xx."""
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    statuses = {client.post("/api/join", json={"name": f"{number:060}"}).status_code for number in range(200)}
    assert statuses == {200, 503}
    response = client.post("/api/join", json={"name": "Ann"})
    assert response.json() == {"detail": "the answers cannot be stored at the moment (database or disk is full)"}
    store._db.execute(f"PRAGMA max_page_count = {2 * pages}")
    assert client.post("/api/join", json={"name": "Ann"}).status_code == 200


def test_admin_page_and_exports(public, store):
    admin = bearer(TOKEN)
    empty = public.get("/api/admin/export/dataset", headers=admin)
    assert empty.json()["detail"] == "nothing was annotated yet, so there is no dataset"
    people = [
        public.post("/api/admin/annotators", json={"name": f"p{i}"}, headers=admin).json()["token"] for i in range(3)
    ]
    for token in people:
        work = public.post("/api/next", headers=bearer(token)).json()
        while work["state"] == "pair":
            body = {"pair": work["pair"]["id"], "choice": "first", "seconds": 0.001}
            work = public.post("/api/answer", headers=bearer(token), json=body).json()
    study = public.get("/api/admin/progress", headers=admin).json()
    assert (study["annotations"], study["wanted"], study["complete_pairs"], study["pairs"]) == (24, 24, 8, 8)
    assert study["alpha"] == pytest.approx(1) and study["kappa"] == pytest.approx(1) and study["open"] == 0
    assert study["by_model"] == {"base": 12, "hyper": 12} and study["hours_left"] == 0
    assert [row["name"] for row in study["annotators"]] == ["p0", "p1", "p2"]
    # Who runs the study is not told how it comes out: these are all, and none says which model people prefer.
    assert set(study) == {
        "pairs", "complete_pairs", "wanted", "annotations", "open", "undone", "last_hour", "median_seconds",
        "hours_left", "checks", "checks_failed", "alpha", "kappa", "by_model", "annotators", "invitation",
    }  # fmt: skip
    assert {frozenset(row) for row in study["annotators"]} == {
        frozenset({
            "annotator", "name", "last", "annotations", "checks", "checks_failed", "attentive", "first_position",
            "equal", "median_seconds",
        })
    }  # fmt: skip
    table = public.get("/api/admin/export/csv", headers=admin).content
    assert table.startswith(b"\xef\xbb\xbfpair,")  # spreadsheets need the mark, Python's "utf-8-sig" drops it
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"))))
    lines = public.get("/api/admin/export/jsonl", headers=admin).text.splitlines()
    assert json.loads(lines[0])["pair"] == rows[0]["pair"]
    assert len(rows) == len(lines) == len(store.answers()) and {row["choice"] for row in rows} == {"first"}
    archive = zipfile.ZipFile(io.BytesIO(public.get("/api/admin/export/dataset", headers=admin).content))
    assert set(archive.namelist()) == {"README.md", "data/annotations.jsonl"}
    assert "p0" not in archive.read("data/annotations.jsonl").decode()  # no names


def test_hours_left(store, monkeypatch):
    """A pair takes 20 s in the mean, 10 in the median; 21 of 24 annotations are left, a tenth of all are checks."""
    person = store.annotator(store.add_annotator("Ann")).id
    normal = {pair.id for pair in store.study.pairs if not pair.is_check}
    monkeypatch.setattr(store, "_random", random.Random(1))
    at = store._now()
    spent = []
    while len(spent) < 3:
        pair = store.next(person).pair
        if pair in normal:
            spent.append(40 if len(spent) == 2 else 10)
        at += 100
        monkeypatch.setattr(store, "_now", lambda now=at: now)
        store.answer(person, pair, "first", seconds=spent[-1] if pair in normal else None)
    counts = progress(store)
    assert counts.median_seconds == 10 and counts.hours_left == pytest.approx(20 * 21 / 0.9 / 3600)
    assert counts.alpha is None and counts.kappa is None  # nothing was annotated twice


def test_command_refuses_in_one_line(tmp_path):
    invented.written(tmp_path / "study")
    for arguments, message in (
        ([str(tmp_path / "none")], "none: no study there; make one with `hyperfit pairs"),
        ([str(tmp_path / "study"), "--host", "0.0.0.0"], "--host 0.0.0.0: others can reach it"),
        ([str(tmp_path / "study"), "--host", "192.0.2.1", "--token", TOKEN], "cannot be listened on"),
    ):
        result = CliRunner().invoke(command, ["annotate", *arguments])
        assert isinstance(result.exception, HyperfitError) and message in str(result.exception)


def test_a_broken_import_is_not_hidden(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hyperfit_annotate.app", None)
    assert isinstance(CliRunner().invoke(command, ["annotate", str(tmp_path)]).exception, ImportError)


def test_an_error_of_the_running_server_is_no_matter_of_the_address(tmp_path, monkeypatch):
    invented.written(tmp_path)

    def fail(self, sockets):
        raise OSError("disk")

    monkeypatch.setattr("hyperfit_annotate.app.Server.run", fail)
    result = CliRunner().invoke(command, ["annotate", str(tmp_path), "--port", "0"])
    assert isinstance(result.exception, OSError) and str(result.exception) == "disk"


@pytest.fixture
def servers(tmp_path):
    """Two processes of `hyperfit annotate` over one study, with their addresses."""
    invented.written(tmp_path, models=("base", "hyper"), contexts=15, scenarios=[128], check_rate=0.1)
    arguments = [sys.executable, "-m", "hyperfit_eval.cli.main", "annotate", str(tmp_path), "--port", "0"]
    started = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    yield [(process, process.stdout.readline().split()[-1]) for process in started]
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_sigterm_ends_it_with_half_a_body_on_the_way(servers):
    """The request that has arrived is answered; those that have not are cut off at once."""
    process, address = servers[0]
    here = urlsplit(address)
    head = f"POST /api/join HTTP/1.1\r\nHost: {here.netloc}\r\nContent-Type: application/json\r\n"
    with ExitStack() as connections:
        for sent in (f"{head}Content-Length: 90\r\n\r\n{{", head, ""):
            connection = connections.enter_context(socket.create_connection((here.hostname, here.port)))
            connection.sendall(sent.encode())
        assert httpx.post(f"{address}/api/join", json={"name": "Ann"}, trust_env=False).status_code == 200
        process.terminate()
        assert process.wait(20) == 0


def test_fifty_annotators_at_two_processes_of_which_one_is_killed(servers, tmp_path):
    """Every acknowledged answer is stored once, no pair gets more than three, and nobody sees a pair twice."""
    clients = [
        httpx.Client(base_url=address, timeout=60, limits=httpx.Limits(max_connections=60), trust_env=False)
        for _, address in servers
    ]
    acknowledged, failures, lock, people = [], [], threading.Lock(), 50
    ready = threading.Barrier(people)

    def call(person, path, headers, body):
        """At the annotator's server, or at the other one where that is gone."""
        for number in (person % 2, 1 - person % 2):
            try:
                response = clients[number].post(path, headers=headers, json=body)
                return response.raise_for_status().json()
            except httpx.TransportError:
                continue
        raise AssertionError("both servers are gone")

    def annotate(person):
        try:
            me = bearer(call(person, "/api/join", {}, {"name": f"p{person}"})["token"])
            ready.wait()
            seen = []
            work = call(person, "/api/next", me, {})
            while work["state"] != "finished":
                if work["state"] == "waiting":
                    time.sleep(0.05)
                    work = call(person, "/api/next", me, {})
                    continue
                pair, choice = work["pair"]["id"], CHOICES[(person + len(seen)) % 3]
                seen.append(pair)
                work = call(person, "/api/answer", me, {"pair": pair, "choice": choice, "seconds": 0})
                assert "notice" not in work
                with lock:
                    acknowledged.append((pair, f"p{person}", choice))
                    if len(acknowledged) == 40:
                        servers[0][0].kill()
            assert len(seen) == len(set(seen))
        except Exception as error:
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=annotate, args=(person,)) for person in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    assert not failures
    assert servers[0][0].wait(10) == -9
    store = Store(tmp_path, read_study(tmp_path))
    names = {person.id: person.name for person in store.annotators()}
    stored = [(answer.pair, names[answer.annotator], answer.choice) for answer in store.answers()]
    store.close()
    assert sorted(stored) == sorted(acknowledged)
    normal = {pair.id for pair in store.study.pairs if not pair.is_check}
    assert Counter(pair for pair, _, _ in stored if pair in normal) == dict.fromkeys(normal, 3)
