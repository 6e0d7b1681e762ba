"""Images in tars are read where they lie, and tars that lead elsewhere, or lie, are told of and never unpacked."""

import io
import os
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data import tar_members
from maskrcnn.data.decode import decode, probe, read_image
from maskrcnn.data.tar_members import first_members, index_of, read_member, tar_of


def png(seed=0, size=(20, 30)):
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def info(name, size=0, **fields):
    found = tarfile.TarInfo(name)
    found.size = size
    for key, value in fields.items():
        setattr(found, key, value)
    return found


def put(path, members):
    """Write a tar of (header, content)."""
    with tarfile.open(path, "w") as tar:
        for header, content in members:
            tar.addfile(header, io.BytesIO(content))
    return path


@pytest.fixture
def tar(tmp_path):
    content = png()
    return put(
        tmp_path / "a.tar", [(info("b/1.png", len(content)), content), (info("./a.json", 2), b"{}"), (info("c"), b"")]
    )


def test_an_image_is_read_by_a_path_through_its_tar(tar, tmp_path):
    (tmp_path / "1.png").write_bytes(png())
    assert read_image(tar / "b/1.png") == png()
    assert np.array_equal(decode(tar / "b" / "1.png"), decode(tmp_path / "1.png"))
    assert probe(tar / "b/1.png").size == (20, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "a.tar"]


def test_members_are_listed_as_they_lie_and_found_by_name(tar):
    index = index_of(tar)
    assert [one.name for one in index.in_order()] == ["b/1.png", "a.json", "c"]
    assert read_member(tar, index.find("a.json")) == b"{}"
    assert index.find("a") is None
    assert [one.name for one in first_members(tar, 2)] == ["b/1.png", "a.json"]


def test_a_member_that_is_not_there_is_an_image_that_does_not_exist(tar):
    with pytest.raises(FileNotFoundError, match=r"the image .*a\.tar/b/2\.png does not exist; restore it"):
        read_image(tar / "b/2.png")


def test_a_folder_that_is_called_like_a_tar_is_a_folder(tmp_path):
    (tmp_path / "b.tar").mkdir()
    (tmp_path / "b.tar/1.png").write_bytes(png())
    assert tar_of(tmp_path / "b.tar/1.png") is None
    assert read_image(tmp_path / "b.tar/1.png") == png()


def test_a_tar_that_was_written_anew_is_indexed_anew(tar):
    index_of(tar)
    time.sleep(0.01)
    put(tar, [(info("x.png", 3), b"new")])
    assert read_image(tar / "x.png") == b"new"


def test_the_index_of_a_large_tar_is_kept_in_the_cache(tar, new_cache, monkeypatch):
    monkeypatch.setattr(tar_members, "SMALL", 0)
    os.utime(tar, (1, 1))
    monkeypatch.setattr(tar_members, "SETTLED", 0)
    before = index_of(tar).in_order()
    tar_members._index.cache_clear()
    monkeypatch.setattr(tar_members, "_members", None)
    assert index_of(tar).in_order() == before
    assert len(list((new_cache / "annotations").glob("*-tar1.columns"))) == 1


HOSTILE = {
    "symbolic link": (info("l.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"", "a link or a device"),
    "hard link": (info("l.png", type=tarfile.LNKTYPE, linkname="../x"), b"", "a link or a device"),
    "device": (info("l.png", type=tarfile.CHRTYPE), b"", "a link or a device"),
    "pipe": (info("l.png", type=tarfile.FIFOTYPE), b"", "a link or a device"),
    "absolute": (info("/etc/l.png"), b"", "leads out of the folder"),
    "climbs": (info("a/../../l.png"), b"", "leads out of the folder"),
    "twice": (info("b/1.png"), b"", "twice"),
    "nameless": (info("./"), b"", "without a name"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_told_and_nothing_is_unpacked(kind, tmp_path):
    header, content, words = HOSTILE[kind]
    tar = put(tmp_path / "a.tar", [(info("b/1.png"), b""), (header, content)])
    with pytest.raises(ValueError, match=f"a.tar holds .*{words}"):
        index_of(tar)
    assert list(tmp_path.iterdir()) == [tar]


def test_a_size_beyond_the_file_is_told(tmp_path):
    path = tmp_path / "a.tar"
    for size in (10_000, 1 << 40, 1 << 60):
        path.write_bytes(info("1.png", size).tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        with pytest.raises(ValueError, match="is cut off or damaged"):
            index_of(path)


def test_a_negative_size_is_told(tmp_path):
    header = bytearray(info("1.png", 0).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b"        "
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ValueError, match="damaged"):
        index_of(path)


def test_a_sparse_member_is_told(tmp_path):
    path = tmp_path / "a.tar"
    header = info("1.png", 1 << 40, pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)})
    header.size = 0
    put(path, [(header, b"")])
    with pytest.raises(ValueError, match="a file with holes"):
        index_of(path)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_a_cut_tar_is_told(tmp_path, share):
    content = png()
    whole = put(tmp_path / "a.tar", [(info(f"{n}.png", len(content)), content) for n in range(4)]).read_bytes()
    used = 4 * (512 + -(-len(content) // 512) * 512)
    (tmp_path / "a.tar").write_bytes(whole[: int(share * used)])
    with pytest.raises(ValueError, match=r"cut off|damaged"):
        index_of(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(whole[: used // 2])  # between two members
    with pytest.raises(ValueError, match="no end is marked behind its last file"):
        index_of(tmp_path / "a.tar")


def test_a_tar_that_is_cut_after_it_was_indexed_is_told(tar):
    member = index_of(tar).find("b/1.png")
    tar.write_bytes(tar.read_bytes()[: member.offset + 5])
    with pytest.raises(ValueError, match=r"is cut off in b/1\.png; copy it again"):
        read_member(tar, member)


def test_compressed_and_foreign_bytes_are_told(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(info("1.png"))
    with pytest.raises(ValueError, match="is compressed"):
        index_of(path)
    path.write_bytes(b"no tar" * 1000)
    with pytest.raises(ValueError, match="is damaged or cut off"):
        index_of(path)


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    """An extended header that claims 8 GB in a file with a hole of that size."""
    path = tmp_path / "a.tar"
    size = 8 << 30
    with path.open("wb") as file:
        file.write(info("pax", size, type=tarfile.XHDTYPE).tobuf(tarfile.GNU_FORMAT))
        file.truncate(size + 2048)
    with pytest.raises(ValueError, match=f"a header of {size} bytes"):
        index_of(path)


def test_long_names_one_after_the_other_do_not_end_the_process(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(info("././@LongLink", 0, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT) * 20_000)
    with pytest.raises(ValueError, match="damaged"):
        index_of(path)
