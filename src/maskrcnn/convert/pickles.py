"""Pickles of numpy arrays, as Detectron2 and Caffe2 publish their weights, read without running what they name.

A pickle is a program: it names functions and calls them. Here no name leads to a function of Python or numpy. The few
that stand for arrays lead to the classes below, which take plain data and check it; any other is refused.

A program may also refer to one object again and again, so that a small file asks for much: a copy of a list at every
mention, the hash of a tuple of the same tuple twice, of the same tuple twice ... `check_pickle` refuses both.
"""

import math
import pickle
import pickletools
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

PLAIN = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c(8|16))|[?bBhHiIlLqQefdFD]")
"""Data types of numbers. Objects, text, dates and records are refused: objects could hold anything."""
REFUSED = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER"}
"""Instructions that no pickle of arrays needs: objects from elsewhere, and instances of classes."""
NEVER = {"DUP", "EMPTY_SET", "ADDITEMS", "FROZENSET"}
"""Instructions that nothing needs: no pickler writes the first, and sets would hash what they hold."""
PUT, GET = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET"}
TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS"}
CONTAINERS = {"collections OrderedDict", "collections Counter", "torch Size"}
"""Calls of these make what can be copied by another call."""
MOST_SIDES, LONGEST_NUMBER, LARGEST_TUPLE = 64, 128, 2**15
"""Of arrays; of whole numbers, in bits; of tuples, in all that they hold, however deep, counted at every mention."""


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
            check_pickle(stream, REFUSED)
            size = stream.tell()
            stream.seek(0)
            return _Reading(size).plain(_Unpickler(stream).load())
        except Refused as error:
            raise ValueError(f"{path} {error}; pickles of plain numpy arrays are read, nothing else was run") from None
        except Exception as error:  # pickle raises a dozen kinds on damaged files
            reason = printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
            raise ValueError(f"{path} is not a complete pickle of numpy arrays ({reason}); copy it again") from error


def printable(text: str) -> str:
    """Foreign text as a terminal may show it: control characters as Python writes them."""
    return text if text.isprintable() else repr(text)[1:-1]


class Refused(ValueError):
    """Says what a file holds that is not an array."""


