"""Runs whose folder is in an object store: written here first, and gone on with from there."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from maskrcnn.runtime.distributed import World
from maskrcnn.sentences import typed
from maskrcnn.storage.location import Location, Where, at, printable
from maskrcnn.storage.outgoing import Outgoing, files_of, steps_in
from maskrcnn.storage.staging import bring_checkpoint, bring_run, emptied, holds_a_run, staging_folder
from maskrcnn.storage.store import endpoint
from maskrcnn.storage.write import check_writable
from maskrcnn.train import checkpoint

Tell = Callable[[str], None]


class Ground(NamedTuple):
    """Where a run is written and goes on from, on this machine."""

    folder: Path
    location: Path | Location
    """What the person called it."""
    resume: str | None


def folder_of(out: Where) -> Path:
    """The folder on this machine in which a run is written."""
    location = at(out)
    return location if isinstance(location, Path) else staging_folder(location)


def prepare(out: Where, resume: str | None, world: World, tell: Tell) -> Ground:
    """Bring what a run goes on from to this machine.

    out, resume   as of `loop.run`
    Every process calls this; machines need not share a file system. Raises ValueError where a run would be lost or
    nothing can be gone on from, OSError where the store cannot be read or written.
    """
    location = at(out)
    if isinstance(location, Path):
        return Ground(location, location, _source(resume, tell))
    folder = staging_folder(location)
    if world.is_main:
        check_writable(location)
        if resume is None:
            _refuse_to_replace(location, folder)
        else:
            bring_run(location, checkpoint.read, tell)
            Outgoing(folder, location).push()  # what an earlier command could not
    world.barrier()
    if resume is not None and not world.is_main:
        bring_run(location, checkpoint.read, tell)
    return Ground(folder, location, _inside(resume, location, folder) or _source(resume, tell))


def _refuse_to_replace(location: Location, folder: Path) -> None:
    if holds_a_run(location):
        raise ValueError(
            f"{location} already holds a run; go on with it by {typed('--resume')} auto, or choose another "
            f"{typed('--out')}"
        )
    if Outgoing(folder, location).was_removed:
        emptied(location)
    if steps_in(files_of(folder)):
        raise ValueError(
            f"{location} holds no run, but {folder} holds one that did not get there; go on with it by "
            f"{typed('--resume')} auto, or remove that folder"
        )


def _inside(resume: str | None, location: Location, folder: Path) -> str | None:
    """The path of a run or checkpoint whose address is that of the run or below it; None for any other."""
    if resume is None or resume == "auto":
        return resume
    name = f"{at(resume)}/".removeprefix(f"{location}/")
    return None if name == f"{at(resume)}/" else str(folder / name)


def _source(resume: str | None, tell: Tell) -> str | None:
    """The path of a run or checkpoint, which comes here if it is in a store."""
    source = None if resume is None or resume == "auto" else at(resume)
    if not isinstance(source, Location):
        return resume if source is None else str(source)
    found = bring_checkpoint(source) or bring_run(source, checkpoint.read, tell)
    if found is None:
        server = endpoint(source)
        raise ValueError(
            f"{source}: expected a checkpoint (a folder step-<n>) or a run that holds one, found none"
            + (f" at the endpoint {printable(server)}" if server else "")
        )
    return str(found)
