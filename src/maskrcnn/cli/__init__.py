"""The command `maskrcnn`. Each command imports what it needs when it runs, so that help answers at once."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from maskrcnn.cli.app import app
from maskrcnn.files import as_sentence, by_archive
from maskrcnn.runtime.ranks import find_ranks
from maskrcnn.sentences import Note, printable
from maskrcnn.terminal import guarded

PACKAGE = Path(__file__).parents[1]
_usual_format = warnings.formatwarning
INTERRUPTED = 130
"""128 + SIGINT, as shells count."""
UNREAD = 141
"""128 + SIGPIPE: whoever read the output has left."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 2 refused with a sentence on stderr, 130 interrupted."""
    run_and_exit(lambda: app(None if arguments is None else list(arguments), prog_name="maskrcnn"))


def run_and_exit(command: Callable[[], object]) -> NoReturn:
    """Run a command: here alone an error becomes a sentence; MASKRCNN_DEBUG=1 shows where it was raised."""
    warnings.formatwarning = _as_sentence
    warnings.filterwarnings("ignore", module=r"PIL\.")  # blemishes of a file that they do not name
    # Threads that wait for each other look 10,000 times, then leave their core to other programs: waiting longer slowed
    # training ten times where another program had one of two cores, waiting less slows it where none has.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        _written(command)
    except KeyboardInterrupt:
        _stop("interrupted", INTERRUPTED)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            _end_unread()
        if end.code == INTERRUPTED:
            _stop("interrupted", INTERRUPTED)
        raise
    except BrokenPipeError:
        _end_unread()
    except (ValueError, TypeError, OSError, FloatingPointError, MemoryError) as error:
        if os.environ.get("MASKRCNN_DEBUG", "0") != "0":
            raise
        _stop("\n".join(map(printable, f"error: {by_archive(as_sentence(error))}".split("\n"))), 2)
    sys.exit(0)


def _as_sentence(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """What the package warns of, without the line that says so; notes once; warnings of other packages as they are."""
    if issubclass(category, Note):
        return f"{by_archive(str(message))}\n" if find_ranks(os.environ).rank == 0 else ""
    if PACKAGE in Path(filename).parents:
        return f"warning: {message}\n"
    return _usual_format(message, category, filename, lineno, line)


def _written(command: Callable[[], object]) -> None:
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
