import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.convert import mindspore_file
from maskrcnn.convert.mindspore_file import TYPES, read_ckpt, write_ckpt

# A tensor "ab" of 2 x 1 float32, 1.0 and -2.0. Protobuf by hand: a field's key is number * 8 + kind, then its length.
TENSOR = bytes.fromhex(
    "0802"  # field 1, a number: 2
    "0801"  # once more: 1
    "1207"
    + b"Float32".hex()  # field 2, 7 bytes
    + "1a08"
    + "0000803f"
    "000000c0"  # field 3, 8 bytes
)
VALUE = bytes.fromhex("0a02") + b"ab" + bytes.fromhex("1217") + TENSOR
FILE = bytes.fromhex("0a1d") + VALUE


@pytest.fixture
def ckpt(tmp_path):
    """Makes a file of some bytes."""

    def make(content):
        path = tmp_path / "some.ckpt"
        path.write_bytes(content)
        return path

    return make


def field(number, content):
    """A field of bytes, fewer than 16384 of them."""
    length = len(content)
    size = (length,) if length < 128 else (length % 128 + 128, length // 128)
    return bytes((number * 8 + 2, *size)) + content


def value(tag=b"ab", dims=(2,), kind=b"Float32", content=bytes(8)):
    tensor = b"".join(bytes((8, side)) for side in dims) + field(2, kind) + field(3, content)
    return field(1, field(1, tag) + field(2, tensor))


def test_bytes_worked_out_by_hand_are_read(ckpt):
    tensors = read_ckpt(ckpt(FILE))
    assert list(tensors) == ["ab"]
    assert tensors["ab"].dtype == torch.float32
    assert tensors["ab"].tolist() == [[1.0], [-2.0]]


def test_a_tensor_is_written_as_the_bytes_worked_out_by_hand(tmp_path):
    path = write_ckpt(tmp_path / "new.ckpt", {"ab": torch.tensor([[1.0], [-2.0]])})
    assert path.read_bytes() == FILE


def test_what_was_read_has_memory_of_its_own(ckpt):
    path = ckpt(FILE)
    tensor = read_ckpt(path)["ab"]
    path.write_bytes(b"")
    tensor += 1
    assert tensor.tolist() == [[2.0], [-1.0]]


def test_slices_in_a_row_are_joined_and_the_order_is_kept(ckpt):
    first, second = (value(b"w", (3,), b"Int16", content) for content in (b"\x01\x00", b"\x02\x00\x03\x01"))
    tensors = read_ckpt(ckpt(value(b"z") + first + second + value(b"a")))
    assert list(tensors) == ["z", "w", "a"]
    assert tensors["w"].tolist() == [1, 2, 256 + 3]


def test_a_slice_may_end_inside_a_number(ckpt):
    parts = (value(b"w", (2,), b"Int32", content) for content in (b"\x01\x00\x00", b"\x00\x07\x00\x00\x00"))
    assert read_ckpt(ckpt(b"".join(parts)))["w"].tolist() == [1, 7]


def test_large_tensors_are_written_in_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(mindspore_file, "SLICE", 4)
    path = write_ckpt(tmp_path / "cut.ckpt", {"w": torch.tensor([1, 2, 3, 4, 5], dtype=torch.int16)})
    parts = (b"\x01\x00\x02\x00", b"\x03\x00\x04\x00", b"\x05\x00")
    assert path.read_bytes() == b"".join(value(b"w", (5,), b"Int16", part) for part in parts)
    assert read_ckpt(path)["w"].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("dims", [(), (0,)], ids=["version 2", "version 1"])
def test_a_scalar_of_either_version_has_no_sides(dims, ckpt):
    scalar = read_ckpt(ckpt(value(b"s", dims, b"Float32", b"\x00\x00\x00\x40")))["s"]
    assert (scalar.shape, scalar.item()) == (torch.Size([]), 2.0)


def test_dims_may_be_packed_into_one_field(ckpt):
    tensor = field(1, b"\x02\x01") + field(2, b"Int8") + field(3, b"\x05\x06")
    assert read_ckpt(ckpt(field(1, field(1, b"p") + field(2, tensor))))["p"].tolist() == [[5], [6]]


def test_fields_of_later_versions_are_passed_over(ckpt):
    later = bytes.fromhex("ba0103") + b"new" + bytes.fromhex("c0019601c9010102030405060708cd0101020304")
    tensor = field(2, TENSOR + later) + later
    assert read_ckpt(ckpt(later + field(1, field(1, b"ab") + tensor)))["ab"].tolist() == [[1.0], [-2.0]]


def test_notes_are_left_out(ckpt):
    note = value(b"note", (0,), b"str", "hé".encode("utf-32-le"))
    assert list(read_ckpt(ckpt(note + FILE))) == ["ab"]


def test_a_crc_is_checked(ckpt):
    seal = b"crc_num" + zlib.crc32(FILE).to_bytes(10, "big")
    assert read_ckpt(ckpt(FILE + seal))["ab"].tolist() == [[1.0], [-2.0]]
    damaged = FILE[:-1] + b"\xc1"
    with pytest.raises(ValueError, match=r"some\.ckpt, byte 31: expected CRC-32 [0-9a-f]{8} of the 31 bytes before"):
        read_ckpt(ckpt(damaged + seal))


@pytest.mark.parametrize("end", range(len(FILE)))
def test_a_file_that_was_cut_off_is_refused(end, ckpt):
    with pytest.raises(ValueError, match=r"some\.ckpt.*copy it again"):
        read_ckpt(ckpt(FILE[:end]))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04" + bytes(60), "byte 2: expected a protobuf field, found number 0"),
        (b"\x80\x02}q\x00.", "copy it again"),
        (bytes.fromhex("d85e3a7f") + bytes(60), "is encrypted; load it in MindSpore with its key"),
        (bytes.fromhex("0affffffffffffffff7f") + VALUE, "expected 9223372036854775807 bytes of field 1, found 29"),
        (bytes.fromhex("0affffffffffffffffff7f") + VALUE, "expected a number of at most 64 bits"),
        (b"\x0a" + b"\xff" * 11, "expected a number of at most 10 bytes"),
        (b"\x0b" + FILE, "expected a protobuf field, found number 1 of kind 3"),
        (value(content=bytes(7)), r"expected 8 bytes of 'ab' \(2 of Float32\), found 7"),
        (value(dims=(2, 2)), r"expected 16 bytes of 'ab' \(2 x 2 of Float32\), found 8"),
        (value(dims=()), r"expected 4 bytes of 'ab' \(a scalar of Float32\), found 8"),
        (value(kind=b"Int4"), "expected 'ab' of type Float32, .*, Bool, found 'Int4'"),
        (value(tag=b"\xff\xfe"), "expected text in UTF-8"),
        (value(kind=b"F" * 65), "expected text of at most 64 bytes, found 65"),
        (value(dims=(1,) * 40 + (2,) * 25, content=b""), "expected at most 64 dims, found more"),
        (FILE + value(b"z") + FILE, "expected each name once, found 'ab' again"),
        (value(dims=(4,)) + value(dims=(2, 2)), "expected slices of 'ab' with the same dims and type"),
        (value(dims=(4,)) + value(dims=(4,), kind=b"Int32"), "expected slices of 'ab' with the same dims and type"),
        (field(1, field(1, b"ab")), "expected a tag and a tensor, found a value without tensor"),
        (field(1, field(2, TENSOR)), "expected a tag and a tensor, found a value without tag"),
        (field(1, field(1, b"ab") + field(2, field(2, b"Int8"))), "found a tensor without content"),
        (field(1, field(1, b"ab") + field(3, b"")), "'ab' is a map parameter"),
        (field(7, b"other"), "holds no tensors"),
        (b"", "holds no tensors"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_with_its_place(content, sentence, ckpt):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_ckpt(ckpt(content))
    assert "some.ckpt" in str(caught.value)


@pytest.mark.parametrize("side", ["ffffffffffffffff7f", "ffffffffffffffffff01", "8080808080808002"])
@pytest.mark.parametrize("empty", ["", "0800"])
def test_sides_beyond_all_memory_are_refused_before_it_is_taken(side, empty, ckpt):
    dims = bytes.fromhex(empty + "08" + side + "08" + side)
    tensor = dims + field(2, b"Float64") + field(3, b"")
    with pytest.raises(ValueError, match="expected sides of 'ab' that memory can hold"):
        read_ckpt(ckpt(field(1, field(1, b"ab") + field(2, tensor))))


def test_a_missing_file_is_told():
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.ckpt"):
        read_ckpt("nowhere.ckpt")


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({}, "expected tensors to write, received none"),
        ({"ok": torch.ones(2), "odd": torch.ones(2, dtype=torch.complex64)}, "odd: expected one of .*complex64"),
        ({"half \ud800": torch.ones(2)}, "Unicode"),
        ({"n" * 65536: torch.ones(2)}, "at most 65535 bytes"),
    ],
    ids=["none", "type", "surrogate", "long"],
)
def test_what_cannot_be_written_leaves_the_earlier_file(tensors, sentence, ckpt):
    path = ckpt(FILE)
    with pytest.raises(ValueError, match=sentence):
        write_ckpt(path, tensors)
    assert path.read_bytes() == FILE
    assert [entry.name for entry in path.parent.iterdir()] == ["some.ckpt"]


