"""Images and recipes that are made to fill the memory or never to end: `python tools/torture_bombs.py`.

Each is drawn anew and read in a process of its own, whose seconds of the processor and peak memory are printed; nothing
is kept. What counts is that it takes under 500 MB and a second, and ends in a sentence unless it is whole.
"""

import io
import multiprocessing
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

MOST_MEBIBYTES, MOST_SECONDS = 500, 1.0
Draw = Callable[[], bytes]


def png(size: tuple[int, int], *, bits: int = 8, color: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG that states a (height, width); data are its pixels, deflated, extra chunks come before them."""
    head = struct.pack(">IIBBBBB", size[1], size[0], bits, color, 0, 0, 0)
    chunks = [chunk(b"IHDR", head), extra, chunk(b"IDAT", data or zlib.compress(bytes(64))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def zeros(number: int) -> bytes:
    """Zeros, deflated, of which only a piece is ever in memory."""
    packer, piece = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(1 + (number >> 20))) + packer.flush()


def jpeg(size: tuple[int, int], **options: object) -> bytes:
    """A small JPEG whose header states another (height, width)."""
    data = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG", **options))
    place = next(data.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in data)
    data[place + 5 : place + 9] = struct.pack(">HH", *size)
    return bytes(data)


def jpeg_of_scans(side: int, number: int) -> bytes:
    """A progressive JPEG whose last scan is there many times."""
    data = saved(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * number + data[-2:]


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """An image's file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def patched(data: bytes, *values: tuple[int, bytes]) -> bytes:
    """Bytes with others at some places."""
    changed = bytearray(data)
    for place, value in values:
        changed[place : place + len(value)] = value
    return bytes(changed)


def webp(width: int, height: int) -> bytes:
    """A WebP without loss that states a size in 34 bytes."""
    bits = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes([0x88, 0x88, 0x08, 0, 0, 0, 0, 0, 0])
    return b"RIFF" + struct.pack("<I", 12 + len(bits)) + b"WEBPVP8L" + struct.pack("<I", len(bits)) + bits


def gif(canvas: tuple[int, int], frames: int) -> bytes:
    """A GIF of frames of one pixel on a (width, height)."""
    image = saved(Image.new("P", (1, 1)), "GIF")
    start = image.index(b",")
    frame = b"\x21\xf9\x04\x00\x0a\x00\x00\x00" + image[start:-1]
    return patched(image[:start], (6, struct.pack("<HH", *canvas))) + frame * frames + b";"


def tiff(*pages: dict[int, tuple[int, list[int]]], loop: bool = False, body: bytes = bytes(64)) -> bytes:
    """A TIFF of pages, each of tags by (kind, values); pixels lie at 8, and the last page may lead to the first."""
    parts, at = [body], 8 + len(body)
    first = at
    for number, tags in enumerate(pages, 1):
        end = at + 6 + 12 * len(tags)
        entries, rest = b"", b""
        for tag, (kind, values) in sorted(tags.items()):
            packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'L'}", *values)
            room = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<L", end + len(rest))
            rest += packed if len(packed) > 4 else b""
            entries += struct.pack("<HHL", tag, kind, len(values)) + room
        at = end + len(rest)
        following = at if number < len(pages) else first if loop else 0
        parts.append(struct.pack("<H", len(tags)) + entries + struct.pack("<L", following) + rest)
    return b"II*\0" + struct.pack("<L", first) + b"".join(parts)


def page(height: int, width: int, bits: int = 8, **more: tuple[int, list[int]]) -> dict[int, tuple[int, list[int]]]:
    """Tags of a TIFF's page of one strip at 8."""
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits]), 259: (3, [1]), 262: (3, [1]), 273: (4, [8])}
    return tags | {278: (4, [height]), 279: (4, [64])} | {int(tag[1:]): value for tag, value in more.items()}


def npy(shape: str) -> bytes:
    """An array's file that states a shape."""
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64)


