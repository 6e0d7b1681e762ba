"""Check of a pickle's instructions without running them: what it may call, and how large its result may get.

A pickle may refer to one object many times, so that a small file takes much time and memory: a copy of a list at every
reference, or the hash of a tuple of twice the same tuple, and so on. Both are refused.
"""

import pickletools
import re
from collections.abc import Collection
from io import BufferedReader, BytesIO
from typing import NamedTuple

NEVER = {"DUP", "EMPTY_SET", "ADDITEMS", "FROZENSET"}
"""Instructions that tensors do not need: no pickler writes the first, and sets hash their items."""
PUT, GET = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET"}
TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS"}
CONTAINERS = {"collections OrderedDict", "collections Counter", "torch Size"}
"""Functions whose results another call can copy."""
LONGEST_KEY, LONGEST_NUMBER, LARGEST_TUPLE = 64, 128, 2**15
"""Largest integers in bits, as keys (longer ones can share one hash) and elsewhere, and largest tuples in objects at
any depth, counted at every reference."""
VALUE, OBJECT, CONTAINER, SHARED, MARK = "plain", "object", "container", "shared", "mark"
"""Kinds of stack items: numbers and text; results of calls; lists, dictionaries and tuples; those referred to before,
or tuples with such an item; and the start of a list of arguments."""
VALUE_TYPES = {"int", "int_or_bool", "bool", "float", "str", "bytes", "bytes_or_str", "bytearray", "None"}
"""Names of numbers and text in pickletools."""
NOTHING = r"(?!)"
"""Pattern that matches no name."""


def printable(text: str) -> str:
    """Escape the control characters of foreign text, for a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]


class Refused(ValueError):
    """Error that says what a file holds that is not an array."""


class _Item(NamedTuple):
    kind: str
    size: int = 1
    """Number of objects in a tuple, at any depth."""
    name: str = ""
    """Text, or "module name" of a function."""


def function_name(module: str, name: str = "") -> str:
    """Write the name of a function for a sentence."""
    return printable(f"{module}.{name}"[:80])


def check_pickle(stream: BufferedReader | BytesIO, refused: Collection[str] = (), names: str = NOTHING) -> None:
    """Check the instructions of a pickle without running them, and stop at its end.

    The result is proportional to the file: keys are only numbers and text, and an object that is referred to again is
    neither passed to a call, which might copy it, nor changed.
    refused   further instructions that are refused
    names     regular expression of functions, as "module name", that are refused
    Raises Refused, and other exceptions where it is damaged; lengths beyond the end of the file are damage.
    """
    stack, memo = list[_Item](), dict[int, _Item]()
    for number, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        name = instruction.name
        if name in refused or name in NEVER:
            raise Refused(f"has the instruction {name}")
        if isinstance(argument, int) and argument.bit_length() > LONGEST_NUMBER:
            raise Refused(f"holds an integer of {argument.bit_length()} bits")
        if name in PUT:
            slot = len(memo) if name == "MEMOIZE" else int(argument or 0)
            if slot > number + 1:  # the unpickler allocates all slots below
                raise Refused(f"numbers its objects up to {slot}, which would fill the memory")
            memo[slot] = stack[-1]
        elif name in GET:
            item = memo[int(argument or 0)]
            stack.append(item._replace(kind=SHARED) if item.kind == CONTAINER else item)
        else:
            taken = _take(stack, instruction)
            _check_taken(name, taken)
            stack += _leave(instruction, argument, taken, names)


def _take(stack: list[_Item], instruction: pickletools.OpcodeInfo) -> list[_Item]:
    """Take the arguments of an instruction off the stack, without the mark."""
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
    if any(key.kind != VALUE for key in keys):
        raise Refused("has a key that is neither a number nor text")
    if name in CALLS and any(item.kind == SHARED for item in taken):
        raise Refused("calls a function with an object that it refers to elsewhere")
    if name in FILLS and taken[0].kind == SHARED:
        raise Refused("changes an object that it refers to elsewhere")


def _leave(instruction: pickletools.OpcodeInfo, argument: object, taken: list[_Item], names: str) -> list[_Item]:
    """Return the items that an instruction leaves on the stack."""
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
        if re.fullmatch(names, function) is not None:
            raise Refused(f"asks for {function_name(*function.split(' ', 1))}")
        return [_Item(OBJECT, name=function)]
    if name in CALLS:
        is_object = name == "REDUCE" and taken[0].name not in CONTAINERS
        return [_Item(OBJECT if is_object else CONTAINER)]
    if isinstance(argument, int) and argument.bit_length() > LONGEST_KEY:
        return [_Item(OBJECT)]
    return [_Item(_kind(made), name=argument if isinstance(argument, str) else "") for made in instruction.stack_after]


def _kind(made: pickletools.StackObject) -> str:
    if made.name in VALUE_TYPES:
        return VALUE
    return OBJECT if made is pickletools.anyobject else CONTAINER
