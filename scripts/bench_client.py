"""A server on loopback and clients that leave the cores to it; for bench_server.py."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def server(model: str | None, index: str | None, *options: str) -> Iterator[tuple[int, int]]:
    """`hyperfit serve` on a free port of loopback, ready; gives port and process id, stops it by SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hyperfit_eval.cli.main", "serve", *([model] if model else [])]
    command += [*(["--index", index] if index else []), "--port", str(port), "--dtype", "float32"]
    process = subprocess.Popen([*command, "--log-level", "warning", *options])
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None:
                    raise SystemExit(f"the server ended with status {process.returncode}") from None
                time.sleep(0.2)
        else:
            raise SystemExit("the server never became ready")
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=60)
    if status:
        raise SystemExit(f"the server ended with status {status}")


async def post(
    port: int, body: dict[str, Any], path: str = "/v1/completions", cut_after: dict[str, float] | None = None
) -> tuple[int, bytes]:
    """Status and body of one answer, over a connection of its own: a light client that leaves the cores alone.

    Args:
        cut_after: close the connection after so many "bytes" of the answer, or "seconds".
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        if cut_after:
            with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(cut_after.get("seconds")):
                    await reader.readexactly(int(cut_after.get("bytes", 1)))
            return 0, b""
        answer = await reader.read()
        top, _, rest = answer.partition(b"\r\n\r\n")
        if b"chunked" in top:
            rest = unchunked(rest)
        return int(top.split(b" ", 2)[1]), rest
    finally:
        writer.close()


def unchunked(data: bytes) -> bytes:
    """A chunked body put together."""
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        parts.append(data[:length])
        data = data[length + 2 :]
    return b"".join(parts)


def metrics(port: int) -> dict[str, float]:
    """The numbers without labels on /metrics."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    pairs = (line.split() for line in text.splitlines() if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}


def process_state(process: int) -> tuple[float, int]:
    """Resident memory in MiB and the number of threads (Linux)."""
    status = Path(f"/proc/{process}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"])
