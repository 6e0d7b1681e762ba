"""A pulse of each process of a run, by which one that hangs is noticed within a minute and named.

Every process sends a line a second to the first one, and the first one to all, from a thread and over sockets of
their own: a main thread that waits in a collective, compiles or computes is heard all the same. A process that dies
closes its socket, and is no concern of this module: its collectives fail at once.
"""

import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

PERIOD = 1.0
"""Seconds between two lines of a process."""
PATIENCE = 35.0
"""Seconds of silence after which a process counts as hung. Decoders that hold the interpreter's lock were silent for
15; a launcher that waits 20 seconds for the others still ends within a minute."""
LATER = 5.0
"""Seconds that other processes leave the second one to speak of the first, and between looks at one that is silent."""
BUSY = 0.1
"""Share of a core that a silent process of this machine uses where it computes under the interpreter's lock."""
LONGEST = 65536
"""Bytes that are read at once, and of which some end a line, if a process of this run wrote them."""
CONNECTING = 10.0
"""Seconds in which the first process must be reached."""
LOOPBACK = ("127.0.0.1", "localhost")
"""Names by which a machine calls itself alone."""
FAILED = 2
"""Exit code, as of other errors."""


class Pulse(msgspec.Struct, frozen=True):
    """What a process says of itself."""

    rank: int
    host: str
    machine: str
    """Where process ids mean the same."""
    pid: int
    doing: str
    secret: int
    """Known to the processes of a run alone."""
    hung: tuple[tuple[str, int], ...] = ()
    """Machine and process id of those that the first process found hanging; with them it ends the run."""


