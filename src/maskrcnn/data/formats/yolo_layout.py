"""Where the images and labels of a YOLO data set lie: `data.yaml`, lists of images, class names."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from maskrcnn.data.encodings import read_text
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.formats.below import paths_having
from maskrcnn.data.formats.source import PARTS, Folder, Part
from maskrcnn.data.sources import SUFFIXES
from maskrcnn.sentences import counted, some_of

LARGEST_YAML = 1 << 18
"""Bytes of the largest file that may be a `data.yaml`."""
UNREADABLE = (OSError, ValueError, yaml.YAMLError, RecursionError)
"""What reading a file as YAML may raise."""
CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "names.txt", "predefined_classes.txt")
NO_LABELS = {*CLASS_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt", "notes.txt", "labels.txt"}
"""Text files that hold no objects."""


KEY_TWICE = Kind("yolo-key-twice", "keys", Severity.REFUSED, "stand twice in a data.yaml with different values")
OTHER_NUMBER = Kind(
    "yolo-number-of-classes",
    "files",
    Severity.WARNING,
    "state another number of classes than that of their names; the names count",
)


class Layout(NamedTuple):
    """What a `data.yaml` says."""

    path: Path
    root: str
    """Its `path`: what the entries are relative to."""
    entries: dict[Part, list[str]]
    """Folders of images, or lists of them; none where the file names classes alone."""
    names: dict[int, str]
    """Class names by their number."""


def read_layout(path: Path) -> Layout | None:
    """A `data.yaml`; nothing where a file is something else, or is too large to be one."""
    try:
        content = _mapping(path)
    except UNREADABLE:
        return None
    if content is None:
        return None
    entries = {
        PARTS[key]: _texts(content[key])
        for key in ("train", "val", "valid", "test")
        if key in content and _texts(content[key])
    }
    root = content.get("path")
    return Layout(path, root if isinstance(root, str) else "", entries, _names(content, path))


def why_no_layout(path: Path) -> str:
    """Say why a YAML file is no `data.yaml` of which anything was read."""
    try:
        content = _mapping(path)
    except UNREADABLE as error:
        where = getattr(error, "problem_mark", None)
        return f"it cannot be read as YAML, from line {where.line + 1} on" if where else "it cannot be read as YAML"
    return "it is YAML of something else" if content is None else "its images or class names were not found"


def _mapping(path: Path) -> dict[str, Any] | None:
    """The content of a `data.yaml`; nothing where a file is something else, or is too large to be one.

    Raises one of `UNREADABLE`.
    """
    content = _content(read_text(path)) if path.stat().st_size <= LARGEST_YAML else None
    return content if isinstance(content, dict) and {"names", "nc"} & content.keys() else None


@lru_cache(maxsize=8)
def _content(text: str) -> Any:
    """Texts, lists and mappings of YAML, and nothing else."""
    return _plain(_root(text), {})


@lru_cache(maxsize=8)
def _root(text: str) -> yaml.Node | None:
    """The nodes of a file: it is asked for several times, and parsing is slow."""
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return node


def _plain(node: yaml.Node | None, known: dict[yaml.Node, Any]) -> Any:
    """What a node says, each scalar as it is written: `yes`, `1e3` and `012` are names.

    known   nodes that were read, which aliases name again
    """
    if not isinstance(node, yaml.CollectionNode):
        return node.value if isinstance(node, yaml.ScalarNode) else None
    if node not in known and isinstance(node, yaml.SequenceNode):
        known[node] = found = []
        found += [_plain(one, known) for one in node.value]
    elif node not in known:
        known[node] = {}
        pairs = ((key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
        known[node].update({key: _plain(value, known) for key, value in pairs})
    return known[node]


def _contradictions(root: yaml.Node | None) -> Iterator[str]:
    """Keys that stand several times with different values, in a file and in what it says of classes, with the lines."""
    first: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            continue
        earlier, known = first.setdefault(key.value, (key, value))
        if earlier is not key and not _says_the_same(known, value):
            yield f"`{key.value}` in lines {earlier.start_mark.line + 1} and {key.start_mark.line + 1}"
        if key.value == "names":
            yield from _contradictions(value)


def _says_the_same(one: yaml.Node, other: yaml.Node) -> bool:
    """Whether two values are the same scalar; lists are not compared, since aliases make them endless."""
    return isinstance(one, yaml.ScalarNode) and isinstance(other, yaml.ScalarNode) and one.value == other.value


def images_of(layout: Layout, part: Part) -> list[str]:
    """The images of a split, sorted within each folder; those that a list names may not exist."""
    found: dict[str, None] = {}
    for entry in layout.entries.get(part, []):
        place = located(layout, entry)
        if place is not None:
            found.update(dict.fromkeys(_listed(place, layout) if os.path.isfile(place) else _pictures(place, layout)))
    return list(found)


def located(layout: Layout, entry: str) -> Path | None:
    """The folder or list that an entry means: below `path`, beside the YAML, or where its last words lead."""
    place = next((place for place in _candidates(layout, entry) if os.path.exists(place)), None)
    return place and spelled_from(place, layout.path.parent)


def spelled_from(place: Path, beside: Path) -> Path:
    """A place spelled as a folder beside or around it is: relative where the folder is, and through the same links.

    One that lies nowhere around the folder stays as it is.

    >>> spelled_from(Path.cwd() / "set/train", Path("set")).as_posix()
    'set/train'
    """
    for around in (beside, *beside.parents):
        if place.is_relative_to(around) and place.is_absolute() == around.is_absolute():
            return place
        for whole in (os.path.abspath, os.path.realpath):
            outer, inner = Path(whole(around)), Path(whole(place))
            if inner.is_relative_to(outer):
                return around / inner.relative_to(outer)
    return place


def labelled(images: Iterable[str]) -> list[tuple[str, str | None]]:
    """Images, each with its label file where it has one: in the folder that `label_folder` tells, else beside it."""
    texts: dict[str, dict[str, str]] = {}
    found = []
    for image in images:
        folder, name = os.path.split(image)
        if folder not in texts:
            texts[folder] = {**_texts_in(folder), **_texts_in(label_folder(folder))}
        found.append((image, texts[folder].get(name.rpartition(".")[0])))
    return found


def label_folder(images: str) -> str:
    """The folder of the labels of a folder's images: `labels` in the place of the last `images` of its path.

    >>> label_folder("images/set/images/train"), label_folder("set/train")
    ('images/set/labels/train', 'set/train')
    """
    words = images.split("/")
    places = [index for index, word in enumerate(words) if word.lower() == "images"]
    if places:
        words[places[-1]] = "labels"
    return "/".join(words)


def find_names(folders: Iterable[Path]) -> Path | None:
    """The first file in some folders that lists classes."""
    for folder in folders:
        lists = [folder / name for name in CLASS_FILES if (folder / name).is_file()]
        yamls = [path for path in sorted(folder.glob("*.y*ml")) if (layout := read_layout(path)) and layout.names]
        if lists or yamls:
            return [*lists, *yamls][0]
    return None


def class_names(path: Path, faults: Faults) -> dict[int, str]:
    """The classes that a file lists, by their number."""
    layout = read_layout(path)
    if layout is not None:
        _report_contradictions(path, layout.names, faults)
        return layout.names
    return dict(enumerate(line.strip() for line in read_text(path, faults).splitlines() if line.strip()))


def _report_contradictions(path: Path, names: Mapping[int, str], faults: Faults) -> None:
    """Report what a `data.yaml` says twice, each time otherwise."""
    told = list(_contradictions(_root(read_text(path))))
    faults.add(KEY_TWICE, told, f"{path}: {some_of(told)} differ; keep the one that is meant")
    number = (_mapping(path) or {}).get("nc")
    if names and isinstance(number, str) and number != str(len(names)):
        faults.add(OTHER_NUMBER, f"{path.name}: nc {number}, {counted(len(names), 'names')}")


def common(paths: Sequence[Path]) -> Path:
    """The innermost folder around some folders."""
    return Path(os.path.commonpath(paths))


def _pictures(folder: Path, layout: Layout) -> list[str]:
    """All images below a folder; none of one around the YAML's, which might be the whole disk."""
    if os.path.realpath(folder) in map(os.path.realpath, layout.path.parent.parents):
        return []
    files = Folder(folder).files
    return paths_having(files, files, SUFFIXES)


