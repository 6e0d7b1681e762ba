"""Addresses of files that are on no disk. They read like paths, and print without what is secret in them."""

import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

STORES = {"s3": "Amazon S3 and its kin", "obs": "Huawei OBS", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
"""Schemes of object stores: what they are of. All can be read, listed and written."""
WEB = "https"
"""Scheme of addresses that can be read and neither listed nor written."""
SCHEMES = (*STORES, WEB, "file")
SCHEME = re.compile(r"([\w+.-]{2,}):/(/?)")
"""Beginning of an address, also of one that lost a slash; one letter before a colon is a disk of Windows."""
OPENING = re.compile(
    r"(?i)(x-(amz|goog|obs)-|signature|sig|token|key|secret|credential|password|auth|(aws)?accesskeyid|googleaccessid"
    r"|access[-_]token|security-token|api_?key|policy|expires|(s[epvrt]|spr|sip|sks|skt|skv|ske|skoid|sktid)$)"
)
"""Parameters of a query that sign an address or open it, and do not choose its content: those of Amazon, Google, Huawei
and Azure, and what others call theirs."""


@dataclass(frozen=True)
class Location:
    """An object, or a folder of objects, in a bucket or on a web server; `/`, `name` and `parent` are those of a path.

    Its text is printable: what signs the address or opens it is left out.
    """

    scheme: str
    """One of `STORES`, or `https`."""
    bucket: str
    """Bucket or container; host and port of a web address."""
    key: str = ""
    """Names between slashes, without one at either end. Of a web address as it is sent, %20 for a space."""
    query: str = field(default="", repr=False)
    """What stands behind the question mark of a web address. It may open what is closed, and is not printed."""
    user: str = field(default="", repr=False)
    """`NAME:PASSWORD` of a web address, not printed."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}" if self.key else f"{self.scheme}://{self.bucket}"

    __repr__ = __str__

    def __truediv__(self, name: str) -> "Location":
        """A file or folder below this one. Raises ValueError for a name that leads out of the bucket."""
        joined = posixpath.normpath(posixpath.join(self.key, self._sent(str(name))))
        if joined.startswith(("..", "/")):
            raise ValueError(f"{self}: expected the name of a file below it, received {name!r}; it leads elsewhere")
        return Location(self.scheme, self.bucket, "" if joined == "." else joined, self.query, self.user)

    @property
    def is_web(self) -> bool:
        """Whether this can be read and neither listed nor written."""
        return self.scheme == WEB

    @property
    def name(self) -> str:
        """The last part of the key."""
        name = self.key.rpartition("/")[2]
        return unquote(name) if self.is_web else name

    @property
    def suffix(self) -> str:
        """The ending of the name, such as `.json`."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "Location":
        """The folder around it; a bucket is its own."""
        return Location(self.scheme, self.bucket, self.key.rpartition("/")[0], self.query, self.user)

    @property
    def address(self) -> str:
        """A web address as it is sent, without the user, with the query: never to be printed."""
        return f"{self}?{self.query}" if self.query else str(self)

    @property
    def choice(self) -> str:
        """The parts of the query that choose the content, without those that sign the address or open it."""
        return "&".join(part for part in self.query.split("&") if part and not OPENING.match(unquote(part)))

    def _sent(self, name: str) -> str:
        return quote(name) if self.is_web else name


Where = str | Path | Location
"""What a person may name a file or folder by."""


def is_remote(where: Where) -> bool:
    """Whether this is the address of something that is on no disk; `file://` is a path in other words."""
    if isinstance(where, Location):
        return True
    return _scheme(where) in (*STORES, WEB)


def at(where: Where) -> Path | Location:
    """The path or the address that a text means: the one door for what a person may type.

    Raises ValueError for an address that is not understood, nor known: what it was is told without its secrets.
    """
    if isinstance(where, Path | Location):
        return where
    scheme = _scheme(where)
    if scheme == "file":
        return _local(where)
    if scheme in (*STORES, WEB):
        return _parsed(where, scheme)
    if scheme == "http":
        raise ValueError(f"{printable(where)}: expected https://, since http:// shows what it carries to everybody")
    _refuse_like_address(where)
    return Path(where)


def local(where: str | Path) -> Path:
    """The path that a text means, with the user's home for ~. Raises ValueError for the address of something remote."""
    found = at(where)
    if isinstance(found, Location):
        raise ValueError(f"expected a path on this machine, received {found}")
    return found.expanduser()


def printable(where: Where) -> str:
    """An address or a path as text, without what signs or opens it."""
    if not isinstance(where, str) or "://" not in where:
        return str(where)
    scheme, _, rest = where.partition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    if re.match(r"[^/@]*:(?!\d{1,5}(/|$))", rest):  # a password, which may have slashes
        rest = rest.rpartition("@")[2] if "@" in rest else "***"
    authority, slash, key = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{key}"


def _scheme(where: str | Path) -> str:
    """The scheme of a text, in lower case; empty for a path."""
    found = SCHEME.match(where) if isinstance(where, str) else None
    return found[1].lower() if found and found[2] else ""


def _refuse_like_address(where: str) -> None:
    """Raise ValueError for an address of an unknown scheme, and for one with a single slash: neither is a path."""
    found = SCHEME.match(where)
    if found and found[2]:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ValueError(f"{printable(where)}: expected a path or an address that begins with one of {known}")
    if found and found[1].lower() in (*STORES, "http", "https"):
        whole = printable(where.replace(":/", "://", 1))
        raise ValueError(f"expected an address with two slashes, {whole}, received one with a single slash")


def _local(where: str) -> Path:
    parts = urlsplit(where)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(f"{printable(where)}: expected file:///PATH, with three slashes before an absolute path")
    return Path(unquote(parts.path))


def _parsed(where: str, scheme: str) -> Location:
    parts = urlsplit(where) if scheme == WEB else None
    if parts is not None:
        user, _, host = parts.netloc.rpartition("@")
        found = Location(scheme, host, parts.path.strip("/"), parts.query, user)
    else:
        bucket, _, key = where.partition("://")[2].partition("/")
        key = posixpath.normpath(key.strip("/"))
        found = Location(scheme, bucket, "" if key == "." else key)
        _check_bucket(where, found)
    if not found.bucket:
        raise ValueError(f"{printable(where)}: expected {scheme}://{'HOST' if found.is_web else 'BUCKET'}/NAME")
    return found


def _check_bucket(where: str, found: Location) -> None:
    if "@" in found.bucket or ":" in found.bucket:
        raise ValueError(
            f"{printable(where)}: expected a bucket's name after {found.scheme}://, received a user or a port before "
            "it; credentials and endpoints belong into environment variables (docs/storage.md)"
        )
    if found.key.startswith("../") or found.key == "..":
        raise ValueError(f"{printable(where)}: expected names between the slashes; .. leads out of the bucket")
