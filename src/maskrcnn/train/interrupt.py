"""Ctrl-C and SIGTERM as a wish, which a training grants between two steps."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, NoReturn

SIGHUP: int | None = getattr(signal, "SIGHUP", None)
"""What comes when a terminal or a launcher has gone; Windows has none."""
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
REPEATED = 1.0
"""Seconds within which signals are one: batch systems send it to launcher and process, and launchers pass it on."""


class Stopped(KeyboardInterrupt):
    """A process was asked to stop.

    number   the signal
    """

    def __init__(self, number: int) -> None:
        super().__init__(describe(number))
        self.number = number


class StopRequest:
    """Whether somebody asked this process to stop. Used as a context, it receives SIGINT, SIGTERM and SIGHUP.

    While `deferring`, a first signal is only noted; at any other time it raises `Stopped`. A second one, more than
    `REPEATED` seconds later, calls `at_once`, or raises `Stopped` where there is none; SIGHUP is never a second one.
    A context in another one is that one. Outside the main thread Python receives no signals, and the wish is never
    raised.
    """

    _listening: ClassVar["StopRequest | None"] = None

    def __init__(self, at_once: Callable[[int], None] | None = None) -> None:
        self.number = 0
        """Signal that came first, here or in another process; 0 while there is no wish."""
        self.deferring = False
        self._at_once = at_once
        self._first = 0.0
        self._before: dict[int, Any] = {}

    @property
    def raised(self) -> bool:
        return self.number != 0

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self
        if StopRequest._listening is not None:
            return StopRequest._listening
        StopRequest._listening = self
        for number in (signal.SIGINT, signal.SIGTERM, SIGHUP):
            if number is not None and not (number == SIGHUP and signal.getsignal(number) == signal.SIG_IGN):  # nohup
                self._before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *error: object) -> None:
        if StopRequest._listening is self:
            StopRequest._listening = None
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; the handler of all of them."""
        now = time.monotonic()
        if self._first:
            if number != SIGHUP and now - self._first >= REPEATED:
                self.end(number)
            return
        self._first = now
        self.number = self.number or number
        if not self.deferring:
            raise Stopped(self.number)

    def end(self, number: int) -> None:
        """Grant a second wish."""
        if self._at_once is not None:
            self._at_once(self.number or number)
        raise Stopped(self.number or number)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A stretch in which a signal raises `Stopped` at once, also one that came before."""
        if self.raised:
            raise Stopped(self.number)
        self.deferring = False
        try:
            yield
        finally:
            self.deferring = True


def describe(number: int) -> str:
    """What became of a process that a signal stopped, in a word or a few."""
    return WORDS.get(signal.Signals(number), "stopped: its terminal or its launcher has gone")


def exit_code(number: int) -> int:
    """128 + the signal, as shells count: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


def leave_when_told() -> None:
    """Until a `StopRequest` listens, end this process at a signal with one line: modules are still being imported."""
    if threading.current_thread() is threading.main_thread():
        for number in WORDS:
            signal.signal(number, lambda number, _: leave(number, describe(number)))


def leave_at_once(number: int) -> NoReturn:
    """End this process now, whatever it and its threads are doing."""
    leave(number, "ended at once: what was not saved is lost")


def leave(number: int, sentence: str) -> NoReturn:
    shown = "\x1b[?25h\n" if sys.stderr is not None and sys.stderr.isatty() else ""  # a bar hides the cursor
    try:
        os.write(2, f"{shown}{sentence}\n".encode())
    finally:
        os._exit(exit_code(number))