class _Stand:
    """Takes the place of a function of numpy; it has no attributes to set and no state to restore."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise Refused("changes a function")


class _Kind:
    """A data type: `dtype("f4", False, True)` and then its state, of which only the byte order means something."""

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
    """An array: made empty, then described by its state, and filled when all is read."""

    __slots__ = ("kind", "order", "raw", "shape")

    def __init__(self, kind: object = None, shape: object = None, code: object = None) -> None:
        if kind is not ARRAY:
            raise Refused("makes an array of a class of its own")
        self.describe(b"", _Kind("f8"), (0,))

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused("holds an array whose state is not (version, shape, type, order, bytes)")
        _, shape, kind, fortran, raw = state
        self.describe(raw, kind, shape, "F" if fortran else "C")

    def describe(self, raw: object, kind: object, shape: object, order: object = "C") -> "_Array":
        """Take bytes for numbers; as many as the shape says."""
        if not isinstance(kind, _Kind):
            raise Refused("holds an array without a data type")
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and 0 <= side < 2**63 for side in shape):
            raise Refused("holds an array whose shape is not made of whole numbers")
        if len(shape) > MOST_SIDES:
            raise Refused(f"is damaged: an array has {len(shape)} sides")
        if order not in ("C", "F"):
            raise Refused("holds an array in an order that is neither C nor F")
        if not isinstance(raw, bytes | bytearray | str):  # text: the bytes of Python 2
            raise Refused("holds an array whose values are not bytes")
        expected = math.prod(shape) * kind.dtype.itemsize
        if len(raw) != expected:
            raise Refused(f"is damaged: an array of {shape} needs {expected} bytes and has {len(raw)}")
        self.raw, self.kind, self.shape, self.order = raw, kind, shape, "F" if order == "F" else "C"
        return self

    def fill(self) -> np.ndarray:
        """The numbers, in memory of their own."""
        data = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        flat = np.frombuffer(data, self.kind.dtype)
        return flat.reshape(self.shape, order=self.order).astype(self.kind.dtype.newbyteorder("="))


class _Table(dict):
    """An ordered dictionary; its further attributes (torch's `_metadata`) are left out."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


def _array(raw: object, kind: object, shape: object, order: object = "C") -> _Array:
    return _Array(ARRAY).describe(raw, kind, shape, order)


def _scalar(kind: object, raw: object = b"") -> Any:
    return _array(raw, kind, ()).fill()[()]


def _short(value: object) -> str:
    """A foreign value in a sentence; what is not text may be without end."""
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _encode(text: object, codec: object) -> str:
    """Bytes as protocol 2 spells them; left as they are spelled, for they may be asked for many times."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise Refused(f"calls for the codec {_short(codec)}")
    return text


def _empty() -> bytes:
    """No bytes, as protocol 2 spells them."""
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
"""(module, name) in a pickle -> what takes its place."""


class _Unpickler(pickle.Unpickler):
    """Knows the names of `STANDS` and no others."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        stand = STANDS.get((module, name))
        if stand is None:
            raise Refused(f"asks for {printable(f'{module}.{name}'[:80])}")
        return stand

    def persistent_load(self, pid: object) -> Any:
        raise Refused("refers to objects outside itself")


PLAIN_VALUE, OBJECT, CONTAINER, SHARED, MARK = "plain", "object", "container", "shared", "mark"
"""What is on the stack: numbers and text; what calls make; lists, dictionaries and tuples; those that the file has
referred to before, or tuples that hold one; and the place where a list of arguments begins."""
PLAIN_TYPES = {"int", "int_or_bool", "bool", "float", "str", "bytes", "bytes_or_str", "bytearray", "None"}
"""What pickletools calls numbers and text."""


class _Item(NamedTuple):
    kind: str
    size: int = 1
    """Of a tuple, with all that it holds, however deep."""
    name: str = ""
    """Text, or "module name" of a function."""


def check_pickle(stream: IO[bytes], refused: Collection[str] = (), names: Collection[str] = ()) -> None:
    """Walk the instructions of a pickle without following them, and stop behind it.

    What it makes is in proportion to its length: only numbers and text are keys, and what it refers to again is
    not given to a call, which might copy it, nor changed.
    refused   further instructions that it may not have
    names     functions that it may not name, "module name"
    Raises Refused, and other exceptions where it is damaged; lengths beyond the end of the file are damage.
    """
    stack, memo = list[_Item](), dict[int, _Item]()
    for number, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        name = instruction.name
        if name in refused or name in NEVER:
            raise Refused(f"has the instruction {name}")
        if isinstance(argument, int) and argument.bit_length() > LONGEST_NUMBER:
            raise Refused(f"holds a whole number of {argument.bit_length()} bits")
        if name in PUT:
            slot = len(memo) if name == "MEMOIZE" else int(argument or 0)
            if slot > number + 1:  # the reader makes room for all slots below
                raise Refused(f"numbers its objects up to {slot}, which would fill the memory")
            memo[slot] = stack[-1]
        elif name in GET:
            item = memo[int(argument or 0)]
            stack.append(item._replace(kind=SHARED) if item.kind == CONTAINER else item)
        else:
            taken = _take(stack, instruction)
            _check_taken(name, taken)
            stack += _made(instruction, argument, taken, names)


def _take(stack: list[_Item], instruction: pickletools.OpcodeInfo) -> list[_Item]:
    """What an instruction takes off the stack, without the mark."""
    before = instruction.stack_before
    start = len(stack) - len(before)
    if pickletools.markobject in before:
        mark = next(at for at in range(len(stack) - 1, -1, -1) if stack[at].kind == MARK)
        start = mark - before.index(pickletools.markobject)
    if start < 0:
        raise IndexError("stack underflow")
    taken = [item for item in stack[start:] if item.kind != MARK]
    del stack[start:]
    return taken


def _check_taken(name: str, taken: list[_Item]) -> None:
    keys = {"SETITEM": taken[1:2], "SETITEMS": taken[1::2], "DICT": taken[::2]}.get(name, [])
    if any(key.kind != PLAIN_VALUE for key in keys):
        raise Refused("has a key that is neither a number nor text")
    if name in CALLS and any(item.kind == SHARED for item in taken):
        raise Refused("calls a function with an object that it refers to elsewhere")
    if name in FILLS and taken[0].kind == SHARED:
        raise Refused("changes an object that it refers to elsewhere")


def _made(
    instruction: pickletools.OpcodeInfo, argument: object, taken: list[_Item], names: Collection[str]
) -> list[_Item]:
    """What an instruction leaves on the stack."""
    name = instruction.name
    if name in FILLS or name == "BUILD":
        return taken[:1]
    if name == "MARK":
        return [_Item(MARK)]
    if name in TUPLES:
        size = 1 + sum(item.size for item in taken)
        if size > LARGEST_TUPLE:
            raise Refused(f"holds a tuple of more than {LARGEST_TUPLE} objects")
        return [_Item(SHARED if any(item.kind == SHARED for item in taken) else CONTAINER, size)]
    if name in ("GLOBAL", "STACK_GLOBAL"):
        function = str(argument) if name == "GLOBAL" else " ".join(item.name for item in taken)
        if function in names:
            raise Refused(f"asks for {function.replace(' ', '.')}")
        return [_Item(OBJECT, name=function)]
    if name in CALLS:
        is_object = name == "REDUCE" and taken[0].name not in CONTAINERS
        return [_Item(OBJECT if is_object else CONTAINER)]
    return [
        _Item(PLAIN_VALUE, name=argument if isinstance(argument, str) else "")
        if made.name in PLAIN_TYPES
        else _Item(OBJECT if made is pickletools.anyobject else CONTAINER)
        for made in instruction.stack_after
    ]


class _Reading:
    """Puts arrays in the places of their stands; all of them together have no more bytes than the file."""

    def __init__(self, size: int) -> None:
        self.size, self.known = size, dict[int, object]()

    def plain(self, value: object) -> object:
        """The value with arrays for their stands. Each object is visited once, however often it is referred to."""
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
