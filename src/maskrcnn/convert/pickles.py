"""Pickles of numpy arrays, the format of Detectron2's and Caffe2's weights, read without running what they name.

A pickle is a program that names functions and calls them. Here no name leads to a function of Python or numpy: the few
that make arrays lead to the classes below, which take plain data and check it; any other is refused.
"""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from maskrcnn.convert.pickle_check import Refused, check_pickle, function_name, printable

PLAIN = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c(8|16))|[?bBhHiIlLqQefdFD]")
"""Pattern of numeric data types. Objects, text, dates and records are refused: objects could hold anything."""
REFUSED = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER"}
"""Instructions that no pickle of arrays needs: external objects, and instances of classes."""
MOST_SIDES = 64
"""Largest number of dimensions of an array."""


def read_pickle(path: str | Path) -> object:
    """Read a pickle of dictionaries, lists, numbers, text and numpy arrays, of any protocol, from Python 2 too.

    Arrays get this machine's byte order. Sizes are checked before anything is allocated.
    Raises FileNotFoundError where there is no file, ValueError where it holds anything else or is not complete.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} (working directory {Path.cwd()}); give the path of a .pkl file")
    with path.open("rb") as stream:
        try:
            check_pickle(stream, REFUSED)
            size = stream.tell()
            stream.seek(0)
            return _Reading(size).plain(_Unpickler(stream).load())
        except Refused as error:
            raise ValueError(f"{path} {error}; pickles of plain numpy arrays are read, nothing else was run") from None
        except Exception as error:  # pickle raises a dozen kinds on damaged files
            reason = printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
            raise ValueError(f"{path} is not a complete pickle of numpy arrays ({reason}); copy it again") from error


class _Stand:
    """Stand-in for a function of numpy, without attributes to set or state to restore."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise Refused("changes a function")


class _Kind:
    """A data type: `dtype("f4", False, True)` and then its state, of which only the byte order counts."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, align: object = False, copy: object = True) -> None:
        if not isinstance(code, str) or PLAIN.fullmatch(code) is None:
            raise Refused(f"holds values of type {_short(code)}, which are not numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        order, parts = (state[1], state[2:5]) if isinstance(state, tuple) and len(state) >= 5 else (None, ())
        if order not in ("<", ">", "=", "|") or any(part is not None for part in parts):
            raise Refused("describes values that are not single numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array: created empty, then described by its state, and filled when all is read."""

    __slots__ = ("kind", "order", "raw", "shape")
    raw: bytes | bytearray | str
    kind: _Kind
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    def __init__(self, kind: object = None, shape: object = None, code: object = None) -> None:
        if kind is not ARRAY:
            raise Refused("makes an array of a class of its own")
        self.describe(b"", _Kind("f8"), (0,))

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused("holds an array whose state is not (version, shape, type, order, bytes)")
        _, shape, kind, fortran, raw = state
        self.describe(raw, kind, shape, "F" if fortran else "C")

    def describe(self, raw: object, kind: object, shape: object, order: object = "C") -> None:
        """Set the array's bytes, type and shape, after checking that they agree."""
        if not isinstance(kind, _Kind):
            raise Refused("holds an array without a data type")
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and 0 <= side < 2**63 for side in shape):
            raise Refused("holds an array whose shape is not made of integers")
        if len(shape) > MOST_SIDES:
            raise Refused(f"is damaged: an array has {len(shape)} dimensions")
        if order not in ("C", "F"):
            raise Refused("holds an array in an order that is neither C nor F")
        if not isinstance(raw, bytes | bytearray | str):  # text: the bytes of Python 2
            raise Refused("holds an array whose values are not bytes")
        expected = math.prod(shape) * kind.dtype.itemsize
        if len(raw) != expected:
            raise Refused(f"is damaged: an array of {shape} needs {expected} bytes and has {len(raw)}")
        self.raw, self.kind, self.shape, self.order = raw, kind, shape, "F" if order == "F" else "C"

    def fill(self) -> np.ndarray:
        """Copy the numbers into an array."""
        data = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        flat = np.frombuffer(data, self.kind.dtype)
        return flat.reshape(self.shape, order=self.order).astype(self.kind.dtype.newbyteorder("="))


class _Table(dict):
    """An ordered dictionary; its further attributes (torch's `_metadata`) are left out."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


def _array(raw: object, kind: object, shape: object, order: object = "C") -> _Array:
    array = _Array(ARRAY)
    array.describe(raw, kind, shape, order)
    return array


def _scalar(kind: object, raw: object = b"") -> Any:
    return _array(raw, kind, ()).fill()[()]


def _short(value: object) -> str:
    """Write a foreign value for a sentence: at most 40 characters of text, or its type."""
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _encode(text: object, codec: object) -> str:
    """Stand in for `_codecs.encode`, with which protocol 2 writes bytes; the text is kept, since it may be large."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise Refused(f"calls for the codec {_short(codec)}")
    return text


def _empty() -> bytes:
    """Return no bytes, as protocol 2 writes them."""
    return b""


def _no_array(*arguments: object) -> None:
    raise Refused("makes an array other than by its bytes")


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
"""Stand-ins by (module, name) in a pickle."""


class _Unpickler(pickle.Unpickler):
    """Unpickler that knows the names of `STANDS` and no others."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        stand = STANDS.get((module, name))
        if stand is None:
            raise Refused(f"asks for {function_name(module, name)}")
        return stand

    def persistent_load(self, pid: object) -> Any:
        raise Refused("refers to objects outside itself")


class _Reading:
    """Replaces stand-ins by arrays, which together have no more bytes than the file."""

    def __init__(self, size: int) -> None:
        self.size, self.known = size, dict[int, object]()

    def plain(self, value: object) -> object:
        """Replace the stand-ins in a value by arrays, visiting each object once."""
        if isinstance(value, _Kind | _Stand):
            raise Refused("holds a type or a function where values belong")
        if not isinstance(value, _Array | dict | list | tuple):
            return value
        if id(value) not in self.known:
            self.known[id(value)] = None  # a circle has no plain form
            self.known[id(value)] = self._made(value)
        return self.known[id(value)]

    def _made(self, value: _Array | dict | list | tuple) -> object:
        if isinstance(value, _Array):
            self.size -= len(value.raw)
            if self.size < 0:
                raise Refused("is damaged: its arrays have more bytes than the file")
            return value.fill()
        if isinstance(value, dict):
            return {key: self.plain(entry) for key, entry in value.items()}
        return type(value)(self.plain(entry) for entry in value)
