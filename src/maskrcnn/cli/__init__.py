"""The command `maskrcnn`. Each command imports what it needs when it runs, so that help answers at once.

Signals are heeded from the first line on: nothing that takes time is imported before `be_ready`.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from maskrcnn.train.interrupt import StopRequest, describe, exit_code, leave_at_once, leave_when_told

PACKAGE = os.path.dirname(os.path.dirname(__file__))
_usual_format = warnings.formatwarning
INTERRUPTED = 130
"""128 + SIGINT, as shells count: what typer makes of a KeyboardInterrupt."""
SAID = (ValueError, TypeError, OSError, FloatingPointError, MemoryError)
"""Errors that are told as a sentence."""
UNREAD = 141
"""128 + SIGPIPE: whoever read the output has left."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 2 refused with a sentence on stderr, 130 after Ctrl-C, 143 after SIGTERM."""
    be_ready()
    from maskrcnn.cli.app import app

    run_and_exit(lambda: app(None if arguments is None else list(arguments), prog_name="maskrcnn"))


def be_ready() -> None:
    """End with one line at a signal from here on, and under `mpirun` outlive it for as long as a checkpoint takes."""
    leave_when_told()
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        from maskrcnn.runtime.shelter import shelter

        shelter()


def run_and_exit(command: Callable[[], object]) -> NoReturn:
    """Run a command: here alone an error becomes a sentence; MASKRCNN_DEBUG=1 shows where it was raised.

    A second signal ends the process at once.
    """
    warnings.formatwarning = _as_sentence
    warnings.filterwarnings("ignore", module=r"PIL\.")  # blemishes of a file that they do not name
    # Threads that wait for each other look 10,000 times, then leave their core to other programs: waiting longer slowed
    # training ten times where another program had one of two cores, waiting less slows it where none has.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    with StopRequest(leave_at_once) as wish:
        try:
            _written(command)
        except BaseException as error:
            _end(error, wish)
    sys.exit(0)


def _end(error: BaseException, wish: StopRequest) -> NoReturn:
    """Say in a sentence why a command did not end well, and exit."""
    is_unread = isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError)
    is_interrupt = isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == INTERRUPTED)
    if wish.raised and (is_interrupt or is_unread or not isinstance(error, SAID) or isinstance(error, ConnectionError)):
        _stop(describe(wish.number), exit_code(wish.number))  # whatever an interrupted import makes of it
    if is_interrupt:
        _stop("interrupted", INTERRUPTED)
    if is_unread and isinstance(error, BrokenPipeError | SystemExit):
        _end_unread()
    if isinstance(error, SAID) and os.environ.get("MASKRCNN_DEBUG", "0") == "0":
        _stop(_sentence(error), 2)
    raise error


def _sentence(error: Exception) -> str:
    from maskrcnn.files import as_sentence, by_archive
    from maskrcnn.sentences import printable

    return "\n".join(map(printable, f"error: {by_archive(as_sentence(error))}".split("\n")))


def _as_sentence(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """What the package warns of, without the line that says so; notes once; warnings of other packages as they are."""
    from maskrcnn.files import by_archive
    from maskrcnn.runtime.ranks import find_ranks
    from maskrcnn.sentences import Note

    if issubclass(category, Note):
        return f"{by_archive(str(message))}\n" if find_ranks(os.environ).rank == 0 else ""
    if filename.startswith(PACKAGE + os.sep):
        return f"warning: {message}\n"
    return _usual_format(message, category, filename, lineno, line)


def _written(command: Callable[[], object]) -> None:
    from maskrcnn.terminal import guarded

    try:
        with guarded():
            command()
    finally:
        sys.stdout.flush()


def _end_unread() -> NoReturn:
    """End in silence; what is still to be written goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(UNREAD)


def _stop(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr, flush=True)
    sys.exit(code)
