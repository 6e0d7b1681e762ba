"""Names of images as exporters write them, and what is said of those that are not the names of their files."""

from collections.abc import Iterator
from unicodedata import normalize
from urllib.parse import unquote

from maskrcnn.data.faults import Kind, Severity

BACKSLASH = Kind(
    "name-with-backslashes",
    "images",
    Severity.NOTE,
    "are named with backslashes; they are found with slashes",
    "slashes are written",
)
ADDRESS = Kind(
    "name-is-address",
    "images",
    Severity.NOTE,
    "are named by an address; they are found by its last part",
    "the file's name is written",
)
PERCENT = Kind(
    "name-with-percent-signs",
    "images",
    Severity.NOTE,
    "are named with percent signs for other letters; they are found without",
    "the file's name is written",
)
FOLDERS = Kind(
    "name-with-other-folders",
    "images",
    Severity.NOTE,
    "are named with folders that the image folder lacks; they are found without",
    "the file's name is written",
)
LETTERS = Kind(
    "name-in-other-letters",
    "images",
    Severity.NOTE,
    "are named in another case or Unicode form than the file; they are found",
    "the file's name is written",
)
OUTSIDE = Kind(
    "image-outside", "images", Severity.REFUSED, "lie outside the data set and are not read", "they are left out"
)
MISSING_IMAGE = Kind("missing-image", "images", Severity.REFUSED, "are missing", "they are left out")


def spellings(name: str) -> Iterator[tuple[Kind, str]]:
    """Other ways to write a name, each built on those before, and how the name differs from it.

    >>> [spelt for _, spelt in spellings("C:\\\\set\\\\my%20cell.png")]
    ['C:/set/my%20cell.png', 'C:/set/my cell.png']
    """
    if "\\" in name:
        name = name.replace("\\", "/")
        yield BACKSLASH, name
    if "?d=" in name:  # Label Studio's address of a local file
        name = unquote(name.partition("?d=")[2]).replace("\\", "/")
        yield ADDRESS, name
    if "://" in name:
        name = last_of_url(name)
        yield ADDRESS, name
    if "%" in name:
        name = unquote(name)
        yield PERCENT, name


def last_of_url(url: str) -> str:
    """The name of the file that an address leads to."""
    return unquote(url.replace("\\", "/").partition("?")[0].partition("#")[0].rpartition("/")[2])


def folded(name: str) -> str:
    """The same for all names that differ in the case of letters or their Unicode form."""
    return normalize("NFC", name).casefold()
