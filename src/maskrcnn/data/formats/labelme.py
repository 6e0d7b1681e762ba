"""Labelme: a JSON file for each image, beside it or in a folder of its own."""

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from maskrcnn.data.annotations.top_level import refuse_twice
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.encodings import read_bytes, read_text
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.below import of_part, paths_having
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.labelme_file import NO_AREA, OWN_FIELDS, LabelFile, embedded_image, parse, piece_of
from maskrcnn.data.formats.labelme_file import Shape as LabelmeShape
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.pictures import Pictures
from maskrcnn.data.formats.pieces import Piece, add_pieces
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.shapes_of import Shape, mask_of, shapes_of
from maskrcnn.data.formats.source import Folder, Part, Source, part_of
from maskrcnn.data.formats.strange_file import what_it_is
from maskrcnn.data.formats.upright import upright_splits
from maskrcnn.files import atomic_write, cache_folder

TITLE = "Labelme"
VERSION = "5.5.0"
"""Version that written files state; all that are written can be read by 5.3 and later."""
TRIED = 3
"""JSON files of a folder that are opened to see whether they are of this format."""
LARGEST = 1 << 28
"""Bytes of the largest file that is opened for that."""
MARKS = (b'"shapes"', b'"imageData"', b'"imagePath"')
BEGINNING = (b'"version"', b'"flags"', b'"shapes"')
"""Fields that Labelme writes first, by which a file that is cut off is known."""
KEYS = ("shapes", "imagePath")
"""Keys of which a file has one each."""
CLASS_FILE = "labels.txt"
NO_CLASSES = {"__ignore__", "_background_", ""}
"""Lines of a list of labels that name no class."""
CROWD = "iscrowd"
"""Flag of a shape that is a crowd region."""
UNREADABLE = Kind("labelme-file", "files", Severity.REFUSED, "cannot be read as JSON of Labelme", "they are left out")
OTHER = Kind("labelme-other-file", "files", Severity.NOTE, "are not Labelme's and are passed over")
BROKEN = Kind("labelme-shape", "shapes", Severity.REFUSED, "cannot be read", "they are left out")
FLAT = Kind("labelme-no-area", "shapes", Severity.NOTE, "have no area (lines or points) and are left out")
GROUPED = Kind(
    "labelme-group", "objects", Severity.NOTE, "consist of several shapes of one label and one group_id in one image"
)
EMBEDDED = Kind(
    "labelme-embedded", "images", Severity.NOTE, "are only inside their label file and were written to the cache folder"
)


def find(folder: Folder) -> list[Source]:
    """Splits by the words of folder names; folders whose names say nothing are one."""
    splits: dict[Part, dict[Path, LabelFile]] = {}
    for path, names in folder.files.items():
        jsons = [name for name in names if name.lower().endswith(".json")]
        content = next((found for name in jsons[:TRIED] if (found := _sample(path / name))), None)
        if content is not None:
            splits.setdefault(part_of(path.relative_to(folder.root)), {})[path] = content
    return [_source(folder.root, part, samples) for part, samples in splits.items()]


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. Shapes of one label and one group_id in one image are one object.

    Raises ValueError where nothing can be read.
    """
    folder = Folder(source.labels)
    labels = paths_having(folder.files, of_part(folder.files, source.labels, source.part), ".json")
    pictures = Pictures(folder if source.images == source.labels else Folder(source.images), faults)
    return kept(source, faults, [*labels, *pictures.paths], lambda: _read(source, labels, pictures, faults))


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write each image with its JSON beside it, in a folder for each split, and `labels.txt`.

    An object of several parts is polygons of one group_id; one with holes is a shape of type `mask`.
    """
    losses = Losses(TITLE)
    for part, data in upright_splits(splits, losses).items():
        for image, name in enumerate(losses.renamed(data, place(data, dest / part, by_stem=True))):
            path = (dest / part / name).with_suffix(".json")
            path.write_bytes(
                msgspec.json.format(msgspec.json.encode(_content(data, image, path, name, losses)), indent=2)
            )
        losses.count(data, attributes=True)
        (dest / CLASS_FILE).write_text("".join(f"{name}\n" for name in data.category_names), encoding="utf-8")
    return losses.sentences()


