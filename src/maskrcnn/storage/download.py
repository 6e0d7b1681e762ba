"""Files of the web, into the cache: resumed, checked, and never visible before they are complete."""

import base64
import functools
import hashlib
import http.client
import json
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from maskrcnn.files import DiskFull, cache_folder, check_room, lock, writing
from maskrcnn.storage.location import Location, at, is_remote, printable
from maskrcnn.storage.progress import Meter, Progress, Say

SCHEMES = ("https",)
"""Allowed schemes of addresses and redirections."""
TIMEOUT = 30.0
"""Longest wait in seconds for an answer or a byte."""
ATTEMPTS = 5
"""Number of connections to try, as long as each brought some bytes."""
BLOCK = 1 << 20
"""Largest number of bytes read at once."""


def download(
    url: str | Location,
    path: str,
    *,
    sha256: str = "",
    md5: str = "",
    say: Say = print,
    progress: Progress | None = None,
    marked: Callable[[str], None] | None = None,
    otherwise: str = "",
) -> Path:
    """Return the file of an address from the cache, after downloading it if it is not there.

    path       path inside `cache_folder()`, with slashes
    sha256     all 64 hexadecimal digits, or the first ones where only those are published
    md5        as `sha256`, where only that is published: it detects damage, not forgery
    progress   called with (bytes done, bytes in total, 0 where unknown); None prints to stderr
    marked     called with the server's mark of the file, empty where it gives none
    otherwise  what to do where it cannot be downloaded; empty for saving it as `path` in the cache

    Without digits only the length that the server gave is checked. `say` gets the check that was made.
    Several processes may ask for one file at once: one downloads, the others wait. An interrupted download is kept as
    `path`.part and resumed while the file at the address is the same.
    Raises ValueError for an address or path that is refused and for a file whose digits differ, and FileNotFoundError,
    with the address and the path in the cache, where the file is neither there nor downloadable.
    """
    final = _cache_path(path)
    if _scheme(url) not in SCHEMES:
        raise ValueError(f"{printable(url)} is refused: expected an address that begins with {SCHEMES[0]}://")
    if final.is_file():
        if fault := _fault(final, sha256, md5):
            raise ValueError(f"{final} is damaged: {fault}; delete it and try again")
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with contextmanager(_alone)(final.with_name(f"{final.name}.part"), say) as part:
            if final.is_file():  # another process was quicker
                return final
            say(f"downloading {printable(url)} to {final}")
            _fill(part, url, progress or Meter(f"downloading {final.name}"))
            if fault := _fault(part, sha256, md5):
                _forget(part)
                raise ValueError(f"{printable(url)} is not the published file: {fault}; nothing was kept, try again")
            if marked is not None:
                marked(_recall(part, url)["mark"])
            _finish(part, final)
    except DiskFull:
        raise
    except (OSError, http.client.HTTPException) as error:
        told = "it has characters that must be written as %20" if isinstance(error, http.client.InvalidURL) else error
        advice = otherwise or f"save it as {final}, or set MASKRCNN_CACHE to the folder where it is"
        raise FileNotFoundError(
            f"{printable(url)} could not be downloaded ({told}). Download it by other means and {advice}"
        ) from None
    say(f"checked {final}: {_checked(sha256, md5)}")
    return final


def _cache_path(path: str) -> Path:
    """Return the path of a file in the cache. Raises ValueError where it would lie outside, on any system."""
    word = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
    if not re.fullmatch(rf"{word}(/{word})*", path) or path.endswith((".part", ".part.json")):
        raise ValueError(
            f"{path!r} is not a path in the cache; expected names of letters, digits and _.+- between slashes"
        )
    folder, final = cache_folder(), cache_folder() / path
    inside = [final, *(parent for parent in final.parents if folder in parent.parents)]
    beside = [final.with_name(f"{final.name}{ending}") for ending in (".part", ".part.json")]
    for one in (*inside, *beside):
        if one.is_symlink():
            raise ValueError(f"{one} is a link; the cache holds only files and folders of its own: delete the link")
    return final


def _fault(path: Path, sha256: str, md5: str) -> str:
    """Say what differs from the published digits; an empty text where nothing does."""
    for kind, digest, wanted in (("SHA-256", hashlib.sha256, sha256.lower()), ("MD5", _md5, md5.lower())):
        if wanted:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, digest).hexdigest()
            if not found.startswith(wanted):
                return f"its {kind} starts with {found[: len(wanted)]}, expected {wanted}"
    return ""


_md5 = functools.partial(hashlib.md5, usedforsecurity=False)


def _checked(sha256: str, md5: str) -> str:
    if sha256:
        return "its SHA-256 is the published one" if len(sha256) == 64 else f"its SHA-256 starts with {sha256}"
    return f"its MD5 starts with {md5}" if md5 else "its length only, as no digest is published"