DEEP = {258: (3, [16, 16, 16]), 262: (3, [2]), 277: (3, [3])}
IMAGES: dict[str, Draw] = {
    "huge.jpg": lambda: jpeg((40_000, 40_000)),
    "huge-progressive.jpg": lambda: jpeg((40_000, 40_000), progressive=True),
    "hollow.jpg": lambda: jpeg((12_000, 12_000)),
    "hollow-progressive.jpg": lambda: jpeg((12_000, 12_000), progressive=True),
    "gray.jpg": lambda: jpeg((65_000, 65_000)),
    "scans.jpg": lambda: jpeg_of_scans(2000, 5000),
    "scans-90.jpg": lambda: jpeg_of_scans(5000, 90),
    "restarts.jpg": lambda: saved(Image.new("RGB", (64, 64)), "JPEG")[:-2] + b"\xff\xd0" * 5_000_000,
    "comments.jpg": lambda: b"\xff\xd8" + (b"\xff\xfe\xff\xff" + bytes(65533)) * 300 + jpeg((40_000, 40_000))[2:],
    "huge.png": lambda: png((100_000, 100_000)),
    "hollow.png": lambda: png((12_000, 12_000)),
    "hollow-deep.png": lambda: png((12_000, 12_000), bits=16),
    "zeros.png": lambda: png((12_000, 12_000), data=zeros(12_000 * 36_001)),
    "zeros-bits.png": lambda: png((13_000, 13_000), bits=1, color=0, data=zeros(13_000 * 1626)),
    "zeros-deep.png": lambda: png((8_000, 8_000), bits=16, data=zeros(8_000 * 48_001)),
    "behind.png": lambda: png((16, 16), data=zeros(1 << 30)),
    "text.png": lambda: png((16, 16), extra=chunk(b"zTXt", b"a\0\0" + zeros(1 << 30))),
    "texts.png": lambda: png((16, 16), extra=chunk(b"zTXt", b"a\0\0" + zeros(1 << 20)) * 2000),
    "long-text.png": lambda: png((16, 16), extra=chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(1 << 30))),
    "profile.png": lambda: png((16, 16), extra=chunk(b"iCCP", b"a\0\0" + zeros(1 << 30))),
    "chunks.png": lambda: png((16, 16), extra=chunk(b"abCd", b"") * 300_000),
    "huge.tif": lambda: tiff(page(1_000_000, 1_000_000)),
    "deep.tif": lambda: tiff(page(12_000, 12_000) | DEEP),
    "strips.tif": lambda: tiff(
        page(10_000, 10_000, 16, t278=(4, [1]), t273=(4, [8] * 10_000), t279=(4, [64] * 10_000))
    ),
    "tiles.tif": lambda: tiff(page(10_000, 10_000, 16, t322=(4, [1]), t323=(4, [1]), t324=(4, [8]), t325=(4, [64]))),
    "block.tif": lambda: tiff(
        page(10, 10, 16, t259=(3, [8]), t322=(4, [900_000]), t323=(4, [900_000]), t324=(4, [8]), t325=(4, [64]))
    ),
    "loop.tif": lambda: tiff(page(8, 8), page(8, 8), loop=True),
    "loop-deep.tif": lambda: tiff(page(4, 8, 16), page(4, 8, 16), loop=True),
    "pages.tif": lambda: tiff(*[page(1, 1)] * 300),
    "pages-deep.tif": lambda: tiff(*[page(1, 1, 16)] * 300),
    "tags.tif": lambda: tiff(*[page(4, 8, 16, t65000=(4, [7] * 50_000))] * 20, body=bytes(1 << 20)),
    "fax.tif": lambda: saved(Image.new("1", (12_000, 12_000)), "TIFF", compression="group4"),
    "pieces.tif": lambda: saved(Image.new("L", (13_000, 13_000)), "TIFF", compression="tiff_adobe_deflate"),
    "frames.gif": lambda: gif((4_000, 4_000), 2_000),
    "huge.gif": lambda: gif((65_535, 65_535), 1),
    "hollow.gif": lambda: gif((12_000, 12_000), 1),
    "huge.webp": lambda: webp(12_000, 12_000),
    "largest.webp": lambda: webp(16_384, 16_384),
    "animated.webp": lambda: patched(
        saved(
            Image.new("RGB", (64, 64)), "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 64), "red")] * 50
        ),
        (24, b"\xdf\x2e\x00\xdf\x2e\x00"),
    ),
    "huge.bmp": lambda: patched(saved(Image.new("RGB", (8, 8)), "BMP"), (18, struct.pack("<ii", 60_000, 60_000))),
    "hollow.bmp": lambda: patched(saved(Image.new("RGB", (8, 8)), "BMP"), (18, struct.pack("<ii", 12_000, 12_000))),
    "huge.ppm": lambda: b"P6 100000 100000 255\n" + bytes(64),
    "hollow.ppm": lambda: b"P6 12000 12000 255\n" + bytes(64),
    "bits.pbm": lambda: b"P4 13000 13000\n" + bytes(64),
    "blanks.pgm": lambda: b"P5" + b" " * 20_000_000 + b"8 8 255\n" + bytes(64),
    "huge.jp2": lambda: patched_jp2(60_000),
    "hollow.jp2": lambda: patched_jp2(12_000),
    "blank.avif": lambda: saved(Image.new("RGB", (7_000, 7_000)), "AVIF", speed=10),
    "huge.tga": lambda: patched(saved(Image.new("RGB", (8, 8)), "TGA"), (12, struct.pack("<HH", 60_000, 60_000))),
    "hollow.tga": lambda: patched(saved(Image.new("RGB", (8, 8)), "TGA"), (12, struct.pack("<HH", 12_000, 12_000))),
    "huge.qoi": lambda: b"qoif" + struct.pack(">II", 12_000, 12_000) + b"\x03\x00" + b"\xfd" * 64,
    "huge.pcx": lambda: patched(saved(Image.new("L", (8, 8)), "PCX"), (8, struct.pack("<HH", 64_000, 64_000))),
    "huge.npy": lambda: npy("(100000, 100000)"),
    "wide.npy": lambda: npy("(100, 100, 99999999)"),
    "endless.npy": lambda: npy("(4611686018427387905, 4)"),
}
"""What draws each image, by its name."""


