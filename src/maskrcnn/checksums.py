"""Whether files are what was written: of a folder by a file with the size and SHA-256 of each, of a text by a line."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.files import atomic_write, digest, fingerprint, with_digest
from maskrcnn.run_folder import CHECKSUMS

LINE = "# sha256 of the lines below, by which a change is noticed: "
"""What a written text begins with, before the digits of its sum."""


def write_checksums(folder: Path, names: Sequence[str]) -> None:
    """Write down size and SHA-256 of files in a folder, in `checksums.json` beside them."""
    with atomic_write(folder / CHECKSUMS) as draft:
        draft.write_text(_to_text({"files": {name: fingerprint(folder / name) for name in names}}), encoding="utf-8")


def check_files(folder: Path, listed_in: str = CHECKSUMS, names: set[str] | None = None) -> None:
    """Raise ValueError where a file in a folder is not what was written; a folder without a list is taken as it is.

    listed_in   the file with the sums, its own among them: `checksums.json`, or `state.json` of a checkpoint
    names       what is looked at; None: all that is listed and there
    """
    path = folder / listed_in
    if not path.is_file():
        return
    accept = f", or, if it was changed on purpose, remove {path}" if listed_in == CHECKSUMS else ""
    advice = f"copy it again from where it was made{accept}"
    files = _listed(path)
    if files is None:
        raise ValueError(f"{path} is not what was written, by which other files are checked; {advice}")
    for name, written in files.items():
        file = folder / name
        if (names is None or name in names) and file.is_file() and fingerprint(file) != written:
            raise ValueError(f"{file} is not what was written, {_difference(file, written)}; {advice}")


def _difference(path: Path, written: dict[str, Any]) -> str:
    size = path.stat().st_size
    return "its SHA-256 is another" if size == written["size"] else f"it has {size:,} of {written['size']:,} bytes"


def _listed(path: Path) -> dict[str, Any] | None:
    """Name and fingerprint of each file; None where the list itself is not what was written."""
    try:
        content = json.loads(path.read_bytes())
        own = content.pop("sha256")
        files = content["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if own != digest(content) or not _is_list(files):
        return None
    return None if path.name == CHECKSUMS and path.read_text(encoding="utf-8") != _to_text(content) else files


def _is_list(files: object) -> bool:
    """Whether these are sizes and sums of files that lie beside their list, and none elsewhere."""
    return isinstance(files, dict) and all(
        name == Path(name).name
        and isinstance(entry, dict)
        and type(entry.get("size")) is int
        and isinstance(entry.get("sha256"), str)
        for name, entry in files.items()
    )


def _to_text(content: dict[str, Any]) -> str:
    return with_digest(content) + "\n"


def with_sum(text: str) -> str:
    """A text that begins with a line by which a change is noticed, also one that cuts off its end."""
    return f"{LINE}{_sum(text)}\n{text}"


def was_changed(text: str) -> bool:
    """Whether a text has such a line and is not what was written; people's own texts have none.

    >>> was_changed(with_sum("a: 1")), was_changed(with_sum("a: 1").replace("1", "2")), was_changed("a: 2")
    (False, True, False)
    """
    first, _, rest = text.partition("\n")
    right = _sum(rest)
    return (text.startswith(LINE) or first.endswith(right)) and first != LINE + right


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