def _source(root: Path, part: Part, samples: Mapping[Path, LabelFile]) -> Source:
    labels = Path(os.path.commonpath(list(samples)))
    around = [labels, *labels.parents]
    lists = [one / CLASS_FILE for one in around[: around.index(root) + 1] if (one / CLASS_FILE).is_file()]
    why = f"{labels.relative_to(root).as_posix()} holds JSON files with `shapes` and `imagePath`"
    images = labels if all(_is_beside(folder, content) for folder, content in samples.items()) else root
    return Source("labelme", part, labels, images, why, lists[0] if lists else None)


def _is_beside(folder: Path, content: LabelFile) -> bool:
    """Whether a label file's image lies in its folder."""
    name = (content.image_path or "").replace("\\", "/")
    return "/" not in name and os.path.isfile(folder / name)


def _sample(path: Path) -> LabelFile | None:
    """A label file, one without shapes where it is damaged; nothing where a file is something else."""
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            is_likely = any(mark in head.replace(b"\0", b"") for mark in MARKS)
            if not is_likely or os.fstat(file.fileno()).st_size > LARGEST:
                return None
            content, broken = parse(head + file.read(), path.name, Faults())
            return content if content.shapes or not broken else None
    except OSError:
        return None
    except ValueError:
        return LabelFile([]) if all(mark in head for mark in BEGINNING) else None


def _read(source: Source, labels: list[str], pictures: Pictures, faults: Faults) -> Dataset:
    builder = Builder(source.labels, source.images, faults, _classes(source, faults))
    start = len(os.path.commonpath([source.images, source.labels])) + 1
    for path in labels:
        who = path[start:]
        data = b""
        try:
            data = read_bytes(Path(path))
            refuse_twice(data, KEYS)
            content, broken = parse(data, who, faults)
        except (OSError, ValueError) as error:
            is_other = data and not any(mark in data.replace(b"\0", b"") for mark in MARKS)
            if is_other:
                faults.add(OTHER, f"{who} ({what_it_is(Path(path))})")
            else:
                faults.add(UNREADABLE, who, f"{who} cannot be read ({error}); correct or remove it")
            continue
        faults.add(BROKEN, [f"{who} {one}" for one in broken], f"{who}: {broken[0]}; correct it" if broken else "")
        _add_image(builder, content, data, who, pictures, faults)
    return builder.dataset()


def _add_image(builder: Builder, content: LabelFile, data: bytes, who: str, pictures: Pictures, faults: Faults) -> None:
    beside, _, file_name = who.rpartition("/")
    stem = file_name[: -len(".json")]
    name = pictures.find(content.image_path or stem, beside) or pictures.of_stem(stem, beside)
    if name is None:
        name = _unpacked(data, stem)
        if name is None:
            pictures.report_missing(content.image_path or "", who)
            return
        faults.add(EMBEDDED, who)
    size = pictures.size(name, (_whole(content.height), _whole(content.width)))
    if size is None:
        return
    image = builder.add_image(name, size)
    for (label, _), shapes in _grouped(content.shapes).items():
        pieces = list(_pieces(shapes, who, faults))
        if len(pieces) > 1:
            faults.add(GROUPED, f"{label} in {who}")
        if pieces:
            attributes, crowd = _attributes(shapes[0])
            add_pieces(builder, image, label, pieces, crowd, attributes)


def _classes(source: Source, faults: Faults) -> list[str]:
    if source.names is None:
        return []
    lines = [line.strip() for line in read_text(source.names, faults).splitlines()]
    return [line for line in lines if line not in NO_CLASSES]


def _grouped(shapes: list[LabelmeShape]) -> dict[tuple[str, Any], list[LabelmeShape]]:
    """Shapes by label and group; one without a group by itself."""
    found: dict[tuple[str, Any], list[LabelmeShape]] = {}
    for number, shape in enumerate(shapes):
        label = "" if shape.label is None else str(shape.label)
        alone = shape.group_id is None or shape.group_id == ""
        found.setdefault((label, (number,) if alone else shape.group_id), []).append(shape)
    return found


