"""Files broken as editors, exporters, disks and hostile people break them, drawn from a seed."""

import io
import json
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from . import fuzz

LABELS = (".json", ".xml", ".txt", ".yaml", ".yml", ".csv")
LARGE = 8 << 30
"""Bytes of a file that has a hole for most of its content."""
WORDS = (
    *("", "0", "-1", "1", "7", "0.5", "1e999", "-1e999", "nan", "NaN", "inf", "1_000", "0x10", "1e308", "-1e308"),
    *("9" * 30, "9" * 5000, "2147483648", "9223372036854775808", "\u0663", "\u00b2", "\uff11", "1,5", "true", "null"),
    *("~", "../../../etc/passwd", "/", "..", ".", "a\nb", "\r", "a\\b.png", "con", "x" * 300, "x" * 70_000, "\0"),
    *("\ud7ff", "\ud800", "\u202e", "\ufeff", "K\u00e4fer", "%2e%2e%2f", "%", "%zz", "b'1'", "<a>", "&lt;", "'", '"'),
    *(
        "[",
        "{",
        "*a",
        "&a [*a]",
        "!!python/object:os.system x",
        "http://[::1",
        "file:///etc/passwd",
        "s3://a/b",
        "C:\\1.png",
    ),
)
"""Words that stand where others belong."""
STRANGE = (
    *(b"", b"\0", b"\0" * 4096, b"\xff\xfe", b"\xef\xbb\xbf", b"{}", b"[]", b"<", b"<!DOCTYPE html><html></html>"),
    b"version https://git-lfs.github.com/spec/v1\n",
)
"""Whole files that are something else."""
BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 50}">' for n in range(10))
OTHER_SIZES = ((1, 1), (64, 63), (200, 3), (1, 5000), (900, 700))
KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "I;16", "F", "YCbCr")
FORMATS = ("PNG", "PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "ICO", "PDF")


def mutate(random: Random, root: Path) -> None:
    """Do one to three things to the files below a folder."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        files = [Path(folder) / name for folder, _, names in os.walk(root) for name in sorted(names)]
        files = [path for path in sorted(files) if path.is_file() and path.stat().st_size < 1 << 22]
        labels = [path for path in files if path.suffix in LABELS]
        if not files:
            return
        path = random.choice(labels if labels and random.random() < 0.6 else files)
        with suppress(OSError):  # what is put there may be there already
            random.choices((change, move), (6, 1))[0](random, path)


def change(random: Random, path: Path) -> None:
    """Write other content in the place of a file's."""
    data = path.read_bytes()
    known = {".json": _json, ".xml": _xml, ".txt": _text, ".csv": _text, ".yaml": _text}.get(path.suffix, _image)
    try:
        data = random.choices((known, _bytes), (4, 1))[0](random, data)
    except (ValueError, LookupError, OSError, SyntaxError, RuntimeError, struct.error, Image.DecompressionBombError):
        # it was broken before
        data = _bytes(random, data)
    path.write_bytes(data)


def _bytes(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    way = random.randrange(9)
    at = random.randint(0, len(data))
    if way < 3:
        for _ in range(random.choice((1, 1, 3, 20)) if data else 0):
            changed[random.randrange(len(data))] = random.randrange(256)
    elif way < 5:
        del changed[at:]
    elif way == 5:
        del changed[at : at + random.choice((1, 2, 16, 300))]
    elif way == 6:
        changed[at:at] = data[at : at + random.choice((1, 8, 100))] * random.choice((1, 2, 50))
    elif way == 7:
        changed[at:] = bytes(len(data) - at)
    else:
        return random.choice((*STRANGE, data * 2))
    return bytes(changed)


def _json(random: Random, data: bytes) -> bytes:
    content = json.loads(data)
    for _ in range(random.choice((0, 1, 1, 1, 2, 8))):
        random.choice((fuzz.replace, fuzz.remove, fuzz.repeat, fuzz.spell, _rename, _swap, _put))(random, content)
    text = json.dumps(content, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.1:
        found = random.choice(re.findall(r'"\w+"\s*:', text) or [""])
        text = text.replace(found, f"{found} {json.dumps(random.choice(WORDS))}, {found}", 1)
    if random.random() < 0.1:
        text = _tokens(random, text, r"-?\d+(?:\.\d+)?")
    return fuzz.damage(random, text)


def _rename(random: Random, content: Any) -> None:
    keys = [(where, key) for where, key in fuzz.places(content) if isinstance(where, dict)]
    if keys:
        where, key = random.choice(keys)
        where[random.choice((key.upper(), f" {key}", key[:-1], f"{key}s", *WORDS))] = where.pop(key)


def _swap(random: Random, content: Any) -> None:
    """Exchange two values of any places."""
    (one, a), (other, b) = (random.choice(fuzz.places(content)) for _ in range(2))
    one[a], other[b] = json.loads(json.dumps(other[b])), json.loads(json.dumps(one[a]))


def _put(random: Random, content: Any) -> None:
    """Replace a text or number by a word, or by one more of what is there."""
    leaves = [(w, k) for w, k in fuzz.places(content) if not isinstance(w[k], dict | list)]
    if leaves:
        where, key = random.choice(leaves)
        value = where[key]
        where[key] = random.choice((random.choice(WORDS), [value], [value] * 3, {"a": value}, value))
        if isinstance(value, int | float) and random.random() < 0.5:
            where[key] = random.choice((-value, value * 1e6, value * 10**20, value + 0.5, value / 100))


def _tokens(random: Random, text: str, pattern: str) -> str:
    """Replace some of the words that a pattern finds."""
    found = [match.span() for match in re.finditer(pattern, text)]
    for start, stop in sorted(random.sample(found, min(len(found), random.choice((1, 1, 2, 10)))), reverse=True):
        text = text[:start] + random.choice(WORDS) + text[stop:]
    return text


def _text(random: Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    lines = text.splitlines(keepends=True) or [""]
    at = random.randrange(len(lines))
    way = random.randrange(10)
    if way < 5:
        text = _tokens(random, text, r"[^\s:,\[\]{}\"']+")
    elif way == 5:
        text = "".join([*lines[:at], *lines[at:][:1] * random.choice((2, 3, 5000)), *lines[at:]])
    elif way == 6:
        text = "".join(lines[:at] + lines[at + 1 :])
    elif way == 7:
        text = "".join([*lines[:at], random.choice(WORDS), "\n", *lines[at:]])
    elif way == 8:
        text = text.replace(*random.choice(((" ", "\t"), ("\n", "\r"), (" ", "  "), (":", ""), (",", ";"), ('"', "'"))))
    else:
        text += "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9 if n else 'x'}]\n" for n in range(9)) + "names: *a8\n"
    return fuzz.damage(random, text)


def _xml(random: Random, data: bytes) -> bytes:
    root = ElementTree.fromstring(data)
    for _ in range(random.choice((0, 1, 1, 1, 2, 8))):
        _element(random, root)
    text = ElementTree.tostring(root, encoding="unicode")
    way = random.randrange(12)
    if way == 0:
        text = f"<!DOCTYPE {root.tag} [{BOMB}]>" + text.replace(">", ">&e9;", 1)
    elif way == 1:
        text = f'<!DOCTYPE {root.tag} [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + text.replace(">", ">&e;", 1)
    elif way == 2:
        text = text.replace(">", ">" + "<a>" * random.choice((20, fuzz.DEEP)), 1)
    elif way == 3:
        named = random.choice(("utf-16", "windows-1251", "utf-7", "zlib_codec", "cp65001", "iso-8859-99", "euc-zz"))
        text = f'<?xml version="1.0" encoding="{named}"?>{text}'
    elif way == 4:
        text = _tokens(random, text, r"-?\d+(?:\.\d+)?")
    return fuzz.damage(random, text)


def _element(random: Random, root: ElementTree.Element) -> None:
    elements = list(root.iter())
    one, other = random.choice(elements), random.choice(elements)
    way = random.randrange(8)
    clean = re.sub("[\0\ud7ff\ud800]", "", random.choice(WORDS))
    if way < 3 and one.attrib:
        one.set(random.choice(sorted(one.attrib)), clean)
    elif way == 3 and one.attrib:
        del one.attrib[random.choice(sorted(one.attrib))]
    elif way == 4:
        one.text = clean
    elif way == 5:
        one.tag = random.choice(("x", other.tag, one.tag.upper()))
    elif way == 6 and len(one):
        one.remove(random.choice(list(one)))
    elif len(one):
        one.append(random.choice(list(one)))


def _image(random: Random, data: bytes) -> bytes:
    way = random.randrange(8)
    if way < 2 and data.startswith(b"\x89PNG"):
        return _png(random, data)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    if way == 3:
        image = image.resize(random.choice(OTHER_SIZES))
    elif way == 4:
        image = image.rotate(90, expand=True)
    elif way == 5:
        noise = np.random.default_rng(random.randrange(1 << 30)).integers(0, 1 << 16, image.size[::-1], np.uint16)
        image = Image.fromarray(noise)
    mode, form = random.choice((image.mode, *MODES)), random.choice(FORMATS)
    try:
        image = image if mode == image.mode else image.convert("L").convert(mode)
    except ValueError:
        image = image.convert("L")
    file = io.BytesIO()
    extra: dict[str, Any] = {}
    if random.random() < 0.2 and form in ("GIF", "TIFF", "PNG", "WEBP"):
        extra = {"save_all": True, "append_images": [image, image.resize((3, 5))]}
    if random.random() < 0.2 and form in ("PNG", "JPEG", "TIFF", "WEBP"):
        exif = Image.Exif()
        exif[0x0112] = random.choice((0, 3, 5, 6, 8, 9))
        extra |= {"exif": exif}
    try:
        image.save(file, form, **extra)
    except (OSError, KeyError, ValueError, RuntimeError, struct.error):
        file = io.BytesIO()
        image.convert("L").save(file, "PNG")
    return file.getvalue()


def _png(random: Random, data: bytes) -> bytes:
    """Another header, with the right check sum, or another chunk."""
    fields = list(struct.unpack(">IIBBBBB", data[16:29]))
    if random.random() < 0.7:
        at = random.randrange(7)
        sizes = (0, 1, 63, 65, 10_000, 1_000_000, 150_000_000, 2**31 - 1, 2**32 - 1)
        fields[at] = random.choice(sizes if at < 2 else (0, 1, 2, 3, 4, 6, 8, 16, 255))
        return data[:16] + _checked(b"IHDR", struct.pack(">IIBBBBB", *fields))[8:] + data[33:]
    name = random.choice((b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"eXIf", b"gAMA", b"iTXt", b"fcTL"))
    size = random.choice((0, 1, 3, 7, 26, 768, 5000))
    content = b"a\0\0" + zlib.compress(bytes(1 << 23)) if name == b"zTXt" else random.randbytes(size)
    return data[:33] + _checked(name, content) + data[33:]


def _checked(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def move(random: Random, path: Path) -> None:
    """Remove or rename a file, or put something else in its place."""
    way = random.randrange(10)
    content = path.read_bytes()
    path.unlink()
    if way == 0:
        path.mkdir()
    elif way == 1:
        shutil.rmtree(path.parent)
        path.parent.write_bytes(content)
    elif way == 2:
        path.symlink_to(path.name)
        (path.parent / "loop").symlink_to(path.parent, target_is_directory=True)
    elif way == 3:
        path.symlink_to(path.with_name("nowhere.png"))
    elif way == 4:
        with path.open("wb") as file:
            file.write(content)
            file.truncate(LARGE)
    elif way == 5:
        stem, ending = path.stem, path.suffix
        names = (
            f"{stem}{ending.upper()}",
            f"{stem} (1){ending}",
            f"{stem}.jpg",
            f"{path.name}.txt",
            f"{'x' * 200}{ending}",
        )
        path.with_name(random.choice((*names, path.name.upper(), "b\udcff.png", "\u0662.json"))).write_bytes(content)
    elif way == 6:
        path.write_bytes(content)
        deep = path.parent.joinpath(*["a"] * random.choice((2, 14, 60)))
        deep.mkdir(parents=True, exist_ok=True)
        (deep / path.name).write_bytes(content)
    elif way == 7:
        path.write_bytes(content)
        path.with_name(path.name.swapcase()).write_bytes(content)
    elif way == 8:
        path.write_bytes(content)
        for one in range(300):
            path.with_name(f"{one}{path.suffix}").write_bytes(content)


def pack(random: Random, folder: Path, path: Path) -> None:
    """Pack a folder, and break the archive half of the time."""
    files = [Path(below) / name for below, _, names in os.walk(folder) for name in sorted(names)]
    files = [file for file in sorted(files) if file.is_file() and file.stat().st_size < LARGE]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder).as_posix().encode("utf-8", "replace").decode())
            if random.random() < 0.3:
                name = random.choice((*WORDS, "a/../../b", "a.zip", "b.tar.gz")).encode("utf-8", "replace").decode()
                archive.writestr(name.replace("\0", "?") or "?", random.choice((b"", b"PK\3\4", b"x")))
            if random.random() < 0.1:
                archive.writestr("bomb.json", bytes(1 << 29), zipfile.ZIP_DEFLATED, 1)
    else:
        with tarfile.open(path, random.choice(("w", "w:gz", "w:bz2", "w:xz"))) as archive:
            for file in files:
                archive.add(file, file.relative_to(folder).as_posix(), recursive=False)
            if random.random() < 0.3:
                info = tarfile.TarInfo(random.choice(("a/../../b", "/a", "b", "x" * 300)))
                info.type = random.choice(
                    (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S", b"x")
                )
                info.linkname = "../../etc/passwd"
                archive.addfile(info)
    if random.random() < 0.5:
        path.write_bytes(_bytes(random, path.read_bytes()))
