"""Pickles of arrays are read; of anything else not a single call is made."""

import collections
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.convert.pickles import STANDS, read_pickle

ARRAYS = {
    "weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2],
    "half": np.ones(3, np.float16),
    "bool": np.array([True, False]),
    "big": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(7),
    "number": np.float32(1.5),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory; whatever a pickle runs writes `ran` there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(place, content, words):
    path = place / "weights.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        read_pickle(path)
    assert str(path) in str(error.value)
    assert not (place / "ran").exists()


def write(path, content, protocol):
    with path.open("wb") as stream:
        pickle.dump(content, stream, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_as_they_were(tmp_path, protocol):
    content = {"model": ARRAYS, "__author__": "somebody", "matching_heuristics": True}
    found = read_pickle(write(tmp_path / "a.pkl", content, protocol))
    assert (found["__author__"], found["matching_heuristics"]) == ("somebody", True)
    assert found["model"].keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(found["model"][name], array), name
        assert found["model"][name].dtype == array.dtype.newbyteorder("="), name


@pytest.mark.parametrize("protocol", [2, 4])
def test_an_ordered_dictionary_with_attributes_becomes_a_plain_one(tmp_path, protocol):
    content = collections.OrderedDict(b=np.ones(2), a=np.zeros(3))
    content._metadata = {"version": 1}
    found = read_pickle(write(tmp_path / "a.pkl", content, protocol))
    assert (type(found), list(found)) == (dict, ["b", "a"])


def test_arrays_can_be_written_to(tmp_path):
    found = read_pickle(write(tmp_path / "a.pkl", np.zeros(3), 3))
    found[1] = 5.0
    assert found.tolist() == [0, 5, 0]


def of_python2(shape, raw):
    """Write {"conv1_w": array} as Python 2 does, instruction by instruction: byte strings without an encoding."""
    kind = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    sides = b"(" + b"".join(b"K" + bytes([side]) for side in shape) + b"t"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01" + sides + kind + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    return b"\x80\x02}U\x07conv1_w" + made + state + b"s."


def test_files_of_python_2_are_read(tmp_path):
    expected = np.array([[1.5, -2.0, 200.25]], np.float32)
    (tmp_path / "R-50.pkl").write_bytes(of_python2((1, 3), expected.tobytes()))
    assert np.array_equal(read_pickle(tmp_path / "R-50.pkl")["conv1_w"], expected)


class Runs:
    """Unpickles by calling something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (os.system, ("touch ran",), r"asks for (posix|nt)\.system"),
        (eval, ("open('ran', 'w')",), r"asks for (builtins|__builtin__)\.eval"),
        (exec, ("open('ran', 'w')",), r"asks for (builtins|__builtin__)\.exec"),
        (Path.touch, (Path("ran"),), r"asks for "),
        (np.load, ("ran.npy", None, True), r"asks for numpy\.load"),
        (getattr, (dict, "clear"), r"asks for (builtins|__builtin__)\.getattr"),
        (np.vectorize, (print,), r"asks for numpy\.vectorize"),
        (__import__, ("os",), r"asks for (builtins|__builtin__)\.__import__"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_call_of_anything_is_refused_by_its_name(place, function, arguments, words, protocol):
    np.save(place / "ran.npy", np.array([Runs(os.system, "touch ran")], dtype=object), allow_pickle=True)
    content = {"model": {"weight": np.zeros(2)}, "more": Runs(function, *arguments)}
    refuse(place, pickle.dumps(content, protocol=protocol), words)


def test_the_name_of_a_name_is_refused(place):
    content = b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93)R."
    refuse(place, content, r"asks for numpy\.ndarray\.__reduce__")
    refuse(
        place,
        b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93\x8c\ttouch ran\x85R.",
        r"asks for numpy\.f2py\.os\.system",
    )


@pytest.mark.parametrize("codec", ["rot13", "zip", "utf-7", "unicode_escape"])
def test_other_codecs_are_refused(place, codec):
    name = codec.encode()
    content = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX" + struct.pack("<i", len(name)) + name + b"\x86R."
    refuse(place, content, f"calls for the codec '{codec}'")


def test_objects_elsewhere_are_refused(place):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return "elsewhere" if value == "this" else None

    for protocol in (0, 2):
        stream = io.BytesIO()
        Pickler(stream, protocol).dump({"a": "this"})
        refuse(place, stream.getvalue(), "has the instruction (BINPERSID|PERSID)")


FUNCTION = b"cnumpy.core.multiarray\n_reconstruct\n"
ARRAY = FUNCTION + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R"


@pytest.mark.parametrize(
    "content",
    [
        FUNCTION + b"}X\x08\x00\x00\x00__code__K\x01sb",
        FUNCTION + b"N}X\x09\x00\x00\x00__class__cnumpy\ndtype\ns\x86b",
        b"cnumpy\nndarray\nN}X\x09\x00\x00\x00__class__cnumpy\ndtype\ns\x86b",
        b"cnumpy\ndtype\n}X\x08\x00\x00\x00__init__cnumpy\nndarray\nsb",
        ARRAY + b"N}X\x09\x00\x00\x00__class__cnumpy\ndtype\ns\x86b",
        ARRAY + b"}X\x05\x00\x00\x00arrayK\x01sb",
        b"}N}X\x09\x00\x00\x00__class__cnumpy\ndtype\ns\x86b",
        b"ccollections\nOrderedDict\n)RN}X\x09\x00\x00\x00__class__cnumpy\ndtype\ns\x86b"
        + ARRAY
        + b"\x86cnumpy\ndtype\n\x86",
    ],
)
def test_no_attribute_of_anything_is_set(place, content):
    refuse(place, b"\x80\x03" + content + b".", "is not a complete pickle|nothing else was run")
    assert read_pickle(write(place / "good.pkl", np.arange(3), 3)).tolist() == [0, 1, 2]


def test_classes_are_not_instantiated(place):
    refuse(place, pickle.dumps(Path("a"), protocol=2), "asks for|has the instruction NEWOBJ")
    refuse(place, b"\x80\x02cnumpy\nndarray\nK\x03\x85\x81.", "has the instruction NEWOBJ")
    refuse(place, b"(cnumpy\nndarray\nI3\ntR.", "damaged|makes an array|not a complete")
    refuse(place, b"(I3\ninumpy\nndarray\n.", "makes an array other than by its bytes")


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, 3], dtype=object),
        np.array([Runs(os.system, "touch ran")], dtype=object),
        np.zeros(2, dtype=[("a", "f4"), ("b", "O")]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros(2, dtype="V8"),
        np.array(["text"]),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ],
    ids=lambda array: str(array.dtype),
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_of_anything_but_numbers_are_refused(place, array, protocol):
    refuse(place, pickle.dumps({"weight": array}, protocol=protocol), "are not numbers|asks for (posix|nt).system")


def test_a_type_that_is_given_fields_later_is_refused(place):
    state = b"(K\x03X\x01\x00\x00\x00<NX\x01\x00\x00\x00a\x85}X\x01\x00\x00\x00aX\x01\x00\x00\x00OsK\x04K\x04K\x00tb"
    refuse(place, b"\x80\x03cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R" + state + b".", "not single numbers")


@pytest.mark.parametrize(
    ("shape", "raw"),
    [((2, 2), bytes(8)), ((200, 255, 255), bytes(4)), ((2,), bytes(16)), ((), b"")],
)
def test_as_many_bytes_are_expected_as_the_shape_says(place, shape, raw):
    refuse(place, of_python2(shape, raw), "is damaged: an array of")


def test_a_subclass_of_arrays_is_refused(place):
    refuse(place, pickle.dumps(np.ma.array([1.0], mask=[True])), "asks for numpy")


def test_a_slot_number_that_would_fill_the_memory_is_refused(place):
    refuse(place, b"\x80\x02}r\xff\xff\xff\x7f.", "would fill the memory")
    refuse(place, b"}p2147483647\n.", "would fill the memory")


def test_a_length_beyond_the_end_is_no_reason_to_make_room(place):
    refuse(place, b"\x80\x04\x8e" + struct.pack("<Q", 1 << 50) + b"abc.", "is not a complete pickle")
    refuse(place, b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"}.", "is not a complete pickle")


def test_a_small_file_that_refers_to_itself_many_times_is_read_once(place):
    content = [np.zeros(1)]
    for _ in range(40):
        content = [content, content]
    path = write(place / "many.pkl", {"deep": content}, 4)
    assert isinstance(read_pickle(path), dict)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_file_cut_short_anywhere_is_refused(place, protocol):
    content = pickle.dumps({"weight": np.arange(5.0)}, protocol=protocol)
    for end in range(len(content)):
        refuse(place, content[:end], "is not a complete pickle|is damaged")


def test_what_pickles_of_arrays_name_is_all_that_is_admitted():
    """The list is no longer than it has to be."""
    named = set()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            named.add((module, name))
            return super().find_class(module, name)

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        Unpickler(io.BytesIO(pickle.dumps([ARRAYS, collections.OrderedDict(a=1)], protocol=protocol))).load()
    assert older(named) == older(STANDS)


def older(names):
    """With the modules as numpy 1 called them."""
    return {(module.replace("._core.", ".core."), name) for module, name in names}


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.pkl"):
        read_pickle(tmp_path / "absent.pkl")


DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R"


def test_arrays_that_share_their_bytes_hold_no_more_than_the_file(place):
    raw = b"B" + struct.pack("<I", 4096) + bytes(4096) + b"q\x01"
    array = ARRAY + b"(K\x01M\x00\x04\x85" + DTYPE + b"\x89h\x01tb"
    refuse(place, b"\x80\x03](" + raw + array * 20 + b"e.", "is damaged: its arrays have more bytes than the file")
    (place / "one.pkl").write_bytes(b"\x80\x03](" + raw + array + b"e.")
    assert read_pickle(place / "one.pkl")[1].shape == (1024,)


def test_an_array_that_is_referred_to_again_is_one_array(place):
    array = np.arange(1000.0)
    found = read_pickle(write(place / "a.pkl", [array] * 100, 4))
    assert len({id(one) for one in found}) == 1


def test_bytes_that_are_spelled_as_text_are_not_copied_at_every_call(place):
    text = b"X" + struct.pack("<I", 5000) + b"a" * 5000 + b"q\x01"
    call = b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R"
    (place / "a.pkl").write_bytes(b"\x80\x02](" + text + call * 50 + b"e.")
    assert len({id(one) for one in read_pickle(place / "a.pkl")}) == 1


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (b"(" + b"K\x01" * 65 + b"t", "an array has 65 dimensions"),
        (b"\x8a\x08" + bytes(7) + b"\x7fJ\x00\x00\x00\x7f\x86", "needs [0-9]+ bytes and has 0"),
        (b"\x8a\x09" + bytes(7) + b"\x80\x00\x85", "is not made of integers"),
        (b"(" + (b"\x8b" + struct.pack("<i", 1000) + b"\x7f" * 1000) * 40 + b"t", "holds an integer of 7999 bits"),
    ],
    ids=["many", "large", "too large", "enormous"],
)
def test_sides_are_few_and_small_before_they_are_multiplied(place, shape, words):
    refuse(place, b"\x80\x02" + ARRAY + b"(K\x01" + shape + DTYPE + b"\x89C\x00tb.", words)


NESTED = b")q\x00" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(12))
"""A tuple of twice a tuple of twice a tuple ..., to an unfolded size of 2 ** 13 - 1."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"})K\x01s.", "has a key that is neither"),
        (b"}(K\x01K\x02)K\x01u.", "has a key that is neither"),
        (b"(K\x01K\x02)K\x01d.", "has a key that is neither"),
        (b"})" + b"2\x86" * 27 + b"K\x01s.", "has the instruction DUP"),
        (b"}" + NESTED + b"K\x01s.", "has a key that is neither"),
        (b"}\x8a\x09" + bytes(8) + b"\x01K\x01s.", "has a key that is neither"),
        (b"\x8f(" + NESTED + b"\x90.", "has the instruction EMPTY_SET"),
        (b"(" + NESTED + b"\x91.", "has the instruction FROZENSET"),
    ],
    ids=["one", "many", "old", "doubled", "nested", "long", "set", "frozenset"],
)
def test_nothing_is_hashed_but_numbers_and_text(place, content, words):
    refuse(place, b"\x80\x04" + content, words)


