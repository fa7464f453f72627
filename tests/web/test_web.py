"""What all servers share: slow clients are closed, a stop ends, pages of other sites are refused."""

import asyncio
import logging
import os
import signal
import socket
import threading
from contextlib import contextmanager

import pytest
from server_live import wait_for

from hyperfit_eval.web.local import LocalOnly, foreign_site, is_loopback
from hyperfit_eval.web.server import Server, Timeouts

BRIEF = Timeouts(request=0.2, shutdown=0.4)
REQUEST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\nhi"


class Echo:
    """Answers with the body once `go_on` is set; counts what begins and whose client disconnects."""

    def __init__(self, answer=None):
        self.answer, self.began, self.gone = answer, 0, 0
        self.go_on = threading.Event()
        self.go_on.set()

    async def __call__(self, scope, receive, send):
        message = {"more_body": True}
        body = b""
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
        self.began += 1
        watch = asyncio.ensure_future(receive())
        while not self.go_on.is_set():
            if watch.done():
                self.gone += 1
                return
            await asyncio.sleep(0.01)
        watch.cancel()
        body = self.answer or body
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(app, timeouts=BRIEF):
    """The server in a thread, and a function that connects to it."""
    server = Server(app, timeouts)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_for(lambda: server.started)
        try:
            yield server, lambda: socket.create_connection(address, timeout=10)
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def read_all(client):
    data = b""
    while part := client.recv(1 << 16):
        data += part
    return data


def read_answer(client):
    """One answer of `REQUEST`, which may arrive in several pieces."""
    data = b""
    while not data.endswith(b"hi"):
        part = client.recv(1 << 16)
        assert part, data
        data += part
    return data


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST / HT",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        REQUEST + b"GET / HT",  # the second request on a connection
    ],
)
def test_a_request_that_does_not_arrive_is_given_up(sent, caplog):
    app = Echo()
    with serving(app) as (_, connect), connect() as client:
        client.sendall(sent)
        answered = read_all(client)
        assert answered.endswith(b"hi") if sent.startswith(REQUEST) else not answered
    assert app.gone == (b"Content-Length: 9" in sent or b"chunked" in sent)
    assert "cut off 127.0.0.1: its request had not arrived after 0.2 s" in caplog.text


def test_bytes_now_and_then_do_not_help():
    with serving(Echo()) as (_, connect), connect() as client, pytest.raises(OSError):
        for _ in range(200):
            client.sendall(b"x")
            threading.Event().wait(0.02)


def test_time_for_the_answer_is_not_counted():
    app = Echo()
    app.go_on.clear()
    with serving(app) as (_, connect), connect() as client:
        client.sendall(REQUEST)
        threading.Timer(2 * BRIEF.request, app.go_on.set).start()
        assert read_answer(client).startswith(b"HTTP/1.1 200")
        threading.Event().wait(2 * BRIEF.request)  # nor that between two requests
        client.sendall(REQUEST)
        assert read_answer(client).startswith(b"HTTP/1.1 200")


def test_an_answer_that_nobody_reads_is_given_up(caplog):
    with serving(Echo(b"x" * (64 << 20))) as (_, connect), connect() as client:
        client.sendall(REQUEST)
        wait_for(lambda: "it took nothing of its answer for 0.2 s" in caplog.text)


def test_half_a_connection_gets_its_answer_and_none_at_all_does_not():
    app = Echo()
    app.go_on.clear()
    with serving(app) as (_, connect), connect() as half, connect() as none:
        half.sendall(REQUEST)
        none.sendall(REQUEST)
        wait_for(lambda: app.began == 2)
        half.shutdown(socket.SHUT_WR)
        none.close()
        wait_for(lambda: app.gone == 1)
        app.go_on.set()
        answer = read_all(half)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nhi")
    assert app.gone == 1


def test_a_stop_answers_what_has_arrived_and_nothing_else(caplog):
    app = Echo()
    app.go_on.clear()
    with serving(app, Timeouts(60, 60)) as (server, connect), connect() as whole, connect() as part, connect() as idle:
        part.sendall(REQUEST[:-1])
        whole.sendall(REQUEST)
        wait_for(lambda: app.began == 1)
        server.stop()
        assert idle.recv(10) == b""
        assert app.gone == 0 and not caplog.text
        app.go_on.set()
        assert read_all(whole).endswith(b"hi")
        assert read_all(part) == b""
    assert caplog.messages == ["cut off 127.0.0.1: the server stopped before its request had arrived"]


def test_a_stop_has_an_end(caplog):
    app = Echo()
    app.go_on.clear()
    with serving(app) as (server, connect), connect() as client:
        client.sendall(REQUEST)
        wait_for(lambda: app.began == 1)
        server.stop()
        assert read_all(client) == b""
        wait_for(lambda: app.gone == 1)
    assert caplog.messages == ["cut off 127.0.0.1: its answer was not complete when the server stopped (0.4 s)"]


def test_a_signal_ends_the_server_and_not_the_process(caplog):
    stops = []

    async def main():
        server = Server(Echo(), BRIEF, on_stop=lambda: stops.append(1))
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.serve(sockets=[listener])

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert stops == [1]


HOST = "the Host header names another site than this machine (127.0.0.1, localhost)"
ORIGIN = "the request comes from a web page of another site (Origin header)"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, None),
        ({"host": "127.0.0.1:8080"}, None),
        ({"host": "LOCALHOST"}, None),
        ({"host": "[::1]:8080"}, None),
        ({"host": "127.9.9.9"}, None),
        ({"host": "evil.example:8080"}, HOST),
        ({"host": "127.0.0.1.evil.example"}, HOST),
        ({"host": "localhost@evil.example"}, HOST),
        ({"host": "[::"}, HOST),
        ({"host": ""}, HOST),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, None),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:3000"}, ORIGIN),
        ({"host": "127.0.0.1:8080", "origin": "https://evil.example"}, ORIGIN),
        ({"host": "127.0.0.1:8080", "origin": "null"}, ORIGIN),
        ({"origin": "http://127.0.0.1:8080"}, ORIGIN),
    ],
)
def test_pages_of_other_sites(headers, reason):
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert foreign_site(pairs) == reason

    async def status():
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "headers": pairs}
        await LocalOnly(Echo(b"hi"))(scope, lambda: asyncio.sleep(0, {"type": "http.request"}), send)
        return sent[0]["status"]

    assert asyncio.run(status()) == (403 if reason else 200)


def test_loopback_by_name_and_address():
    assert all(is_loopback(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost", "LocalHost."))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "", "example.org", "10.0.0.1", "localhost.evil.com"))
