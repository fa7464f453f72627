"""SIGTERM and Ctrl-C: save a checkpoint, then exit."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(SystemExit):
    """A run was told to stop, has saved a checkpoint, and the process is to end.

    Its code is what a shell reports of a process that the signal ended: 143 for SIGTERM, 130 for Ctrl-C.
    """

    def __init__(self, folder: Any, step: int, steps: int, number: int) -> None:
        super().__init__(128 + number)
        name = signal.Signals(number).name
        self.line = f"{name}: saved after update {step} of {steps} in {folder}; the same command goes on from there"


class Interruption:
    """Which signal has come, if any."""

    number: int | None = None


@contextmanager
def caught_signals() -> Iterator[Interruption]:
    """Note the first SIGTERM or SIGINT instead of dying of it; the second has its usual effect."""
    interruption = Interruption()
    # Python sets handlers in the main thread only; elsewhere signals keep their effect.
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        interruption.number = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
