"""Servers that listen on loopback: one in a thread, and the command `hyperfit serve` in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import uvicorn
from hyperfit_server.app import create_app


@contextmanager
def listening(state):
    """Serve a state in a thread; yields its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(state), log_config=None, access_log=False, lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


class Served:
    """`hyperfit serve` with some arguments, ready."""

    def __init__(self, *arguments, **environment):
        command = [sys.executable, "-m", "hyperfit_eval.cli.main", "serve", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
        )
        self.banner = self.process.stdout.readline()
        found = re.search(r"http://[\w.:\[\]]+\d", self.banner)
        if found is None:
            raise AssertionError(f"the server did not start: {self.process.communicate()}")
        self.address = found[0]
        # Standard error must be read, or the server would wait for its log to be.
        self.log = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.wait()

    def stop(self):
        """Send SIGTERM and wait for the end; gives the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        status = self.process.wait(timeout=60)
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return status


def wait_for(condition, seconds=30.0):
    """Until it is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not come true")
        time.sleep(0.01)
