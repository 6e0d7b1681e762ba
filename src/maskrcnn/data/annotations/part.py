"""Some annotations that stand together in a file, read and checked by one thread."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from msgspec import Raw

from maskrcnn.data.annotations.annotation_file import complaint_about
from maskrcnn.data.annotations.annotation_row import IDS, NO_ID, area_of, read_entry
from maskrcnn.data.annotations.extras import other_fields, read_keypoints
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.annotations.outlines import FARTHEST, Outlines, read_outlines
from maskrcnn.data.annotations.registers import LEFT_OUT, NOT_LISTED, Register
from maskrcnn.data.annotations.scan import LEAST, scan
from maskrcnn.data.annotations.segmentation import BAD_OUTLINE, Segmentation, Unusable, read_segmentation
from maskrcnn.data.annotations.spelling import shown
from maskrcnn.data.dataset import Flag, lie_inside
from maskrcnn.data.faults import EXAMPLES, Faults, Kind, Severity
from maskrcnn.masks.bounds import bounds
from maskrcnn.masks.coordinates import decimals

BAD_ANNOTATION = Kind(
    "malformed-annotation", "annotations", Severity.REFUSED, "have an entry that cannot be read", "they are left out"
)
UNLISTED = {
    noun: Kind(
        f"unlisted-{noun}", "objects", Severity.REFUSED, f"name {name} that the file does not list", "they are left out"
    )
    for noun, name in (("image", "an image"), ("category", "a category"))
}
BAD_BOX = Kind("box-not-finite", "objects", Severity.REFUSED, "have a box that is not finite", "they are left out")
NO_SHAPE = Kind(
    "neither-box-nor-outline", "objects", Severity.REFUSED, "have neither a box nor an outline", "they are left out"
)
NO_BOX = Kind("no-box", "objects", Severity.NOTE, "have no box; their outline's is taken", "the outline's is written")
NO_AREA = Kind(
    "no-area",
    "objects",
    Severity.NOTE,
    "state no area, by which scores tell small from large; it is measured",
    "it is measured and written",
)
EMPTY_BOX = Kind(
    "box-without-area",
    "objects",
    Severity.NOTE,
    "have a box without width or height beside an outline; the outline's is taken",
    "the outline's is written",
)


class Frame(NamedTuple):
    """What the annotations of a file refer to."""

    images: Register
    categories: Register
    sizes: Int64[np.ndarray, "N 2"]
    keypoint_names: Sequence[str]


class Objects(NamedTuple):
    """Annotations in the order of the file."""

    ids: Int64[np.ndarray, " n"]
    images: Int64[np.ndarray, " n"]
    """Index of each object's image in the file."""
    labels: Int64[np.ndarray, " n"]
    boxes: Float32[np.ndarray, "n 4"]
    stated_boxes: Float64[np.ndarray, "n 4"]
    areas: Float64[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    flags: UInt8[np.ndarray, " n"]
    keypoints: Float32[np.ndarray, "n J 3"]


class Part(NamedTuple):
    """Annotations of a file, and what was met in them."""

    objects: Objects
    outlines: Outlines
    attributes: list[bytes]
    usable: Bool[np.ndarray, " n"]
    odd_ids: dict[int, str | None]
    """Ids that are no whole numbers of 64 bits, None where there is none, by row."""
    faults: Faults


def read_part(rows: Sequence[Raw], start: int, frame: Frame) -> Part:
    """Read annotations.

    start   how many stand before them in the file
    """
    return _Table(rows, start, frame).part()


class _Table:
    """Annotations while they are read: columns, and which rows can be used."""

    def __init__(self, rows: Sequence[Raw], start: int, frame: Frame) -> None:
        self._rows, self._start, self._frame = rows, start, frame
        self._text = b"".join(rows)
        self._scanned = scan(np.frombuffer(self._text, np.uint8), np.cumsum([*map(len, rows)], dtype=np.int64))
        self._boxes = self._scanned.boxes
        self._usable, self._has_box = np.ones(len(rows), bool), self._scanned.has_box
        self._words: dict[str, dict[int, str]] = {name: {} for name in IDS}
        self._no_id = set(np.flatnonzero(~self._scanned.has_id & ~self._scanned.strange).tolist())
        self._faults = Faults()
        self._count(NO_ID, self._no_id)

    def part(self) -> Part:
        """Read all rows, in the order in which one thing needs another."""
        scanned = self._scanned
        others, attributes = self._strange_rows()
        images = self._find("image", scanned.image_ids, self._frame.images)
        labels = self._find("category", scanned.category_ids, self._frame.categories)
        sizes = self._frame.sizes[images] if len(self._frame.sizes) else np.ones((len(images), 2), np.int64)
        boxes = self._corners()
        outlines = read_outlines(scanned, boxes, self._segmentations(others, sizes))
        self._refuse_far(outlines)
        self._mend_boxes(boxes, outlines)
        self._count(NO_AREA, np.flatnonzero(np.isnan(scanned.areas) & self._usable).tolist())
        flags = outlines.flags | np.where(lie_inside(boxes, sizes), 0, Flag.OUTSIDE).astype(np.uint8)
        points = read_keypoints(self._rows, self._frame.keypoint_names, self._mention)
        objects = Objects(
            scanned.ids, images, 1 + labels, boxes, self._boxes, scanned.areas, scanned.crowd, flags, points
        )
        odd_ids = {**self._words["id"], **dict.fromkeys(self._no_id)}
        return Part(objects, outlines, attributes, self._usable, odd_ids, self._faults)

    def _who(self, row: int) -> str:
        words, scanned = self._words, self._scanned
        id = "without id" if row in self._no_id else words["id"].get(row, int(scanned.ids[row]))
        return f"annotation {shown(id)} of image {shown(words['image_id'].get(row, int(scanned.image_ids[row])))}"

    def _count(self, kind: Kind, rows: Collection[int]) -> None:
        self._faults.add(kind, [self._who(row) for row in sorted(rows)[:EXAMPLES]], count=len(rows))

    def _mention(self, row: int, kind: Kind, sentence: str) -> None:
        if self._usable[row]:
            self._faults.add(kind, self._who(row), f"{self._who(row)} {sentence}")

    def _refuse(self, row: int, kind: Kind, sentence: str) -> None:
        self._mention(row, kind, sentence)
        self._usable[row] = False

    def _strange_rows(self) -> tuple[dict[int, bytes | Raw], list[bytes]]:
        """Segmentations that the scan does not tell, by row, and the other fields of every row."""
        scanned, rows = self._scanned, self._rows
        fields = Names(scanned.others, scanned.first_other).encoded() if len(scanned.others) else [b""] * len(rows)
        others: dict[int, bytes | Raw] = {}
        is_odd = scanned.strange_outline | (scanned.num_short >= LEAST // 2)
        for row in np.flatnonzero(is_odd & ~scanned.strange).tolist():
            begin, stop = scanned.segmentations[row]
            others[row] = self._text[begin:stop]
        for row in np.flatnonzero(scanned.strange).tolist():
            try:
                others[row], fields[row] = self._take(row), other_fields(rows[row])
            except msgspec.DecodeError as error:
                who = f"entry {self._start + row}"
                told = complaint_about("annotations", self._start + row, rows[row], error)
                self._faults.add(BAD_ANNOTATION, who, told)
                self._usable[row] = False
        return others, fields

    def _take(self, row: int) -> Raw:
        """Read a row that the scan does not understand, but for its segmentation. Raises msgspec.DecodeError."""
        scanned = self._scanned
        entry, spelt = read_entry(self._rows[row])
        for name, column in zip(IDS, (scanned.ids, scanned.image_ids, scanned.category_ids), strict=True):
            key = getattr(entry, name)
            if isinstance(key, str):
                self._words[name][row] = key
            column[row] = key if isinstance(key, int) else 0
        if entry.id is None:
            self._no_id.add(row)
        self._has_box[row] = entry.bbox is not None
        self._boxes[row], scanned.areas[row], scanned.crowd[row] = (
            entry.bbox or 0.0,
            area_of(entry),
            bool(entry.iscrowd),
        )
        for kind in sorted(spelt, key=lambda kind: kind.name):
            self._faults.add(kind, self._who(row))
        return entry.segmentation

    def _find(self, noun: str, wanted: Int64[np.ndarray, " n"], register: Register) -> Int64[np.ndarray, " n"]:
        """Where the file has what each row names, and the first where that cannot be told."""
        words = self._words[f"{noun}_id"]
        found = register.find(wanted, words)
        for row in np.flatnonzero((found == NOT_LISTED) & self._usable).tolist():
            named = shown(words.get(row, int(wanted[row])))
            told = f"names {noun} {named}, which the file does not list; add the {noun} or remove the annotation"
            self._refuse(row, UNLISTED[noun], told)
        self._usable &= found != LEFT_OUT
        return np.maximum(found, 0)

    def _corners(self) -> Float32[np.ndarray, "n 4"]:
        boxes = _corners(self._boxes)
        finite = np.isfinite(boxes).all(axis=1)
        for row in np.flatnonzero(~finite).tolist():
            self._refuse(row, BAD_BOX, f"has the box {tuple(self._boxes[row].tolist())}; correct it")
        boxes[~finite] = 0
        return boxes

    def _segmentations(
        self, others: dict[int, bytes | Raw], sizes: Int64[np.ndarray, "n 2"]
    ) -> dict[int, Segmentation]:
        found = {}
        for row, text in others.items():
            if not self._usable[row]:
                continue
            try:
                found[row] = read_segmentation(text, sizes[row])
            except Unusable as error:
                self._refuse(row, error.kind, str(error))
                continue
            for kind in sorted(found[row].spelt, key=lambda kind: kind.name):
                self._faults.add(kind, self._who(row))
        return found

    def _refuse_far(self, outlines: Outlines) -> None:
        points = outlines.points
        if not len(points) or max(points.max(), -points.min()) <= FARTHEST:
            return
        reach = bounds(points, outlines.lengths, outlines.owners, len(self._rows))
        for row in np.flatnonzero((np.abs(reach) > FARTHEST).any(axis=1)).tolist():
            if not outlines.flags[row] & Flag.NO_OUTLINE:
                told = (
                    f"has an outline that reaches to {reach[row].tolist()}, outside every image; correct or remove it"
                )
                self._refuse(row, BAD_OUTLINE, told)

    def _mend_boxes(self, boxes: Float32[np.ndarray, "n 4"], outlines: Outlines) -> None:
        """Give rows without a box, or with an empty one, that of their outline."""
        bare = (outlines.flags & Flag.NO_OUTLINE) != 0
        for row in np.flatnonzero(~self._has_box & bare & self._usable).tolist():
            self._refuse(row, NO_SHAPE, "has neither a box nor an outline; give it one or remove it")
        empty = (self._boxes[:, 2:] <= 0).any(axis=1) & ~bare & self._usable
        if not empty.any():
            return
        reach = bounds(outlines.points, outlines.lengths, outlines.owners, len(boxes))[empty]
        stated = decimals(reach.reshape(-1, 2)).reshape(-1, 4)
        stated[:, 2:] -= stated[:, :2]
        self._boxes[empty], boxes[empty] = stated, reach
        for kind, chosen in ((NO_BOX, empty & ~self._has_box), (EMPTY_BOX, empty & self._has_box)):
            self._count(kind, np.flatnonzero(chosen).tolist())


def _corners(stated: Float64[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
    with np.errstate(over="ignore", invalid="ignore"):
        return (stated + np.pad(stated[:, :2], ((0, 0), (2, 0)))).astype(np.float32)
