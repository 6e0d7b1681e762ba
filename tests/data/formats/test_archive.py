import io
import stat
import tarfile
import zipfile

import pytest

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import archive, voc
from maskrcnn.data.formats.archive import is_archive, unpacked
from maskrcnn.data.recognise import recognise
from tests.data.formats.raster_data import draw_data, pixels_of

FILES = {"data/annotations/instances_train.json": b"{}", "data/train/ä b.png": b"png", "data/empty.txt": b""}


@pytest.fixture(autouse=True)
def cache(new_cache):
    return new_cache


def put_zip(path, files=FILES):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def put_tar(path, files=FILES, mode="w:gz", **fields):
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(content))
    return path


def holds(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left(cache):
    """What an unpacking left in the cache besides its lock and what it remembers."""
    return [path.name for path in (cache / "archives").iterdir() if path.name != "lock" and path.suffix != ".memory"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [("set.tar", "w"), ("set.tar.gz", "w:gz"), ("set.TGZ", "w:gz"), ("set.tar.bz2", "w:bz2"), ("set.txz", "w:xz")],
)
def test_tars_are_unpacked(name, mode, tmp_path, cache):
    path = put_tar(tmp_path / name, mode=mode)
    folder = unpacked(path)
    assert (holds(folder), folder.name, cache in folder.parents) == (FILES, name, True)


def test_a_zip_is_unpacked_once(tmp_path, monkeypatch):
    folder = unpacked(put_zip(tmp_path / "set.zip"))
    assert holds(folder) == FILES
    monkeypatch.setattr(archive, "_make", None)
    assert unpacked(tmp_path / "set.zip") == folder
    other = tmp_path / "other/set.zip"
    other.parent.mkdir()
    other.write_bytes((tmp_path / "set.zip").read_bytes())
    assert unpacked(other) == folder


def test_another_content_is_another_folder(tmp_path):
    one = unpacked(put_zip(tmp_path / "set.zip"))
    other = unpacked(put_zip(tmp_path / "set.zip", {"a": b"1"}))
    assert (holds(one), holds(other)) == (FILES, {"a": b"1"})


def test_archives_within_one_are_unpacked_beside_and_no_deeper(tmp_path):
    deepest = put_zip(tmp_path / "deepest.zip", {"x": b"1"})
    inner = put_zip(tmp_path / "task_1.zip", {"annotations.xml": b"<a/>", "more.zip": deepest.read_bytes()})
    outer = {
        "backup/task_1.zip": inner.read_bytes(),
        "task_2.tar.gz": put_tar(tmp_path / "t.tgz", {"b": b"2"}).read_bytes(),
    }
    found = holds(unpacked(put_zip(tmp_path / "project.zip", outer)))
    assert found.keys() == {"backup/task_1/annotations.xml", "backup/task_1/more.zip", "task_2/b"}


OUT = ["../x", "a/../../x", "/etc/x", "..\\x", "C:\\x", "C:/x", "\\\\host\\x"]


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("put", [put_zip, put_tar])
def test_paths_that_lead_out_are_refused_and_nothing_stays(put, name, tmp_path, cache):
    path = put(tmp_path / ("set.zip" if put is put_zip else "set.tgz"), {"a": b"1", name: b"2"})
    with pytest.raises(ValueError, match="leads out of the folder it is unpacked to"):
        unpacked(path)
    assert left(cache) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_tars_are_refused(kind, tmp_path, cache):
    path = put_tar(tmp_path / "set.tar", {"a": b""}, "w", type=kind, linkname="/etc/passwd")
    with pytest.raises(ValueError, match="a link or a device"):
        unpacked(path)
    assert left(cache) == []


def test_links_of_zips_are_refused(tmp_path):
    info = zipfile.ZipInfo("a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="a link or a device"):
        unpacked(tmp_path / "set.zip")


@pytest.mark.parametrize("put", [put_zip, put_tar])
def test_what_would_fill_the_disk_is_refused(put, tmp_path, monkeypatch, cache):
    monkeypatch.setattr(archive, "FREE", 1 << 16)
    path = put(tmp_path / ("set.zip" if put is put_zip else "set.tgz"), {"a": b"\0" * (1 << 22)})
    with pytest.raises(ValueError, match="unpacks to more than"):
        unpacked(path)
    assert left(cache) == []


def test_a_bomb_within_an_archive_counts_against_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FREE", 1 << 16)
    inner = put_zip(tmp_path / "inner.zip", {"a": b"\0" * (1 << 22)})
    with pytest.raises(ValueError, match=r"outer\.zip unpacks to more than"):
        unpacked(put_zip(tmp_path / "outer.zip", {"inner.zip": inner.read_bytes()}))


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    with pytest.raises(ValueError, match="more than 2 files"):
        unpacked(put_zip(tmp_path / "set.zip"))


def test_a_header_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST_HEADER", 1 << 12)
    path = put_tar(tmp_path / "set.tgz", {"n" * (1 << 13): b""})
    with pytest.raises(ValueError, match=r"set.tgz is damaged .*header of"):
        unpacked(path)


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz", "set.tar"])
@pytest.mark.parametrize("cut", [0, 10, 300, -30])
def test_what_is_damaged_is_named_and_nothing_stays(name, cut, tmp_path, cache):
    put = put_zip if name.endswith("zip") else put_tar
    path = put(tmp_path / name, FILES | {"x": bytes(range(256)) * 8})
    path.write_bytes(path.read_bytes()[:cut] + b"\x00\xff" * 9)
    with pytest.raises(ValueError, match="is damaged or cut off"):
        unpacked(path)
    assert left(cache) == []


@pytest.mark.parametrize("name", ["set.tgz", "set.tar.bz2"])
def test_packed_bytes_that_were_changed_are_named(name, tmp_path):
    path = put_tar(tmp_path / name, {"x": bytes(range(256)) * 400}, "w:gz" if name.endswith("gz") else "w:bz2")
    data = bytearray(path.read_bytes())
    data[60:70] = b"\x55" * 10
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged or cut off"):
        unpacked(path)


def test_a_name_that_occurs_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a", "2")
    with pytest.raises(ValueError, match="'a' twice"):
        unpacked(tmp_path / "set.zip")


def test_what_is_encrypted_is_refused(tmp_path):
    path = put_zip(tmp_path / "set.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="which is encrypted"):
        unpacked(path)


def test_what_macos_adds_is_left_out(tmp_path):
    assert holds(unpacked(put_zip(tmp_path / "set.zip", {"a": b"1", "__MACOSX/._a": b"2"}))) == {"a": b"1"}


def test_a_cache_without_room_is_told(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_copy", fail)
    with pytest.raises(OSError, match=r"No space left on device.*MASKRCNN_CACHE"):
        unpacked(put_zip(tmp_path / "set.zip"))


def test_a_cache_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"set\.zip cannot be unpacked into the cache.*; set MASKRCNN_CACHE to a folder"):
        unpacked(put_zip(tmp_path / "set.zip"))


def test_endings_tell_archives(tmp_path):
    assert is_archive(put_zip(tmp_path / "a.ZIP"))
    assert not is_archive(tmp_path / "b.zip")
    assert not is_archive(tmp_path)


def test_the_data_set_in_an_archive_is_recognised(tmp_path):
    data = draw_data(tmp_path / "from")
    voc.write({"train": data}, tmp_path / "to")
    files = {path.relative_to(tmp_path / "to").as_posix(): path.read_bytes() for path in (tmp_path / "to").rglob("*.*")}
    (source,) = recognise(put_zip(tmp_path / "set.zip", files)).sources
    assert (source.format, source.part) == ("voc", "train")
    assert pixels_of(voc.read(source, Faults())) == pixels_of(data)
