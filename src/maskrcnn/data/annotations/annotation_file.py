"""The layout of a COCO instances file, and its parser, which can say what is wrong where."""

from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from maskrcnn.data.annotations.non_finite import quote_non_finite
from maskrcnn.data.annotations.places import offset_of
from maskrcnn.data.annotations.spelling import key_of, shown
from maskrcnn.data.annotations.top_level import refuse_twice
from maskrcnn.data.encodings import as_utf8
from maskrcnn.data.faults import Faults, Kind
from maskrcnn.files import SPECIAL, ends_in_zeros, is_special, listing

Entry = TypeVar("Entry")


class AnnotationFile(Struct):
    images: Raw
    annotations: list[Raw]
    """Text of JSON; objects of Python for all of them would fill the memory."""
    categories: Raw


class _Ids(Struct, gc=False):
    id: Any = None


def open_file(path: Path) -> BufferedReader:
    """Open an annotation file. Raises OSError or ValueError with one sentence about what is there instead."""
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder, which holds {listing(path)}; expected an annotation file")
    try:
        if is_special(path):
            raise OSError(None, SPECIAL)
        stream = path.open("rb")
    except FileNotFoundError:
        found = listing(path.parent) if path.parent.is_dir() else "nothing: the folder does not exist"
        raise FileNotFoundError(f"the annotation file {path} does not exist; {path.parent} holds {found}") from None
    except OSError as error:
        raise OSError(f"the annotation file {path} cannot be read ({error.strerror}); restore it") from None
    if ends_in_zeros(stream):
        stream.close()
        raise ValueError(f"{path} ends in zeros, as an interrupted copy does; copy it again")
    return stream


def parse(text: bytes, faults: Faults) -> AnnotationFile:
    """The parts of an annotation file. Raises ValueError: what is wrong with the file as a whole, and what to do."""
    text = as_utf8(text, faults)
    try:
        return _decoded(text)
    except msgspec.ValidationError as error:
        raise structure(error) from None
    except msgspec.DecodeError as error:
        complaint = str(error)
    if b"NaN" in text or b"Infinity" in text:
        try:
            return _decoded(quote_non_finite(text))
        except msgspec.ValidationError as error:
            raise structure(error) from None
        except msgspec.DecodeError as error:
            complaint = str(error)
    raise ValueError(f"is not complete JSON ({complaint}); copy or export it again")


def _decoded(text: bytes) -> AnnotationFile:
    """The parts of a file. Raises msgspec.DecodeError, and ValueError where one of them stands twice."""
    file = msgspec.json.decode(text, type=AnnotationFile)
    refuse_twice(_around_lists(text, file), AnnotationFile.__struct_fields__)
    return file


def _around_lists(text: bytes, file: AnnotationFile) -> bytes:
    """A file's text with 0 in the place of what was taken from it: looking for a word in all of it takes seconds."""
    taken = [(file.images, file.images), (file.categories, file.categories)]
    taken += [(file.annotations[0], file.annotations[-1])] if file.annotations else []
    parts, stop = [], 0
    for first, last in sorted(taken, key=lambda pair: offset_of(pair[0], text)):
        parts.append(text[stop : offset_of(first, text)])
        stop = offset_of(last, text) + len(last)
    return b"0".join([*parts, text[stop:]])


def structure(complaint: object) -> ValueError:
    """What is raised where a file is JSON but not COCO's."""
    return ValueError(f"{complaint}; expected a COCO instances file with `images`, `annotations` and `categories`")


def read_entries(
    text: Raw,
    name: str,
    decode: Callable[[Raw], Sequence[Entry]],
    mend: Callable[[Raw, Faults], Entry],
    bad: Kind,
    faults: Faults,
) -> Sequence[Entry]:
    """The entries of `images` or `categories`; those that cannot be read are reported and left out.

    decode   reads all at once, where all are written as COCO does
    mend     reads one that is written otherwise
    Raises ValueError where it is no list.
    """
    try:
        return decode(text)
    except msgspec.DecodeError:
        pass
    try:
        rows = msgspec.json.decode(text, type=list[Raw])
    except msgspec.DecodeError as error:
        raise structure(_at(error, name)) from None
    found = []
    for index, row in enumerate(rows):
        try:
            found.append(mend(row, faults))
        except msgspec.DecodeError as error:
            faults.add(bad, f"{name} entry {index}", complaint_about(name, index, row, error))
    return found


def complaint_about(name: str, index: int, row: Raw, complaint: object) -> str:
    """A parser's complaint, with the record that it is about."""
    try:
        id = key_of(msgspec.json.decode(row, type=_Ids).id)
    except msgspec.DecodeError:
        id = None
    who = "without id" if id is None else f"id {shown(id)}"
    told = str(complaint).replace("`$", f"`$.{name}[{index}]")
    return f"{name} entry {index}, {who}: {told}; correct this entry"


def fields_of(row: Raw, names: Sequence[str]) -> dict[str, Any]:
    """Some fields of a record, as Python's objects. Raises msgspec.DecodeError."""
    fields, found = msgspec.json.decode(row, type=dict[str, Raw]), {}
    for name in names:
        if name in fields:
            try:
                found[name] = msgspec.json.decode(fields[name])
            except msgspec.DecodeError as error:
                raise msgspec.DecodeError(_at(error, name)) from None
    return found


def _at(complaint: object, name: str) -> str:
    """A complaint about a field's value as one about the record that has it."""
    told = str(complaint)
    return told.replace("`$", f"`$.{name}") if "- at `$" in told else f"{told} - at `$.{name}`"
