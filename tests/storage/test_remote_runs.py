"""Where a run begins whose folder is in a store."""

from pathlib import Path

import pytest
import torch

from maskrcnn.runtime.distributed import World
from maskrcnn.storage.location import at
from maskrcnn.storage.outgoing import Outgoing
from maskrcnn.storage.staging import staging_folder
from maskrcnn.train import checkpoint
from maskrcnn.train.remote import prepare
from maskrcnn.train.resume import check_agreement, find_start

from .object_store import Store

ADDRESS = "obs://bucket/runs/one"
WORLD = World(torch.device("cpu"))


def save(folder: Path, step: int) -> Path:
    return checkpoint.save(folder / "checkpoints", step, {"model": {"w": torch.ones(step)}}, {}, keep=3)


@pytest.fixture
def uploaded(store, monkeypatch, tmp_path) -> Store:
    """A run with two checkpoints; its machine is gone."""
    folder = staging_folder(at(ADDRESS))
    for step in (2, 4):
        save(folder, step)
    (folder / "config.yml").touch()
    Outgoing(folder, at(ADDRESS)).push()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "another machine"))
    return store


def start(out: str | Path, resume: str | None) -> tuple[Path, int]:
    """The folder on disk, and the step that a run goes on from."""
    folder, _, resume = prepare(out, resume, WORLD, pytest.fail)
    found = find_start(folder, resume, lambda note: None)
    return folder, 0 if found is None else found.step


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_new_address_begins_afresh(resume):
    assert start(ADDRESS, resume) == (staging_folder(at(ADDRESS)), 0)


@pytest.mark.usefixtures("uploaded")
@pytest.mark.parametrize("resume", ["auto", ADDRESS, f"{ADDRESS}/", f"{ADDRESS}/checkpoints/step-4"])
def test_a_run_goes_on_by_its_address(resume):
    assert start(ADDRESS, resume) == (staging_folder(at(ADDRESS)), 4)


@pytest.mark.usefixtures("uploaded")
@pytest.mark.parametrize(("resume", "step"), [(ADDRESS, 4), (f"{ADDRESS}/checkpoints/step-2", 2)])
def test_another_run_begins_where_one_is(resume, step, tmp_path):
    assert start(tmp_path / "branch", resume) == (tmp_path / "branch", step)
    assert start("obs://bucket/runs/branch", resume)[1] == step


@pytest.mark.usefixtures("uploaded")
def test_a_run_in_a_store_is_neither_replaced_nor_mixed_with_another(tmp_path):
    with pytest.raises(ValueError, match=r"^obs://bucket/runs/one already holds a run; go on with it by --resume auto"):
        start(ADDRESS, None)
    save(tmp_path, 6)
    with pytest.raises(ValueError, match="already holds another run"):
        start(ADDRESS, str(tmp_path))


def test_a_run_that_did_not_get_there_is_not_lost(store):
    folder = staging_folder(at(ADDRESS))
    save(folder, 2)
    with pytest.raises(ValueError, match=r"^obs://bucket/runs/one holds no run, but /.* holds one that did not get"):
        start(ADDRESS, None)
    assert start(ADDRESS, "auto") == (folder, 2)
    assert ("bucket", "runs/one/checkpoints/step-2/state.json") in store.things


def test_an_address_that_was_emptied_begins_afresh(uploaded):
    start(ADDRESS, "auto")
    for name in list(uploaded.things):
        del uploaded.things[name]
    assert start(ADDRESS, None)[1] == 0


@pytest.mark.usefixtures("store")
def test_an_address_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"^obs://bucket/nowhere: expected a checkpoint .* holds one, found none at the endpoint http://bucket\.obs",
    ):
        start(tmp_path, "obs://bucket/nowhere")


def test_machines_that_found_different_checkpoints_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(World, "gather_bytes", lambda self, content: [content, b"4", b"2"])
    found = checkpoint.read(save(tmp_path, 4))
    with pytest.raises(ValueError, match=r"^process 2 would go on from step 2, the first one from step 4; give every"):
        check_agreement(WORLD, found)
    monkeypatch.setattr(World, "gather_bytes", lambda self, content: [content, b"0"])
    check_agreement(WORLD, None)
