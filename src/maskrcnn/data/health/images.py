"""Faults of images that headers tell beside the annotations: sizes, turns, bands, depth."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Int64

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import EXAMPLES, Kind, Severity
from maskrcnn.data.header import Header
from maskrcnn.data.health.boxes import outline_boxes
from maskrcnn.data.health.findings import Finding, of_images
from maskrcnn.data.health.survey import CUT_OFF, EMPTY, PAGE, POINTER, UNREADABLE, Survey
from maskrcnn.data.image_names import MISSING_IMAGE

MEBIBYTE = 1 << 20
MUCH = 10.0
"""Ratio of an image's pixels to those of the one in the middle from which on it is much larger."""
SLACK = 1.0
"""Pixels that an object may reach beyond its image: labelling tools round and click at edges."""
FROM_FILE = "the file's size is taken where all objects fit it; else the image is left out"

SWAPPED = Kind(
    "image-size-swapped", "images", Severity.REFUSED, "state height and width the wrong way round", FROM_FILE
)
DIFFERS = Kind("image-size-differs", "images", Severity.REFUSED, "are not of the size that is stated", FROM_FILE)
TURNED = Kind(
    "image-turned",
    "images",
    Severity.NOTE,
    "carry a rotation that the stated size leaves out, and objects count as drawn on unrotated pixels",
)
FITS_UPRIGHT = Kind(
    "image-fits-upright",
    "images",
    Severity.WARNING,
    "have objects that leave the stated frame but fit the upright image: the size was taken from the unrotated file",
    "every turned image of the split gets its upright size",
)
UNTOLD = Kind(
    "image-turn-untold",
    "images",
    Severity.NOTE,
    "carry a rotation that their size cannot tell, and objects count as drawn on the upright image",
)
MIXED = Kind(
    "image-bands-mixed",
    "images",
    Severity.NOTE,
    "have other bands than most; only gray, alpha and CMYK of 8 bits are read as RGB",
)
LARGE = Kind("image-much-larger", "images", Severity.NOTE, f"have over {MUCH:.0f} times the pixels of a usual one")
REDUCED = Kind("image-reduced", "images", Severity.NOTE, "exceed data.max_rowsize and are decoded smaller")

PAGES = Kind("image-of-pages", "files", Severity.NOTE, "hold several images, of which the first is read")


def image_faults(data: Dataset, survey: Survey, *, max_rowsize: int = 64) -> Iterator[Finding]:
    """All that the headers tell.

    max_rowsize   MiB, as data.max_rowsize
    """
    for kind in (MISSING_IMAGE, EMPTY, PAGE, POINTER, UNREADABLE, CUT_OFF):
        rows = np.flatnonzero([one.kind is kind for one in survey.seen])
        yield from of_images(kind, data, rows, survey.seen[rows[0]].reason if len(rows) else "")
    yield from _size_faults(data, survey)
    yield from _turn_faults(data, survey)
    yield from _bands(data, survey)
    with_pages = [one.header is not None and one.header.has_pages for one in survey.seen]
    yield from of_images(PAGES, data, np.flatnonzero(with_pages))
    pixels = survey.sizes.prod(axis=1)
    known = pixels > 0
    usual = float(np.median(pixels[known])) if known.any() else 0.0
    yield from of_images(LARGE, data, np.flatnonzero(pixels > MUCH * usual))
    yield from of_images(REDUCED, data, np.flatnonzero(_room(survey) * pixels > max_rowsize * MEBIBYTE))


def _room(survey: Survey) -> Int64[np.ndarray, " N"]:
    """Bytes of a pixel of each image when it is decoded: floating-point levels where it is not RGB of 8 bits."""
    return np.array([_bytes_of(one.header) for one in survey.seen], np.int64)


def _bytes_of(header: Header | None) -> int:
    return 3 if header is None or (header.bits <= 8 and header.bands <= 4) else 4 * header.bands


def wrong_size(data: Dataset, survey: Survey) -> Bool[np.ndarray, " N"]:
    """Images whose file has another size than is stated, upright and not."""
    stated, known = data.sizes, survey.sizes.any(axis=1)
    return known & (stated != survey.sizes).any(axis=1) & (stated != survey.stored_sizes).any(axis=1)


def turned(data: Dataset, survey: Survey) -> Bool[np.ndarray, " N"]:
    """Images that state the size of the file before the turn that EXIF asks for."""
    return (data.sizes == survey.stored_sizes).all(axis=1) & (survey.stored_sizes != survey.sizes).any(axis=1)


def extents(data: Dataset) -> Float64[np.ndarray, "N 2"]:
    """How far down and to the right outlines reach in each image."""
    found = np.zeros((len(data.image_ids), 2))
    np.maximum.at(found, data.owners, outline_boxes(data)[:, :1:-1].astype(np.float64))
    return found


def fits(data: Dataset, sizes: Int64[np.ndarray, "N 2"]) -> Bool[np.ndarray, " N"]:
    """Images all of whose objects lie inside such sizes."""
    return np.asarray((extents(data) <= sizes + SLACK).all(axis=1))


def _size_faults(data: Dataset, survey: Survey) -> Iterator[Finding]:
    rows = np.flatnonzero(wrong_size(data, survey))
    swapped = (data.sizes[rows] == survey.sizes[rows][:, ::-1]).all(axis=1)
    for kind, chosen in ((SWAPPED, rows[swapped]), (DIFFERS, rows[~swapped])):
        told = [
            f": stated {_times(data.sizes[row])}, is {_times(survey.sizes[row])}" for row in chosen[:EXAMPLES].tolist()
        ]
        yield from of_images(kind, data, chosen, told=told)


def _times(size: Int64[np.ndarray, "2"]) -> str:
    return f"{size[0]} x {size[1]}"


def _turn_faults(data: Dataset, survey: Survey) -> Iterator[Finding]:
    left_out = turned(data, survey)
    leaving = left_out
    if left_out.any():
        leaving = left_out & ~fits(data, data.sizes) & fits(data, survey.sizes)
    yield from of_images(FITS_UPRIGHT, data, np.flatnonzero(leaving))
    yield from of_images(TURNED, data, np.flatnonzero(left_out))
    has_turn = np.array([one.header is not None and one.header.orientation != 1 for one in survey.seen], bool)
    same = (survey.sizes == survey.stored_sizes).all(axis=1)
    yield from of_images(UNTOLD, data, np.flatnonzero(has_turn & same))


def _bands(data: Dataset, survey: Survey) -> Iterator[Finding]:
    words = [_colours(survey, row) for row in range(len(survey.seen))]
    counts = Counter(word for word in words if word)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        rows = np.flatnonzero([bool(word) and word != usual for word in words])
        told = [f": {words[row]}" for row in rows[:EXAMPLES].tolist()]
        listed = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        yield from of_images(MIXED, data, rows, f"the images are {listed}", told)


def _colours(survey: Survey, row: int) -> str:
    """What an image's bands are, in words; empty where it is none."""
    header = survey.seen[row].header
    if header is None:
        return ""
    named = {1: "gray", 2: "gray with alpha", 3: "colour", 4: "CMYK" if header.format == "JPEG" else "with alpha"}
    deep = f" of {header.bits} bits" if header.bits != 8 else ""
    return named.get(header.bands, f"of {header.bands} bands") + deep
