"""Signals: everything that was accepted is answered, nothing more is taken, and the status is 0."""

import json
import signal
import threading
from datetime import datetime

import httpx
import pytest
from server_live import Served, wait_for

LONG = {
    "inputs": "The old house",
    "parameters": {"max_new_tokens": 150, "temperature": 1.5, "seed": 1, "details": True},
}


@pytest.mark.slow
def test_running_and_queued_requests_are_finished():
    with Served("--max-batch", 2, "--max-queue", 4, OMP_NUM_THREADS="1") as server:
        answers = []

        def ask(stream):
            answers.append(httpx.post(server.address, json={**LONG, "stream": stream}, timeout=60))

        threads = [threading.Thread(target=ask, args=(number % 2 == 1,)) for number in range(6)]
        for thread in threads:
            thread.start()
        wait_for(lambda: metrics(server)["hyperfit_queue_size"] == 4)
        refused = httpx.post(server.address, json=LONG)
        assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
        assert refused.headers["retry-after"] == "1"
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not accepts(server))
        assert not answers
        assert server.wait() == 0
        for thread in threads:
            thread.join()
    assert len(answers) == 6
    for answer in answers:
        assert answer.status_code == 200
        last = json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data:"))
        # EOS may end a sampled text early; in every case its end has come.
        assert last["details"]["finish_reason"] in ("length", "eos_token")
        assert last["generated_text"]
    records = [json.loads(line) for line in server.log]
    assert sum(record.get("status") == 200 and record["route"] == "/" for record in records) == 6
    # Nothing else is waited for, such as connections that are kept alive.
    last_answer, stopped = (datetime.fromisoformat(record["time"]) for record in records[-2:])
    assert records[-1]["message"] == "stopped"
    assert (stopped - last_answer).total_seconds() < 5


def metrics(server):
    lines = httpx.get(f"{server.address}/metrics").text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}


def accepts(server):
    try:
        httpx.get(f"{server.address}/health/live")
    except httpx.TransportError:
        return False
    return True
