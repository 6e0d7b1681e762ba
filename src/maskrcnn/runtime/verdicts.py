"""What was found out about a machine: kept in the cache folder for as long as what it depends on stays the same."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from maskrcnn.files import atomic_write, cache_folder

Facts = dict[str, str]
"""All that decides a verdict, by name."""
V = TypeVar("V", bound="Verdict")
UNUSABLE = OSError, RuntimeError, msgspec.MsgspecError
"""What a missing, damaged or forbidden file raises, and a user without a home."""


class Verdict(msgspec.Struct, frozen=True):
    """What was found, in a subclass for each question."""

    facts: Facts


def recall(kind: type[V], facts: Facts) -> V | None:
    """Read what an earlier process found; None where nothing is kept, or nothing that can be used."""
    with suppress(*UNUSABLE):
        verdict = msgspec.json.decode(_path(kind, facts).read_bytes(), type=kind)
        if verdict.facts == facts:
            return verdict
    return None


def remember(verdict: Verdict) -> None:
    """Keep a verdict for later processes, where that is possible."""
    with suppress(*UNUSABLE):
        path = _path(type(verdict), verdict.facts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(verdict)))


def _path(kind: type[Verdict], facts: Facts) -> Path:
    digest = hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:16]
    return cache_folder() / "verdicts" / f"{kind.__name__.lower()}-{digest}.json"