def test_a_crash_while_writing_leaves_the_earlier_file(ckpt, monkeypatch):
    path = ckpt(FILE)
    monkeypatch.setattr(mindspore_file, "_header", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_ckpt(path, {"ab": torch.ones(2)})
    assert path.read_bytes() == FILE
    assert [entry.name for entry in path.parent.iterdir()] == ["some.ckpt"]


def test_memory_order_and_gradients_do_not_matter(tmp_path):
    weight = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert read_ckpt(write_ckpt(tmp_path / "w.ckpt", {"w": weight}))["w"].equal(weight.detach())


@st.composite
def tensor_dicts(draw):
    names = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), min_size=1, max_size=5, unique=True))
    tensors = {}
    for name in names:
        dtype, sides = draw(st.sampled_from(list(TYPES.values()))), draw(st.lists(st.integers(0, 4), max_size=4))
        count = torch.Size(sides).numel() * dtype.itemsize
        content = torch.tensor(list(draw(st.binary(min_size=count, max_size=count))), dtype=torch.uint8)
        tensors[name] = (content > 127 if dtype == torch.bool else content.view(dtype)).view(sides)
    return tensors


@settings(deadline=None, max_examples=60)
@given(tensor_dicts())
def test_what_is_written_is_read_bit_for_bit(tmp_path_factory, tensors):
    read = read_ckpt(write_ckpt(tmp_path_factory.mktemp("trip") / "any.ckpt", tensors))
    assert list(read) == list(tensors)
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert read[name].view(-1).view(torch.uint8).equal(tensor.view(-1).view(torch.uint8))
