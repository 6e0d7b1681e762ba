"""YOLO segmentation: a text file for each image, a line for each object."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.data.decode import probe
from maskrcnn.data.encodings import decoded, read_text
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats import yolo_layout as layouts
from maskrcnn.data.formats.below import of_part, paths_having
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.kept import kept
from maskrcnn.data.formats.losses import Losses
from maskrcnn.data.formats.one_ring import has_holes, parts
from maskrcnn.data.formats.place import place
from maskrcnn.data.formats.shapes_of import ring_of, shapes_of
from maskrcnn.data.formats.source import Folder, Part, Source, part_of
from maskrcnn.data.formats.threads import look_at
from maskrcnn.data.formats.upright import upright_splits
from maskrcnn.data.formats.yolo_lines import Line, looks_like, read_lines
from maskrcnn.data.sources import SUFFIXES
from maskrcnn.masks import rings_from_polygons
from maskrcnn.sentences import counted

TITLE = "YOLO segmentation"
DIGITS = 6
"""Decimals of a pixel to which coordinates are rounded: dividing by a side and multiplying again moves the last bit."""
TRIED = 8
"""Label files of a folder that are opened to see whether they are of this format."""
NUMBERED = Kind("yolo-no-names", "classes", Severity.NOTE, "have no name; they are called by their number")
UNLISTED = Kind(
    "yolo-unlisted-class",
    "objects",
    Severity.REFUSED,
    "have a class number that the list of names lacks",
    "they are left out",
)
UNREADABLE = Kind(
    "yolo-image", "images", Severity.REFUSED, "cannot be read, or their label files cannot", "they are left out"
)


def find(folder: Folder) -> list[Source]:
    """Splits that a `data.yaml` names, and folders of label files beside which none names any."""
    found = [source for path in folder.having(".yaml", ".yml") for source in _from_yaml(path)]
    known = [source.labels for source in found] + [source.names.parent for source in found if source.names]
    bare: dict[Part, list[tuple[Path, Path]]] = {}
    for labels, images in _label_folders(folder):
        if not any(labels.is_relative_to(one) for one in known) and _has_lines(labels, folder.files[labels]):
            bare.setdefault(part_of(labels.relative_to(folder.root)), []).append((labels, images))
    return found + [_bare_source(folder, part, pairs) for part, pairs in bare.items()]


def unnamed(folder: Folder, sources: Iterable[Source]) -> list[Path]:
    """Folders of label files that the `data.yaml` of some splits lies beside or around and does not name."""
    yamls = {source.names for source in sources if source.names}
    layouts_of = {path.parent: layout for path in yamls if (layout := layouts.read_layout(path)) and layout.entries}
    named = {
        Path(os.path.dirname(image))
        for layout in layouts_of.values()
        for part in layout.entries
        for image in layouts.images_of(layout, part)
    }
    return [
        labels
        for labels, images in (_label_folders(folder) if named else ())
        if images not in named
        and any(labels.is_relative_to(root) for root in layouts_of)
        and _has_lines(labels, folder.files[labels])
    ]


def read(source: Source, faults: Faults) -> Dataset:
    """Read a split. Sizes are those of the images' headers; an image without a label file has no objects.

    Raises FileNotFoundError or ValueError where nothing can be read.
    """
    pairs = _pairs(source)
    files = [path for pair in pairs for path in pair if path is not None]
    return kept(source, faults, files, lambda: _read(source, pairs, faults))


def write(splits: Mapping[str, Dataset], dest: Path) -> list[str]:
    """Write `data.yaml`, `images/` and `labels/`; a split without a name is called train."""
    losses = Losses(TITLE)
    names: dict[str, str] = {}
    for part, data in upright_splits(splits, losses).items():
        part = part or "train"
        names[part] = f"images/{part}"
        placed = losses.renamed(data, place(data, dest / "images" / part, by_stem=True))
        for image, name in enumerate(placed):
            path = (dest / "labels" / part / name).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(_lines(data, image, losses)), encoding="utf-8")
        losses.count(data)
        classes = dict(enumerate(data.category_names))
    content = {"path": ".", **names, "names": classes}
    (dest / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    if "val" not in names:
        losses.say("data.yaml names no `val`, which Ultralytics asks for: there is no validation split")
    return losses.sentences()


def _from_yaml(path: Path) -> Iterator[Source]:
    layout = layouts.read_layout(path)
    for part, entries in (layout.entries if layout else {}).items():
        assert layout is not None
        folders = sorted({os.path.dirname(image) for image in layouts.images_of(layout, part)})
        if folders:
            labels = layouts.common([Path(layouts.label_folder(one)) for one in folders])
            why = f"{path.name} names {entries[0]}"
            yield Source("yolo", part, labels, layouts.common([Path(one) for one in folders]), why, path)


def _bare_source(folder: Folder, part: Part, pairs: list[tuple[Path, Path]]) -> Source:
    labels, images = (layouts.common(folders) for folders in zip(*pairs, strict=True))
    around = [labels, *labels.parents]
    around = [*around[: around.index(folder.root) + 1], images] if folder.root in around else [labels, images]
    names = layouts.find_names(around)
    why = f"{labels.relative_to(folder.root).as_posix()} holds text files of numbers named as the images are"
    return Source("yolo", part, labels, images, why, names)


def _label_folders(folder: Folder) -> Iterator[tuple[Path, Path]]:
    """Folders of text files that are named as images, beside them or in the folder that `images` stands for."""
    stems = {
        path: {name.rpartition(".")[0] for name in names if name.lower().endswith(SUFFIXES)}
        for path, names in folder.files.items()
    }
    for path, names in folder.files.items():
        texts = {name[:-4] for name in names if name.lower().endswith(".txt") and name.lower() not in layouts.NO_LABELS}
        for images in _image_folders(path) if texts else ():
            if not texts.isdisjoint(stems.get(images, ())):
                yield path, images
                break


def _image_folders(labels: Path) -> Iterator[Path]:
    """Where the images of a folder of labels may lie, the likeliest first."""
    parts = list(labels.parts)
    for index in range(len(parts) - 1, -1, -1):
        if parts[index].lower() == "labels":
            yield Path(*parts[:index], "images", *parts[index + 1 :])
            yield Path(*parts[:index], *parts[index + 1 :])
            break
    yield labels


def _has_lines(labels: Path, names: list[str]) -> bool:
    """Whether the first files that hold something hold objects."""
    tried = 0
    for name in names:
        if name.lower().endswith(".txt") and name.lower() not in layouts.NO_LABELS and tried < TRIED:
            text = _head(labels / name)
            tried += 1
            if text:
                return looks_like(text)
    return False


def _head(path: Path) -> str:
    """How a file begins; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return decoded(file.read(4096))[0].strip()
    except OSError:
        return ""