def _texts_in(folder: str) -> dict[str, str]:
    """The text files of a folder by their stems."""
    with suppress(OSError):
        return {name[:-4]: f"{folder}/{name}" for name in os.listdir(folder) if name.lower().endswith(".txt")}
    return {}


def _listed(path: Path, layout: Layout) -> Iterator[str]:
    spelled: dict[str, Path] = {}
    for line in read_text(path).splitlines():
        name = line.strip().replace("\\", "/")
        if name and "\0" not in name:
            beside = path.parent / name.removeprefix("./")
            found = beside if os.path.isfile(beside) else located(layout, name) or beside
            if not os.path.isdir(found):
                folder, name = os.path.split(os.path.normpath(found))
                if folder not in spelled:
                    spelled[folder] = spelled_from(Path(folder), layout.path.parent)
                yield (spelled[folder] / name).as_posix()


def _candidates(layout: Layout, entry: str) -> Iterator[Path]:
    beside, name = layout.path.parent, entry.replace("\\", "/")
    root = layout.root.replace("\\", "/")
    words = [word for word in name.split("/") if word not in ("", ".", "..")]
    yield Path(os.path.normpath(beside / root / name))
    yield Path(os.path.normpath(beside / name))
    for start in range(len(words)):  # what another machine calls /content/set/train/images, or ../train/images
        yield beside.joinpath(*words[start:])


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [one for one in value if isinstance(one, str) and one]
    return [value] if isinstance(value, str) and value else []


def _names(content: dict[str, Any], path: Path) -> dict[int, str]:
    names = content.get("names")
    if isinstance(names, str) and names:
        listed = path.parent / names
        names = read_text(listed).splitlines() if os.path.isfile(listed) else [names]
    if isinstance(names, dict):
        return {int(key): name for key, name in names.items() if key.isdecimal() and len(key) < 10 and _is_text(name)}
    return {number: name for number, name in enumerate(names or ()) if _is_text(name)}


def _is_text(name: Any) -> bool:
    """Whether it is no list: written as text, one of lists that YAML's aliases repeat would fill the memory."""
    return isinstance(name, str)
