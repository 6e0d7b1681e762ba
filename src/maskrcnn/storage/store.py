"""The door to object stores: opened with the usual credentials, and asked so that a failure becomes a sentence."""

import importlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

from maskrcnn.storage.credentials import KEYS, Config, obs_config, s3_config
from maskrcnn.storage.failures import Lost, failure_of
from maskrcnn.storage.location import STORES, Location

T = TypeVar("T")
PATIENCE = 120.0
"""Seconds for which lost connections and errors of a server are tried again; $MASKRCNN_STORAGE_PATIENCE has another."""
TIMEOUTS = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=30),
    "timeout": timedelta(minutes=10),
}
"""Longest wait for a connection, for a byte, and for a whole answer."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=100), timedelta(seconds=5)
"""Pauses between attempts grow from the first to the longest."""
MOST_RETRIES = 100
"""Largest number of retries of a request: the patience is what ends them."""
ATTEMPTS = 5
"""Copies that may be other than what was told before one is given up."""
MISSING_EXTRA = "reading and writing {scheme}:// needs the package obstore: pip install 'maskrcnn[cloud]'"


class Entry(NamedTuple):
    """An object as a store lists it."""

    key: str
    """Relative to what was listed; of a single object its name."""
    size: int
    """Bytes."""
    mark: str
    """ETag, without quotes: equal while the content is. Empty where the store gives none."""


def open_store(location: Location, seconds: float | None = None) -> tuple[Any, str]:
    """Return obstore's store of a location's bucket, and the key in it. Stores are kept, so that connections are.

    seconds   for which a lost connection is tried again; None takes `patience()`
    Raises ValueError where the package, an endpoint or a right configuration is missing, or for a web address.
    """
    if location.scheme not in STORES:
        schemes = ", ".join(f"{scheme}://" for scheme in STORES)
        raise ValueError(f"{location} can only be read, not listed or written; expected {schemes} or a path")
    config = CONFIGS[location.scheme](location.bucket)
    tried = patience() if seconds is None else seconds
    return _opened(location.scheme, location.bucket, tuple(sorted(config.items())), tried), location.key


def endpoint(location: Location) -> str:
    """What tells a bucket from one of the same name elsewhere: the server, or the account."""
    if location.scheme == "az":
        return os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    return CONFIGS[location.scheme](location.bucket).get("aws_endpoint_url_s3", "") if not location.is_web else ""


def patience() -> float:
    """Seconds for which a lost connection is tried again. Raises ValueError where the variable is no number."""
    told = os.environ.get("MASKRCNN_STORAGE_PATIENCE", "")
    try:
        return float(told) if told else PATIENCE
    except ValueError:
        raise ValueError(f"expected MASKRCNN_STORAGE_PATIENCE to be a number of seconds, received {told!r}") from None


def ask(location: Location, what: str, call: Callable[[], T], began: float | None = None) -> T:
    """Ask a store, as `ask(at, "reading", lambda: obstore.get(store, key))`; a failure becomes a sentence.

    what    the doing, as in "reading s3://..."
    began   `time.monotonic()` of the first attempt, where this is a later one
    Raises FileNotFoundError, PermissionError, FileExistsError, or ConnectionError for all else that a store or the way
    to it may do: what obstore said is not chained, since addresses and answers may hold secrets.
    """
    import obstore.exceptions

    began = time.monotonic() if began is None else began
    try:
        return call()
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        failure = failure_of(location, what, error, time.monotonic() - began, endpoint(location))
    raise failure


def persist(location: Location, what: str, call: Callable[[], T], seconds: float | None = None) -> T:
    """Ask as `ask`, and again where an answer breaks off: obstore itself tries only until one begins.

    seconds   as of `open_store`
    """
    began, pause = time.monotonic(), FIRST_PAUSE
    end = began + (patience() if seconds is None else seconds)
    while True:
        try:
            return ask(location, what, call, began)
        except Lost:
            if time.monotonic() > end:
                raise
        time.sleep(pause.total_seconds())
        pause = min(2 * pause, LONGEST_PAUSE)


def head(location: Location, seconds: float | None = None) -> Entry | None:
    """Size and mark of an object; None where there is none.

    seconds   as of `open_store`
    """
    import obstore

    store, key = open_store(location, seconds)
    try:
        found = ask(location, "looking at", lambda: obstore.head(store, key))
    except FileNotFoundError:
        return None
    return _entry(found, location.name)


def listing(location: Location, seconds: float | None = None) -> Iterator[Entry]:
    """Yield every object below a folder, with keys relative to it; without those that only stand for folders.

    seconds   as of `open_store`
    """
    prefix = f"{location.key}/" if location.key else ""
    before: Entry | None = None
    for found in _listed(location, prefix, seconds):
        if not found["path"].startswith(prefix):
            continue  # stands for the folder itself
        entry = _entry(found, found["path"].removeprefix(prefix))
        if before is not None and (before.size or not entry.key.startswith(f"{before.key}/")):
            yield before
        before = entry
    if before is not None:
        yield before


def _listed(location: Location, prefix: str, seconds: float | None) -> Iterator[Any]:
    """Yield what a store tells of each object; a listing that breaks off is gone on with after the last one."""
    import obstore

    store, _ = open_store(location, seconds)
    last: str | None = None
    pages: Iterator[Any] | None = None

    def turn() -> Any:
        nonlocal pages
        turned, pages = pages or iter(obstore.list(store, prefix or None, offset=last)), None
        page = next(turned, None)
        pages = turned
        return page

    while page := persist(location, "listing", turn, seconds):
        yield from page
        last = page[-1]["path"]


def children(location: Location) -> list[Entry]:
    """The objects directly inside a folder, in the order of their names."""
    import obstore

    store, key = open_store(location)
    prefix = f"{key}/" if key else ""
    found = persist(location, "listing", lambda: obstore.list_with_delimiter(store, prefix or None))["objects"]
    return sorted(_entry(one, one["path"].removeprefix(prefix)) for one in found if one["path"].startswith(prefix))


def read_object(location: Location, part: tuple[int, int] | None = None, mark: str = "") -> bytes:
    """All bytes of an object, or those from `part[0]` to before `part[1]`.

    mark   what the object must still have; empty takes any
    Lost connections are taken up again, within the patience.
    """
    import obstore

    store, key = open_store(location)
    options: Any = {"range": part} if part else {}
    if mark and not mark.startswith("W/"):
        options["if_match"] = f'"{mark}"'
    return persist(location, "reading", lambda: bytes(obstore.get(store, key, options=options).bytes()))


def _entry(found: Any, key: str) -> Entry:
    return Entry(key, int(found["size"]), (found["e_tag"] or "").strip('"'))


@lru_cache(maxsize=32)
def _opened(scheme: str, bucket: str, config: tuple[tuple[str, str], ...], seconds: float) -> Any:
    try:
        stores = importlib.import_module("obstore.store")
    except ImportError:
        raise ValueError(MISSING_EXTRA.format(scheme=scheme)) from None
    kind = {"gs": stores.GCSStore, "az": stores.AzureStore}.get(scheme, stores.S3Store)
    options: dict[str, Any] = dict(TIMEOUTS)
    if any(value.startswith("http://") for _, value in config) or _plain_http():
        options["allow_http"] = True
    retries = {
        "max_retries": MOST_RETRIES if seconds else 0,
        "retry_timeout": timedelta(seconds=seconds),
        "backoff": {"init_backoff": FIRST_PAUSE, "max_backoff": LONGEST_PAUSE, "base": 2},
    }
    settings = {name: value for name, value in config if name not in KEYS}
    if kind is stores.S3Store:
        settings["disable_bulk_delete"] = "true"  # OBS refuses the checksum of a request that removes several
    given: dict[str, Any] = {"config": settings, "client_options": options, "retry_config": retries}
    if keys := {name: value for name, value in config if name in KEYS}:
        given["credential_provider"] = partial(_credential, keys)
    return ask(Location(scheme, bucket), "opening", lambda: kind(bucket, **given))


def _credential(keys: Config) -> dict[str, str | None]:
    """What obstore asks for once. As an answer it goes before AWS_* variables, which may be another store's."""
    return {
        "access_key_id": keys["access_key_id"],
        "secret_access_key": keys.get("secret_access_key", ""),
        "token": keys.get("session_token"),
        "expires_at": None,
    }


def _plain_http() -> bool:
    """Whether a person named an endpoint without TLS by a variable that obstore reads itself."""
    names = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "GOOGLE_BASE_URL")
    return any(os.environ.get(name, "").startswith("http://") for name in names)


def _nothing(bucket: str) -> Config:
    """Leave a store to what obstore reads from the environment by itself."""
    return {}


CONFIGS: dict[str, Callable[[str], Config]] = {"s3": s3_config, "obs": obs_config, "gs": _nothing, "az": _nothing}
"""What each scheme takes beyond what obstore reads by itself."""