def patched_jp2(side: int) -> bytes:
    """A JPEG 2000 image that states a side, in its container and in its stream."""
    data = saved(Image.new("RGB", (64, 64)), "JPEG2000")
    box, stream = data.index(b"ihdr") + 4, data.index(b"\xff\x51") + 6
    return patched(data, (box, struct.pack(">II", side, side)), (stream, struct.pack(">II", side, side)))


def read_image(path: Path) -> None:
    """Read an image in each way in which commands do: its header, as training, and all of its pages as prediction."""
    from maskrcnn.data.decode import decode, open_file, probe
    from maskrcnn.data.oddities import Oddities
    from maskrcnn.data.pages import pages

    probe(path)
    decode(path)
    with open_file(path) as file:
        for _ in pages(file, path, Oddities()):
            pass


def read_recipe(path: Path) -> None:
    """Read a recipe."""
    from maskrcnn.recipes import read_recipe

    read_recipe(str(path))


def nested(folder: Path) -> Path:
    """24 recipes, each of which names the one before it twice as its base."""
    (folder / "0.yml").write_text("name: zero\n")
    for number in range(1, 25):
        (folder / f"{number}.yml").write_text(f"__BASE__: [{number - 1}.yml, {number - 1}.yml]\n")
    return folder / "24.yml"


def aliases(number: int) -> str:
    """YAML in which each list holds the one before it ten times."""
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, number))]
    return "\n".join(lines)


