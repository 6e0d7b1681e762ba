"""Training images that could not be read, and how many of them a run may go on without."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from maskrcnn.data.transforms import RawBatch
from maskrcnn.files import atomic_write
from maskrcnn.run_folder import SKIPPED
from maskrcnn.runtime.distributed import World
from maskrcnn.sentences import counted, some_of


class Skip(msgspec.Struct, frozen=True):
    """A line of `skipped.jsonl`: the step that first had to do without an image, its name, and the reason."""

    step: int
    image: str
    why: str


class Skips:
    """What was skipped so far in all processes; each image counts once, however often it was asked for.

    folder   of the run, whose list up to a step counts when a run goes on
    most     number of images that may be skipped
    """

    def __init__(self, folder: Path, most: int, step: int) -> None:
        self._path, self._most = folder / SKIPPED, most
        self._found = {one.image: one for one in _read(self._path) if one.step <= step}
        self._told = len(self._found)

    def add(self, raws: Sequence[RawBatch], step: int, world: World) -> str:
        """Count what the processes had to skip in a step, each its own; all of them call this.

        Returns the sentence why the run stops, or an empty one while it may go on.
        """
        mine = [Skip(step, name, why) for raw in raws for name, why in raw.unread]
        for content in world.gather_bytes(msgspec.json.encode(mine)):
            for one in msgspec.json.decode(content, type=list[Skip]):
                self._found.setdefault(one.image, one)
        if world.is_main and len(self._found) > self._told:
            with atomic_write(self._path) as draft:
                draft.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in self._found.values()))
        (number,) = world.from_main([len(self._found)])
        return self._too_many(int(number)) if number > self._most else ""

    def notes(self) -> list[str]:
        """The images that were skipped and not told of yet, in a sentence."""
        new, self._told = list(self._found)[self._told :], len(self._found)
        if not new:
            return []
        total = f"{len(self._found)} of at most {self._most} by now"
        return [
            f"{counted(len(new), 'images')} could not be read, and training goes on without: {some_of(new)}; {total}, "
            f"with their reasons in {self._path}"
        ]

    def _too_many(self, number: int) -> str:
        last = f", the last one: {list(self._found.values())[-1].why}" if self._found else ""
        return f"{counted(number, 'images')} could not be read, data.skip_unreadable allows {self._most}{last}"


def _read(path: Path) -> list[Skip]:
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [msgspec.json.decode(line, type=Skip) for line in lines]