class Peer:
    """Another process, as far as it was heard."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.pulse: Pulse | None = None
        """The last one; None until the first."""
        self.silence = 0.0
        """Seconds for which this process has heard nothing; those in which it was itself stopped do not count."""
        self.used: float | None = None
        """Seconds of computing at the last look, if it was silent."""
        self._rest = b""

    def hear(self, content: bytes, secret: int) -> None:
        """Take what has come. Raises ValueError where no process of this run wrote it."""
        *lines, self._rest = (self._rest + content).split(b"\n")
        if lines:
            pulse = msgspec.json.decode(lines[-1], type=Pulse)
            if pulse.secret != secret:
                raise ValueError("a stranger")
            self.pulse, self.silence, self.used = pulse, 0.0, None
        elif len(self._rest) > LONGEST:
            raise ValueError("no line")


class Heart:
    """This process's pulse, and its watch: the first process's over all others, theirs over the first."""

    def __init__(
        self,
        rank: int,
        size: int,
        secret: int,
        *,
        ear: socket.socket | None = None,
        lines: Iterable[socket.socket] = (),
    ) -> None:
        """A heart that beats until `stop`.

        ear     where others connect, on the first process
        lines   to others that are connected already
        """
        self.rank, self.size, self.secret = rank, size, secret
        self.doing = "starting"
        """What the main thread is busy with, for the others' sentence if it hangs."""
        self.tell: Callable[[str], None] | None = None
        """Told, too, why the run ends."""
        self._machine, self._host = this_machine(), socket.gethostname()
        self._patience = PATIENCE if rank <= 1 else PATIENCE + LATER
        self._stopped = threading.Event()
        self._sockets = selectors.DefaultSelector()
        if ear is not None:
            ear.setblocking(False)
            self._sockets.register(ear, selectors.EVENT_READ)
        for line in lines:
            self._watch(line)
        self._send()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Leave the others, which do not miss this process any more."""
        self._stopped.set()

    def _beat(self) -> None:
        while not self._stopped.is_set():
            begin = time.monotonic()
            self._listen(begin + PERIOD)
            self._send()
            # Where all processes were stopped and go on, the time between is nobody's silence.
            self._count(min(time.monotonic() - begin, 2 * PERIOD))
        for key in list(self._sockets.get_map().values()):
            self._leave(key.fileobj)
        self._sockets.close()

    def _peers(self) -> Iterator[Peer]:
        return (key.data for key in list(self._sockets.get_map().values()) if key.data is not None)

    def _watch(self, line: socket.socket) -> None:
        line.setblocking(False)
        self._sockets.register(line, selectors.EVENT_READ, Peer(line))

    def _leave(self, line: object) -> None:
        assert isinstance(line, socket.socket)
        self._sockets.unregister(line)
        line.close()

    def _listen(self, until: float) -> None:
        """Hear who speaks, at least those that have spoken already."""
        while True:
            for key, _ in self._sockets.select(max(0.0, until - time.monotonic())):
                self._hear(key)
            if time.monotonic() >= until:
                return

    def _hear(self, key: selectors.SelectorKey) -> None:
        assert isinstance(key.fileobj, socket.socket)
        if key.data is None:
            with suppress(OSError):
                self._watch(key.fileobj.accept()[0])
            return
        try:
            content = key.fileobj.recv(LONGEST)
            key.data.hear(content, self.secret)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            content = b""
        if not content:
            self._leave(key.fileobj)
        elif key.data.pulse is not None:
            self._end_those(key.data.pulse.hung)

    def _send(self, hung: Sequence[Pulse] = ()) -> None:
        named = tuple((one.machine, one.pid) for one in hung)
        pulse = Pulse(self.rank, self._host, self._machine, os.getpid(), self.doing, self.secret, named)
        content = msgspec.json.encode(pulse) + b"\n"
        for peer in self._peers():
            with suppress(OSError):  # who does not read has had enough to read, or is gone
                peer.line.send(content)

    def _count(self, elapsed: float) -> None:
        """Add to everyone's silence; end the run where one hangs."""
        hung = []
        for peer in self._peers():
            peer.silence += elapsed
            if peer.pulse is not None and peer.silence > self._patience and not self._computes(peer):
                hung.append(peer.pulse)
        if hung and not self._stopped.is_set():
            self._end(hung)

    def _computes(self, peer: Peer) -> bool:
        """Whether a silent process of this machine is busy: a decoder may hold the interpreter's lock for long."""
        assert peer.pulse is not None
        before, peer.used = peer.used, seconds_used(peer.pulse.pid) if peer.pulse.machine == self._machine else None
        computes = peer.used is not None and (before is None or peer.used - before > BUSY * LATER)
        if computes:
            peer.silence = self._patience - LATER
        return computes

    def _end(self, hung: Sequence[Pulse]) -> None:
        """Say who hangs, and end the run: the main thread may wait for it for ever."""
        sentences = [self._sentence(one) for one in hung]
        os.write(2, "".join(f"error: {one}\n" for one in sentences).encode())
        closing = threading.Thread(target=self._close_books, args=(sentences,), daemon=True)
        closing.start()
        closing.join(PERIOD)  # a disk or a pipe may hang, too
        self._send(hung)
        self._end_those((one.machine, one.pid) for one in hung)
        os._exit(FAILED)

    def _sentence(self, one: Pulse) -> str:
        return (
            f"process {one.rank} of {self.size} (pid {one.pid} on {one.host}) hangs or was stopped: it was not heard "
            f"of for {self._patience:.0f} seconds; the last that it said was: {one.doing}. All processes of the run end"
        )

    def _close_books(self, sentences: Sequence[str]) -> None:
        if self.tell is not None:
            for sentence in sentences:
                self.tell(f"failed: {sentence}")
        sys.stdout.flush()
        sys.stderr.flush()

    def _end_those(self, processes: Iterable[tuple[str, int]]) -> None:
        """Kill those of this machine, for which a launcher would wait: one that is stopped hears of no other signal."""
        for machine, pid in processes:
            if machine == self._machine and pid != os.getpid():
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


def listen(*, alone: bool, size: int) -> socket.socket:
    """Open a port for the others' hearts.

    alone   all of them run on this machine
    """
    if alone:
        return socket.create_server(("127.0.0.1", 0), backlog=size)
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("", 0), family=socket.AF_INET6, backlog=size, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=size)


def this_machine() -> str:
    """What two processes have in common that can send signals to each other, nothing where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {os.getpid()}"


def seconds_used(pid: int) -> float | None:
    """Seconds that a process of this machine has computed so far; None where it is stopped, or nothing is known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "Tt" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def join(rank: int, size: int, host: str, share: Callable[[Sequence[float]], Sequence[float]]) -> Heart | None:
    """Begin to beat. Every process calls this; without a connection to the first one a process goes on unwatched.

    host    the first process's machine
    share   gives every process the first one's numbers
    """
    ear = listen(alone=host in LOOPBACK, size=size) if rank == 0 else None
    port, secret = share([ear.getsockname()[1], secrets.randbelow(2**53)] if ear else [0, 0])
    if ear is not None:
        return Heart(rank, size, int(secret), ear=ear)
    try:
        line = socket.create_connection((host, int(port)), timeout=CONNECTING)
    except OSError as error:
        warnings.warn(
            f"process {rank} of {size} cannot reach port {port:.0f} of {host} ({error}), so nobody will notice if it "
            "hangs; open the ports above 1024 between the machines",
            stacklevel=2,
        )
        return None
    return Heart(rank, size, int(secret), lines=[line])
