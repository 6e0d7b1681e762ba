"""Pixels of images: decoded once each, for what headers do not tell."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import decode_raw, read_image
from maskrcnn.data.faults import EXAMPLES, Kind, Severity
from maskrcnn.data.health.findings import Finding, Progress, of_images
from maskrcnn.data.health.near_duplicates import SIDE, group, shrink
from maskrcnn.data.health.survey import THREADS, UNREADABLE, Survey
from maskrcnn.data.oddities import DIM, levels_used
from maskrcnn.picture import picture

SAMPLE = 16
"""Images of more than 8 bits that are decoded where not all images are."""
FEW_LEVELS = Kind(
    "image-few-levels",
    "images",
    Severity.WARNING,
    "use a small part of their bits, as those of 12-bit cameras, and are read nearly black; data.levels=fixed takes "
    "the range that is used",
)
BLANK = Kind("image-blank", "images", Severity.NOTE, "have one colour all over")


@dataclass(frozen=True, eq=False)
class Contents:
    """What some images' pixels tell; entries of the others are empty."""

    rows: Int64[np.ndarray, " m"]
    """The images that were decoded, or not decodable."""
    small: UInt8[np.ndarray, "n 32 32"]
    known: Bool[np.ndarray, " n"]
    """Which could be decoded."""
    brightest: Float64[np.ndarray, " n"]
    """Share of the range that the largest value reaches."""
    reasons: dict[int, str]
    """Why images could not be decoded."""


def decode_all(survey: Survey, rows: Int64[np.ndarray, " m"], progress: Progress | None = None) -> Contents:
    """Decode some images of a split, in threads."""
    num_images = len(survey.paths)
    contents = Contents(
        rows, np.zeros((num_images, SIDE, SIDE), np.uint8), np.zeros(num_images, bool), np.zeros(num_images), {}
    )

    def look(row: int) -> None:
        try:
            pixels = decode_raw(read_image(survey.paths[row]), survey.paths[row])
        except (OSError, ValueError) as error:
            contents.reasons[row] = str(error)
            return
        contents.small[row], contents.brightest[row] = shrink(picture(pixels)), levels_used(pixels)
        contents.known[row] = True

    with ThreadPoolExecutor(THREADS) as pool:
        for done, _ in enumerate(pool.map(look, rows.tolist()), 1):
            if progress is not None:
                progress(done, len(rows))
    return contents


def deep_images(survey: Survey) -> Int64[np.ndarray, " m"]:
    """Some images of more than 8 bits, spread over the split."""
    rows = np.flatnonzero([one.kind is None and one.header is not None and one.header.bits > 8 for one in survey.seen])
    return rows[:: max(1, -(-len(rows) // SAMPLE))]


def content_faults(data: Dataset, survey: Survey, contents: Contents) -> Iterator[Finding]:
    """What the pixels tell of each image by itself."""
    broken = np.array(sorted(contents.reasons), np.int64)
    yield from of_images(UNREADABLE, data, broken, contents.reasons[int(broken[0])] if len(broken) else "")
    is_deep = np.array([one.header is not None and one.header.bits > 8 for one in survey.seen], bool)
    dim = np.flatnonzero(contents.known & is_deep & (contents.brightest > 0) & (contents.brightest < DIM))
    told = [f": {100 * share:.2g} % of the range" for share in contents.brightest[dim[:EXAMPLES]].tolist()]
    yield from of_images(FEW_LEVELS, data, dim, told=told)
    flat = contents.known & (contents.small == contents.small[:, :1, :1]).all(axis=(1, 2))
    yield from of_images(BLANK, data, np.flatnonzero(flat))


def near_groups(contents: dict[str, Contents]) -> dict[str, Int64[np.ndarray, " _"]]:
    """A number for each image, by split, which those share that show nearly the same; images of one colour do not."""
    small = np.concatenate([one.small for one in contents.values()])
    known = np.concatenate([one.known for one in contents.values()])
    known &= (small != small[:, :1, :1]).any(axis=(1, 2))
    numbers, rows = np.arange(len(small)), np.flatnonzero(known)
    numbers[rows] = rows[group(small[rows])]
    ends = np.cumsum([len(one.small) for one in contents.values()])[:-1]
    return dict(zip(contents, np.split(numbers, ends), strict=True))
