"""Ctrl-C and SIGTERM as a wish that is granted between two steps."""

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Whether somebody asked this process to stop. Used as a context, it receives SIGINT and SIGTERM.

    While `deferring`, a first signal is only noted in `raised`; a second one, or one at any other time, raises
    KeyboardInterrupt. Outside the main thread Python receives no signals, and the wish is never raised.
    """

    def __init__(self) -> None:
        self.raised = False
        self.deferring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.raised or not self.deferring:
            raise KeyboardInterrupt
        self.raised = True
