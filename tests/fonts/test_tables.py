"""Which letters a font has, from its bytes."""

import struct

import numpy as np
import pytest

from maskrcnn.fonts.tables import Face, lacking, read_faces

from .conftest import font


def faces_of(tmp_path, content: bytes) -> list[Face]:
    path = tmp_path / "a.ttf"
    path.write_bytes(content)
    return read_faces(path)


@pytest.mark.parametrize("kind", [4, 12])
def test_the_letters_of_a_font_are_found_in_both_forms_of_table(tmp_path, kind):
    [face] = faces_of(tmp_path, font("AЯ细", kind))
    assert face.lacks("A细Яbя") == "bя"
    assert face.lacks("") == ""
    assert face.lacks("\U00020000") == "\U00020000"


def test_letters_beyond_16_bits_are_found(tmp_path):
    [face] = faces_of(tmp_path, font("A\U00020000", 12))
    assert face.lacks("A\U00020000\U00020001") == "\U00020001"


def test_a_font_that_shows_one_sign_for_all_letters_has_none(tmp_path):
    [face] = faces_of(tmp_path, font("A细", 13))
    assert face.lacks("A细") == "A细"


def test_fonts_of_pictures_and_without_outlines_are_left_out(tmp_path):
    assert faces_of(tmp_path, font("A", drop=b"glyf")) == []
    assert faces_of(tmp_path, font("A").replace(b"maxp", b"CBDT")) == []


def test_every_font_of_a_collection_is_found(tmp_path):
    one, head = font("A"), 12 + 8
    tables = bytearray(one)
    for row in range(12, 12 + 16 * 7, 16):
        (start,) = struct.unpack_from(">I", tables, row + 8)
        struct.pack_into(">I", tables, row + 8, start + head)
    collection = struct.pack(">4sIIII", b"ttcf", 1 << 16, 2, head, head) + bytes(tables)
    assert [(face.number, face.lacks("Ab")) for face in faces_of(tmp_path, collection)] == [(0, "b"), (1, "b")]


def test_a_broken_font_has_no_letters_and_raises_nothing(tmp_path):
    whole, rng = font("A细", 12), np.random.default_rng(0)
    for length in (0, 3, 11, 40, 130):
        assert all(face.lacks("A细") == "A细" for face in faces_of(tmp_path, whole[:length]))
    for content in (whole, font("AЯ细", 4)):
        for _ in range(150):
            broken = bytearray(content)
            for place in rng.integers(0, 260, 6).tolist():
                broken[place] = int(rng.integers(256))
            for face in faces_of(tmp_path, bytes(broken)):
                face.lacks("AЯ细\U00020000")
    assert lacking(b"", "A") == "A"
    assert read_faces(tmp_path / "absent.ttf") == []