RECIPES: dict[str, Callable[[Path], Path]] = {
    "brackets-100000.yml": lambda folder: written(folder, "name: " + "[" * 100_000),
    "brackets-3000.yml": lambda folder: written(folder, "name: " + "[" * 3_000 + "]" * 300),
    "braces.yml": lambda folder: written(folder, "name: " + "{a: " * 100_000),
    "sections.yml": lambda folder: written(folder, "\n".join(" " * i + "a:" for i in range(1_000))),
    "dashes.yml": lambda folder: written(folder, "name: " + "- " * 50_000),
    "keys.yml": lambda folder: written(folder, "\n".join(f"k{i}: 1" for i in range(20_000))),
    "keys-of-section.yml": lambda folder: written(folder, "data:\n" + "\n".join(f"  k{i}: 1" for i in range(20_000))),
    "long.yml": lambda folder: written(folder, "name: " + "x" * 100_000_000),
    "aliases.yml": lambda folder: written(folder, aliases(12)),
    "self.yml": lambda folder: written(folder, "name: &a [*a]\ndata: *a"),
    "number.yml": lambda folder: written(folder, "train:\n  batch: " + "9" * 100_000),
    "documents.yml": lambda folder: written(folder, "---\n" * 100_000),
    "circle.yml": lambda folder: written(folder, "__BASE__: recipe.yml"),
    "bases.yml": lambda folder: written(folder, f"__BASE__: [{', '.join(['b.yml'] * 5_000)}]", "b.yml"),
    "nested-bases.yml": nested,
    "width.yml": lambda folder: written(folder, "model: {backbone: {width: 100000}}"),
    "zero.yml": lambda folder: endless(folder),
}
"""What writes each recipe."""


def written(folder: Path, text: str, *others: str) -> Path:
    """A recipe, and harmless ones beside it."""
    for name in others:
        (folder / name).write_text("name: other\n")
    (folder / "recipe.yml").write_text(text)
    return folder / "recipe.yml"


def endless(folder: Path) -> Path:
    """A recipe that never ends."""
    (folder / "recipe.yml").symlink_to("/dev/zero")
    return folder / "recipe.yml"


def measured(read: Callable[[Path], None], path: Path) -> tuple[str, float, float]:
    """(what was said, seconds, MiB at most) of reading a file in a process of its own."""
    here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=_child, args=(read, path, there))
    child.start()
    there.close()
    told = here.recv() if here.poll(60) else ("no answer in a minute", 60.0, 0.0)
    child.kill()
    child.join()
    return told


def _child(read: Callable[[Path], None], path: Path, answer: object) -> None:
    import maskrcnn.data.pages  # what every command loads is no part of a bomb's seconds
    import maskrcnn.recipes  # noqa: F401

    start = time.process_time()
    try:
        read(path)
        told = "read"
    except (OSError, ValueError) as error:
        told = str(error)
    except BaseException as error:
        told = f"!! {type(error).__name__}: {error}"
    status = Path("/proc/self/status").read_text()  # a process inherits the peak that getrusage tells
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    answer.send((told, time.process_time() - start, peak))  # type: ignore[attr-defined]


def main() -> None:
    """Read every bomb, print a line for each, and fail where one took too much."""
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, draw) in enumerate([*IMAGES.items(), *RECIPES.items()]):
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            place = Path(folder) / str(number)
            place.mkdir()
            if name in IMAGES:
                (place / name).write_bytes(draw())  # type: ignore[call-arg]
                told, seconds, peak = measured(read_image, place / name)
            else:
                told, seconds, peak = measured(read_recipe, draw(place))  # type: ignore[call-arg]
            bad = seconds > MOST_SECONDS or peak > MOST_MEBIBYTES or told.startswith(("!!", "no answer"))
            failed += [name] * bad
            print(f"{'FAILED' if bad else 'ok':7}{name:24}{seconds:7.2f} s{peak:7.0f} MiB  {told[:150]!r}", flush=True)
    print(f"{len(failed)} of {len(IMAGES) + len(RECIPES)} took too much: {', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
