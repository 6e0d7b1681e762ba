"""What tells one content of a file from any other, found by several cores, and remembered as long as it holds."""

import hashlib
import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BufferedIOBase, BufferedReader
from itertools import cycle
from pathlib import Path

import msgspec
from msgspec import Struct

from maskrcnn.files import atomic_write

SIZE = hashlib.sha256().digest_size
BLOCK = 1 << 20
"""Bytes hashed at once; the fingerprint is the hash of the blocks' hashes."""
THREADS = 4
SETTLED = 2.0
"""Seconds after a change in which another one may get the same time: the coarsest clock of a file system."""


class State(Struct, frozen=True):
    """What the system changes with every change of a file; no program can set the last one."""

    number: int
    length: int
    modified_ns: int
    changed_ns: int


class Memory(Struct):
    """A fingerprint, and the state of the file that had it."""

    state: State
    fingerprint: str


def fingerprint(stream: BufferedIOBase, length: int) -> bytes:
    """Hash the next `length` bytes of a stream, or what is left of it where that is less."""
    finished: list[bytes] = []
    under_way: deque[Future[bytes]] = deque()
    blocks = [memoryview(bytearray(BLOCK)) for _ in range(2 * THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        for block in cycle(blocks):
            if len(under_way) == len(blocks):
                finished.append(under_way.popleft().result())
            count = stream.readinto(block[: min(BLOCK, length)])
            if not count:
                break
            length -= count
            under_way.append(pool.submit(_hash, block[:count]))
    return _hash(b"".join([*finished, *(one.result() for one in under_way)]))


def of_file(stream: BufferedReader, memory: Path) -> bytes:
    """Fingerprint of a whole file, from the file `memory` where that still holds.

    `memory` holds while the file is unchanged. It is not written where the file was changed so lately that a later
    change could go unnoticed, nor on Windows, which does not tell when a file was changed.
    """
    known = recall(stream, memory)
    if known is not None:
        return known
    state = _state(stream)
    found = fingerprint(stream, state.length)
    age = time.time() - max(state.modified_ns, state.changed_ns) / 1e9
    if age > SETTLED and state == _state(stream) and os.name == "posix":
        with suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(memory) as draft:
                draft.write_bytes(msgspec.json.encode(Memory(state, found.hex())))
    return found


def recall(stream: BufferedReader, memory: Path) -> bytes | None:
    """The fingerprint of a file that has not changed since it was written to `memory`."""
    with suppress(OSError, msgspec.DecodeError):
        known = msgspec.json.decode(memory.read_bytes(), type=Memory)
        if known.state == _state(stream):
            return bytes.fromhex(known.fingerprint)
    return None


def _state(stream: BufferedReader) -> State:
    state = os.fstat(stream.fileno())
    return State(state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def _hash(block: bytes | memoryview) -> bytes:
    return hashlib.sha256(block).digest()
