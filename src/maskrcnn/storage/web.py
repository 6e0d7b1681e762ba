"""Files of web servers: brought by `download`, compared with the server's when they are used again."""

import hashlib
import http.client
import urllib.error
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from maskrcnn.files import cache_folder
from maskrcnn.storage.download import ask, download, mark_of
from maskrcnn.storage.location import Location
from maskrcnn.storage.mirror import Copied, Mirror
from maskrcnn.storage.progress import Say
from maskrcnn.storage.store import ATTEMPTS

PARALLEL = 8
"""Number of files that are downloaded at once."""
OTHERWISE = "name the file, or its folder, in the place of the address"
"""Advice where a download fails: what lies in the cache is the address's only with the server's mark."""
BROKEN = (OSError, http.client.HTTPException)
"""What a lost connection and a failed server raise."""


def read(location: Location) -> bytes:
    """All bytes of a web address. Raises FileNotFoundError, PermissionError or ConnectionError."""
    failure: BaseException = ConnectionError()
    for _ in range(ATTEMPTS):
        try:
            with ask(location) as answer:
                content: bytes = answer.read()
            if len(content) == int(answer.headers.get("Content-Length") or len(content)):
                return content
        except urllib.error.HTTPError as error:
            failure = error
            if error.code < 500:
                break
        except BROKEN as error:
            failure = error
    raise _sentence(location, failure)


def fetch(location: Location, say: Say) -> Path:
    """Return the copy of a web address, which is downloaded where there is none or the server has another.

    Raises FileNotFoundError where it cannot be had and there is no copy.
    """
    mirror = Mirror(location.parent)
    known = mirror.read().get(location.name)
    if known is not None and mirror.has(known) and not _changed(location, known, say):
        return mirror.path(known.name)
    return _download(mirror, location, location.name, say)


def fetch_all(location: Location, names: Collection[str], say: Say) -> Path:
    """Return the folder with copies of some files of a web server. Those that are there are not compared again."""
    mirror = Mirror(location)
    known = mirror.read()
    missing = [name for name in names if not mirror.has(known.get(name))]
    if missing:
        say(f"downloading {len(missing)} of {len(names)} files of {location} to {mirror.folder}")
    with ThreadPoolExecutor(PARALLEL) as pool:
        jobs = [pool.submit(_download, mirror, location / name, name, lambda _: None) for name in missing]
        try:
            for job in jobs:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return mirror.folder


def exists(location: Location) -> bool:
    """Whether a server has a file at an address. Raises PermissionError or ConnectionError where it does not tell."""
    try:
        ask(location).close()
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return False
        failure: BaseException = error
    except BROKEN as error:
        failure = error
    else:
        return True
    raise _sentence(location, failure)


def _download(mirror: Mirror, location: Location, name: str, say: Say) -> Path:
    """Bring a file under a name that any system has, then give it its own."""
    path, marks = mirror.path(name), [""]
    draft = f"remote/{mirror.folder.name}.web/{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    (cache_folder() / draft).unlink(missing_ok=True)
    brought = download(location, draft, say=say, progress=None, marked=marks.append, otherwise=OTHERWISE)
    path.parent.mkdir(parents=True, exist_ok=True)
    brought.replace(path)
    mirror.add(name, path.stat().st_size, marks[-1])
    return path


def _changed(location: Location, known: Copied, say: Say) -> bool:
    """Whether the server tells of another file than the one that was copied; not where it cannot be asked."""
    condition = "If-None-Match" if known.mark.startswith('"') else "If-Modified-Since"
    try:
        with ask(location, {condition: known.mark} if known.mark else {}) as answer:
            size = int(answer.headers.get("Content-Length") or known.size)
            return (size, mark_of(answer)) != (known.size, known.mark)
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return False
        reason = f"status {error.code}"
    except BROKEN:
        reason = "no answer"
    say(f"{location} could not be compared ({reason}); the copy is taken: {Mirror(location.parent).path(known.name)}")
    return False


def _sentence(location: Location, error: BaseException) -> OSError:
    """What went wrong, without the address that was asked, which may hold secrets."""
    code = error.code if isinstance(error, urllib.error.HTTPError) else 0
    if code in (404, 410):
        return FileNotFoundError(f"{location} does not exist; correct the address")
    if code in (401, 403):
        return PermissionError(f"{location} was refused (status {code}); sign the address anew, or name a user in it")
    reason = f"status {code}" if code else _reason(error)
    return ConnectionError(f"{location} cannot be read ({reason}); look at the network, then run the command again")


def _reason(error: BaseException) -> str:
    """What the system or TLS says, or what `download` says of a redirection; never a text with the address in it."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    told = reason.strerror if isinstance(reason, OSError) else reason if isinstance(reason, str) else ""
    return told or type(reason).__name__
