"""Pickles of numpy arrays, as Detectron2 and Caffe2 publish their weights, read without running what they name.

A pickle is a program: it names functions and calls them. Here no name leads to a function of Python or numpy. The few
that stand for arrays lead to the classes below, which take plain data and check it; any other is refused.
"""

import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

PLAIN = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c(8|16))|[?bBhHiIlLqQefdFD]")
"""Data types of numbers. Objects, text, dates and records are refused: objects could hold anything."""
REFUSED = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER"}
"""Instructions that no pickle of arrays needs: objects from elsewhere, and instances of classes."""
MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}


def read_pickle(path: str | Path) -> object:
    """What a pickle of dictionaries, lists, numbers, text and numpy arrays holds, of any protocol, from Python 2 too.

    Arrays have this machine's byte order. Sizes are checked before anything is made of them.
    Raises FileNotFoundError where there is no file, ValueError where it holds anything else or is not complete.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} (working directory {Path.cwd()}); give the path of a .pkl file")
    with path.open("rb") as stream:
        try:
            _check(stream)
            stream.seek(0)
            return _plain(_Unpickler(stream).load(), {})
        except _Refused as error:
            raise ValueError(f"{path} {error}; pickles of plain numpy arrays are read, nothing else was run") from None
        except Exception as error:  # pickle raises a dozen kinds on damaged files
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{path} is not a complete pickle of numpy arrays ({reason}); copy it again") from error


class _Refused(ValueError):
    """Says what a file holds that is not an array."""


class _Stand:
    """Takes the place of a function of numpy; it has no attributes to set and no state to restore."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Refused("changes a function")


class _Kind:
    """A data type: `dtype("f4", False, True)` and then its state, of which only the byte order means something."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, align: object = False, copy: object = True) -> None:
        if not isinstance(code, str) or PLAIN.fullmatch(code) is None:
            raise _Refused(f"holds values of type {str(code)[:40]!r}, which are not numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        order, parts = (state[1], state[2:5]) if isinstance(state, tuple) and len(state) >= 5 else (None, ())
        if order not in ("<", ">", "=", "|") or any(part is not None for part in parts):
            raise _Refused("describes values that are not single numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array: made empty, then filled by its state."""

    __slots__ = ("array",)

    def __init__(self, kind: object = None, shape: object = None, code: object = None) -> None:
        if kind is not ARRAY:
            raise _Refused("makes an array of a class of its own")
        self.array = np.zeros(0)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("holds an array whose state is not (version, shape, type, order, bytes)")
        _, shape, kind, fortran, raw = state
        self.array = _array(raw, kind, shape, "F" if fortran else "C")


class _Table(dict):
    """An ordered dictionary; its further attributes (torch's `_metadata`) are left out."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


def _array(raw: object, kind: object, shape: object, order: object = "C") -> np.ndarray:
    """The bytes as numbers; as many as the shape says."""
    if not isinstance(kind, _Kind):
        raise _Refused("holds an array without a data type")
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise _Refused("holds an array whose shape is not made of whole numbers")
    if order not in ("C", "F"):
        raise _Refused("holds an array in an order that is neither C nor F")
    data = raw.encode("latin1") if isinstance(raw, str) else raw  # text: the bytes of Python 2
    if not isinstance(data, bytes | bytearray):
        raise _Refused("holds an array whose values are not bytes")
    expected = math.prod(shape) * kind.dtype.itemsize
    if len(data) != expected:
        raise _Refused(f"is damaged: an array of {shape} needs {expected} bytes and has {len(data)}")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order).astype(kind.dtype.newbyteorder("="))


def _scalar(kind: object, raw: object = b"") -> Any:
    return _array(raw, kind, ())[()]


def _encode(text: object, codec: object) -> bytes:
    """Bytes as protocol 2 spells them."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise _Refused(f"calls for the codec {str(codec)[:40]!r}")
    return text.encode("latin1")


def _empty() -> bytes:
    """No bytes, as protocol 2 spells them."""
    return b""


def _no_array(*arguments: object) -> None:
    raise _Refused("makes an array other than by its bytes")


ARRAY = _Stand(_no_array)
_NUMPY = {
    ("multiarray", "_reconstruct"): _Stand(_Array),
    ("multiarray", "scalar"): _Stand(_scalar),
    ("numeric", "_frombuffer"): _Stand(_array),
}
STANDS = {
    ("numpy", "ndarray"): ARRAY,
    ("numpy", "dtype"): _Stand(_Kind),
    ("collections", "OrderedDict"): _Stand(_Table),
    ("_codecs", "encode"): _Stand(_encode),
    ("__builtin__", "bytes"): _Stand(_empty),
    **{(f"numpy.{core}.{part}", name): stand for core in ("core", "_core") for (part, name), stand in _NUMPY.items()},
}
"""(module, name) in a pickle -> what takes its place."""


class _Unpickler(pickle.Unpickler):
    """Knows the names of `STANDS` and no others."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        stand = STANDS.get((module, name))
        if stand is None:
            raise _Refused(f"asks for {module}.{name}")
        return stand

    def persistent_load(self, pid: object) -> Any:
        raise _Refused("refers to objects outside itself")


def _check(stream: BinaryIO) -> None:
    """Walk the instructions without following them; lengths beyond the end of the file end the walk with an error.

    A memo's slot is numbered by the file, and the reader makes room for all below it: a number beyond the count of
    instructions would ask for memory that the file does not account for.
    """
    for number, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if instruction.name in REFUSED:
            raise _Refused(f"has the instruction {instruction.name}")
        if instruction.name in MEMO and int(argument or 0) > number + 1:
            raise _Refused(f"numbers its objects up to {argument}, which would fill the memory")


def _plain(value: object, known: dict[int, object]) -> object:
    """The value with arrays for their stands. Each object is visited once, however often it is referred to."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Kind | _Stand):
        raise _Refused("holds a type or a function where values belong")
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return value
    if id(value) not in known:
        known[id(value)] = None  # a circle has no plain form
        if isinstance(value, dict):
            known[id(value)] = {key: _plain(entry, known) for key, entry in value.items()}
        else:
            known[id(value)] = type(value)(_plain(entry, known) for entry in value)
    return known[id(value)]