def _pairs(source: Source) -> list[tuple[str, str | None]]:
    """The images of a split, each with its label file where it has one."""
    layout = layouts.read_layout(source.names) if source.names else None
    images = layouts.images_of(layout, source.part) if layout else []
    if images:
        return layouts.labelled(images)
    folder = Folder(layouts.common([source.labels, source.images]))
    images_of = dict(_label_folders(folder))
    found: list[tuple[str, str | None]] = []
    for labels in of_part(images_of, source.labels, source.part):
        texts = {os.path.basename(path)[:-4]: path for path in paths_having(folder.files, [labels], ".txt")}
        for image in paths_having(folder.files, [images_of[labels]], SUFFIXES):
            found.append((image, texts.get(os.path.basename(image).rpartition(".")[0])))
    return found


def _read(source: Source, pairs: list[tuple[str, str | None]], faults: Faults) -> Dataset:
    names = layouts.class_names(source.names, faults) if source.names else {}

    def open_pair(pair: tuple[str, str | None], faults: Faults) -> tuple[tuple[int, int] | None, list[Line]]:
        image, labels = pair
        try:
            size = probe(Path(image)).size
            text = read_text(Path(labels), faults) if labels else ""
        except (OSError, ValueError) as error:
            faults.add(UNREADABLE, os.path.basename(image), str(error))
            return None, []
        return size, list(read_lines(text, os.path.basename(labels), faults)) if labels else []

    found = list(look_at(pairs, open_pair, faults))
    builder = Builder(source.labels, source.images, faults, _classes(found, names, faults))
    start = len(source.images.as_posix().rstrip("/")) + 1
    for (path, labels), (size, lines) in zip(pairs, found, strict=True):
        if size is not None:
            image = builder.add_image(path[start:], size)
            for line in lines:
                if not names or line.number in names:
                    _add(builder, image, names.get(line.number, str(line.number)), line, size)
                else:
                    who = os.path.basename(labels or path)
                    _report_unlisted(f"class {line.number} of {who}", source, names, faults)
    return builder.dataset()


def _report_unlisted(who: str, source: Source, names: Mapping[int, str], faults: Faults) -> None:
    known = f"{source.names} names {counted(len(names), 'classes')}, from {min(names)} to {max(names)}"
    faults.add(UNLISTED, who, f"{who}: {known}; add its name there or remove the line")


def _classes(
    found: list[tuple[tuple[int, int] | None, list[Line]]], names: dict[int, str], faults: Faults
) -> list[str]:
    """Names in the order of their numbers."""
    if names:
        return [names[number] for number in sorted(names)]
    numbers = sorted({line.number for _, lines in found for line in lines})
    faults.add(NUMBERED, [str(number) for number in numbers])
    return [str(number) for number in numbers]


def _add(builder: Builder, image: int, name: str, line: Line, size: tuple[int, int]) -> None:
    scale = np.array(size[::-1], np.float64)
    attributes = {} if line.score is None else {"score": line.score}
    if line.ring is None:
        assert line.box is not None
        x1, y1, x2, y2 = (line.box.reshape(2, 2) * scale).round(DIGITS).ravel().tolist()
        builder.add_object(image, name, None, box=(x1, y1, x2 - x1, y2 - y1), attributes=attributes)
        return
    outline = parts((line.ring * scale).round(DIGITS))
    if not len(outline.points):
        outline = rings_from_polygons([(line.ring * scale).ravel()])
    flags = Flag.RUN_LENGTHS if has_holes(outline) else Flag(0)
    builder.add_object(image, name, outline, flags=flags, attributes=attributes)


def _lines(data: Dataset, image: int, losses: Losses) -> Iterator[str]:
    scale = data.sizes[image][::-1].astype(np.float64)
    for shape in shapes_of(data, image):
        if shape.crowd:
            losses.add("crowd regions are left out, for which YOLO has no place")
            continue
        if shape.is_box:
            x, y, width, height = shape.box
            values = np.array([[x + width / 2, y + height / 2], [width, height]]) / scale
            losses.add(
                "objects without an outline are a line of 5 numbers, which YOLO's training of masks takes for a box"
            )
        else:
            values = (ring_of(data, shape) / scale).clip(0, 1)
        yield f"{data.labels[shape.row] - 1} {' '.join(map(repr, values.ravel().tolist()))}\n"