def _alone(part: Path, say: Say) -> Iterator[Path]:
    """Yield the part file once no other process or thread writes to it; without locks, a file of this thread.

    The lock is on the part file itself, so it ends with the process. A process that waited looks again, since the file
    has been renamed.
    """
    while True:
        with part.open("ab") as stream:
            if not _lock(stream, part, say):
                break
            if not _is_at(stream, part):
                continue
            try:
                yield part
            finally:
                if _is_at(stream, part) and not part.stat().st_size:
                    _forget(part)
            return
    with suppress(OSError):
        _forget(part)
    own = part.with_name(f"{part.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        own.touch()
        yield own
    finally:
        _forget(own)


def _lock(stream: IO[bytes], part: Path, say: Say) -> bool:
    """Wait for the lock of the file; false where the system has no locks."""
    held = lock(stream)
    if held is False:
        say(f"waiting for another process that downloads {part.with_suffix('')}")
        held = lock(stream, wait=True)
    return bool(held)


def _is_at(stream: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _fill(part: Path, url: str | Location, progress: Progress) -> None:
    """Download until the part file is complete; a cut connection is resumed as long as it brings bytes."""
    for attempt in range(ATTEMPTS):
        before = part.stat().st_size
        try:
            return _download(part, url, progress)
        except DiskFull:
            raise
        except (OSError, http.client.HTTPException):
            if attempt == ATTEMPTS - 1 or part.stat().st_size == before:
                raise


def _download(part: Path, url: str | Location, progress: Progress) -> None:
    """Append the missing bytes; start over where the file at the address may be another one."""
    done, known = part.stat().st_size, _recall(part, url)
    if done and done == known["total"]:
        return  # complete, but the process ended before it was renamed
    resumes = done and known["mark"]
    headers = {"Range": f"bytes={done}-", "If-Range": known["mark"]} if resumes else {}
    try:
        answer = ask(url, headers)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part file is longer than the file at the address
            _empty(part)
        raise
    with answer:
        if answer.status == 206:
            total = known["total"]
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            same = span and (int(span[1]), int(span[2])) == (done, total) and mark_of(answer) in ("", known["mark"])
            if not same:
                _empty(part)
                raise ConnectionError("the file changed while it was being downloaded")
        else:
            done, total = 0, int(answer.headers.get("Content-Length") or 0)
            _empty(part)
            _remember(part, url, mark_of(answer), total)
        check_room(part, total - done)
        with part.open("ab") as out:
            progress(done, total)
            while block := answer.read1(BLOCK):
                with writing(part):
                    out.write(block)
                    out.flush()  # so that a killed process loses nothing
                done += len(block)
                progress(done, total)
    if done == 0 or (total and done != total):
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def ask(url: str | Location, headers: Mapping[str, str] | None = None) -> Any:
    """Send a request. The user in an address is told to its server alone, and not to where it redirects."""
    location = at(url) if isinstance(url, Location) or is_remote(url) else None
    address = location.address if isinstance(location, Location) else str(url)
    request = urllib.request.Request(address, headers={"User-Agent": "maskrcnn", **(headers or {})})
    if isinstance(location, Location) and location.user:
        told = base64.b64encode(unquote(location.user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {told}")
    return urllib.request.build_opener(_Redirects()).open(request, timeout=TIMEOUT)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to allowed schemes only, never to an unprotected copy."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in SCHEMES:
            raise urllib.error.URLError(f"it redirects to {printable(newurl)}, which is not {SCHEMES[0]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def mark_of(answer: Any) -> str:
    """Return what identifies this version of the file: its strong ETag, or its date."""
    etag = answer.headers.get("ETag") or "W/"
    return (answer.headers.get("Last-Modified") or "") if etag.startswith("W/") else etag


def _remember(part: Path, url: str | Location, mark: str, total: int) -> None:
    _notes(part).write_text(json.dumps({"url": _identity(url), "mark": mark, "total": total}), encoding="utf-8")


def _recall(part: Path, url: str | Location) -> dict[str, Any]:
    """Read the notes about the file that a part file began from; empty where they are for another address."""
    try:
        known = json.loads(_notes(part).read_text(encoding="utf-8"))
        if known["url"] == _identity(url):
            return {"mark": str(known["mark"]), "total": int(known["total"])}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"mark": "", "total": 0}


def _scheme(url: str | Location) -> str:
    return url.scheme if isinstance(url, Location) else urlsplit(url).scheme


def _identity(url: str | Location) -> str:
    """What chooses the content of an address: it may be written down."""
    query = url.query if isinstance(url, Location) else urlsplit(url).query
    choice = Location("https", "", query=query).choice
    return f"{printable(url)}?{choice}" if choice else printable(url)


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _empty(part: Path) -> None:
    os.truncate(part, 0)


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _finish(part: Path, final: Path) -> None:
    """Rename the complete file, after its bytes have reached the disk."""
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())
    _notes(part).unlink(missing_ok=True)
    part.replace(final)