def _pieces(shapes: list[LabelmeShape], who: str, faults: Faults) -> Iterator[Piece]:
    for shape in shapes:
        if shape.kind in NO_AREA:
            faults.add(FLAT, f"{shape.kind} {shape.label} in {who}")
            continue
        try:
            if shape.label is None or shape.label == "":
                raise ValueError("it has no label")
            yield piece_of(shape)
        except ValueError as error:
            faults.add(
                BROKEN, f"{shape.label} in {who}", f"{who}, a shape {shape.label!r}: {error}; correct or remove it"
            )


def _attributes(shape: LabelmeShape) -> tuple[dict[str, Any], bool]:
    """(what else a shape says, whether it is a crowd region)."""
    found = {name: value for name in OWN_FIELDS if (value := getattr(shape, name)) not in (None, "", {})}
    flags = dict(found.pop("flags", {}))
    crowd = flags.pop(CROWD, False) is True
    return {**found, **({"flags": flags} if flags else {}), **(shape.attributes or {})}, crowd


def _whole(number: int | float | None) -> int | None:
    return int(number) if number is not None and 0 < number < 1 << 31 and number % 1 == 0 else None


def _unpacked(data: bytes, stem: str) -> str | None:
    """The path of the picture that a label file holds, written to the cache folder; nothing where it holds none."""
    found = embedded_image(data)
    if found is None:
        return None
    try:
        with Image.open(BytesIO(found), formats=["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"]) as image:
            ending = f".{(image.format or 'png').lower()}"
        folder = cache_folder() / "embedded" / hashlib.sha256(found).hexdigest()[:32]
        path = (folder / stem).with_name(stem + ending)
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as draft:
                draft.write_bytes(found)
    except (OSError, SyntaxError, RuntimeError, Image.DecompressionBombError):
        return None
    return path.as_posix()


def _content(data: Dataset, image: int, path: Path, name: str, losses: Losses) -> dict[str, Any]:
    height, width = data.sizes[image].tolist()
    shapes = list(shapes_of(data, image))
    taken = {shape.attributes.get("group_id") for shape in shapes}
    free = iter(number for number in range(1, 2 * len(shapes) + 2) if number not in taken)
    return {
        "version": VERSION,
        "flags": {},
        "shapes": [row for shape in shapes for row in _rows(data, shape, free, losses)],
        "imagePath": name.rpartition("/")[2],
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _rows(data: Dataset, shape: Shape, free: Iterator[int], losses: Losses) -> Iterator[dict[str, Any]]:
    """The shapes of an object."""
    own = {name: shape.attributes.get(name) for name in OWN_FIELDS}
    others = {name: value for name, value in shape.attributes.items() if name not in OWN_FIELDS}
    flags = {**(own.pop("flags") or {}), **({CROWD: True} if shape.crowd else {})}
    group = own.pop("group_id")
    several = len(shape.bodies) > 1 and not shape.has_holes
    row = {
        "label": shape.name,
        "group_id": next(free) if group is None and several else group,
        "flags": flags,
        "description": own.pop("description") or "",
        **{name: value for name, value in own.items() if value is not None},
        **({"attributes": others} if others else {}),
    }
    if shape.is_box:
        x, y, box_width, box_height = shape.box
        yield {**row, "shape_type": "rectangle", "points": [[x, y], [x + box_width, y + box_height]], "mask": None}
    elif shape.has_holes:
        losses.add("objects with holes are written as a shape of type `mask`, which Labelme 5.3 and later show")
        yield {**row, "shape_type": "mask", **_mask(data, shape)}
    else:
        for body in shape.bodies:
            yield {**row, "shape_type": "polygon", "points": body[0].tolist(), "mask": None}


def _mask(data: Dataset, shape: Shape) -> dict[str, Any]:
    window, left, top = mask_of(data, shape.row)
    height, width = window.shape
    file = BytesIO()
    Image.fromarray(window).save(file, "PNG")
    corners = [[left, top], [left + width - 1, top + height - 1]]
    return {"points": corners, "mask": base64.b64encode(file.getvalue()).decode()}