def test_a_tuple_of_tuples_unfolds_to_a_bounded_size(place):
    again = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(12, 30))
    (place / "small.pkl").write_bytes(b"\x80\x02" + NESTED + b".")
    assert len(read_pickle(place / "small.pkl")) == 2
    refuse(place, b"\x80\x02" + NESTED + again + b".", "holds a tuple of more than 32768 objects")


PAIRS = b"](](X\x01\x00\x00\x00aK\x01ee"
CALL = b"ccollections\nOrderedDict\n"


def test_an_ordered_dictionary_of_python_2_is_made_of_a_list_of_its_own(place):
    (place / "a.pkl").write_bytes(b"\x80\x02" + CALL + PAIRS + b"\x85R.")
    assert read_pickle(place / "a.pkl") == {"a": 1}
    shared = b"\x80\x02](" + PAIRS + b"q\x01" + (CALL + b"h\x01\x85R") * 3 + b"e."
    refuse(place, shared, "calls a function with an object that it refers to elsewhere")
    copies = b"\x80\x02](" + CALL + PAIRS + b"\x85Rq\x01" + (CALL + b"h\x01\x85R") * 3 + b"e."
    refuse(place, copies, "calls a function with an object that it refers to elsewhere")
    grown = b"\x80\x02" + CALL + b"]q\x01\x85h\x01" + PAIRS + b"a0R."
    refuse(place, grown, "changes an object that it refers to elsewhere")
    state = b"\x80\x02}q\x01" + CALL + b")Rh\x01b."
    refuse(place, state, "calls a function with an object that it refers to elsewhere")


def test_names_and_types_of_a_file_do_not_reach_the_terminal_as_they_are(place):
    refuse(place, b"\x80\x02c\x1b[31m\nevil\x07\n.", r"asks for \\x1b\[31m\.evil\\x07;")
    refuse(place, b"\x80\x02cnumpy\ndtype\nX\x03\x00\x00\x00\x1b[m\x85R.", r"values of type '\\x1b\[m'")
    refuse(place, b"\x80\x02cnumpy\ndtype\n" + NESTED.replace(b"q\x0c", b"") + b"\x85R.", "calls a function")
    refuse(place, b"\x80\x02cnumpy\ndtype\n)\x85R.", "holds values of type a tuple")
