import json
import os

import pytest

from maskrcnn import files, weights
from maskrcnn.config import Recipe
from maskrcnn.storage.location import at
from maskrcnn.storage.outgoing import files_of
from maskrcnn.storage.staging import emptied, staging_folder
from maskrcnn.train import checkpoint, run_lock
from maskrcnn.train.resume import find_start
from maskrcnn.train.run_lock import alone, lock_file

needs_locks = pytest.mark.skipif(not files.HAS_LOCKS, reason="this system has no locks on files")


@needs_locks
def test_a_second_run_learns_whose_folder_it_is(tmp_path):
    out = tmp_path / "run"
    with alone(out):
        told = json.loads((out / ".lock").read_text())
        assert told["pid"] == os.getpid()
        with pytest.raises(ValueError, match="choose another --out") as caught, alone(out):
            pass
    expected = f"{out} is in use by process {os.getpid()} on {told['host']} since {told['since']}, which trains there;"
    assert str(caught.value).startswith(expected)


@needs_locks
@pytest.mark.parametrize("content", [b"", b"[[[[", b'{"pid": "x"}', b"[" * 4096, b'{"pid": 1, "host": "\\u001b[31m"}'])
def test_an_owner_that_cannot_be_read_is_another_process(tmp_path, content):
    (tmp_path / ".lock").write_bytes(content)
    with (tmp_path / ".lock").open("rb") as stream:
        assert files.lock(stream)
        with pytest.raises(ValueError, match="in use by another process, which trains there"), alone(tmp_path):
            pass


def test_a_folder_is_free_again_when_its_run_has_ended_or_failed(tmp_path):
    with pytest.raises(RuntimeError, match="broken"), alone(tmp_path):
        raise RuntimeError("broken")
    with alone(tmp_path):
        pass


def test_only_one_process_of_a_run_takes_it(tmp_path):
    with alone(tmp_path), alone(tmp_path, active=False):
        pass


def test_a_system_without_locks_trains_as_before(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    (tmp_path / "weights/.best.abcd_123").mkdir(parents=True)
    with alone(tmp_path), alone(tmp_path):
        pass
    assert (tmp_path / "weights/.best.abcd_123").is_dir()  # it may be another run's


def test_the_lock_is_no_sign_of_a_run_and_is_not_uploaded(tmp_path):
    with alone(tmp_path):
        assert find_start(tmp_path, None, print) is None
        assert files_of(tmp_path) == []


def test_a_run_that_is_refused_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="nothing"), alone(tmp_path / "new/run"):
        raise ValueError("nothing to resume")
    assert list(tmp_path.iterdir()) == []


@needs_locks
def test_the_folder_of_an_address_may_be_replaced_while_it_is_locked(new_cache):
    location = at("s3://bucket/runs/one")
    with alone(location):
        (emptied(location) / "log.txt").touch()
        with pytest.raises(ValueError, match="s3://bucket/runs/one is in use by process"), alone(location):
            pass
        with alone(at("s3://bucket/runs/two")):
            pass
    assert not lock_file(location).is_relative_to(staging_folder(location).parent)


def test_drafts_of_killed_saves_go_and_nothing_else(tmp_path):
    drafts = ["weights/.best.a1_z0kx9/model.safetensors", "weights/.last.abcdefgh/config.yml"]
    drafts += ["checkpoints/.step-40/model.safetensors", f".metrics.jsonl.{'0f' * 16}.part"]
    drafts += [f"evaluation/.metrics.json.{'0f' * 16}.part"]
    others = ["weights/.best.previous/model.safetensors", "weights/best/model.safetensors", "weights/.bestiary/a"]
    others += ["checkpoints/step-40/state.json", ".step-40/a", ".notes.part", "mine/.best.abcdefgh/a", ".gitignore"]
    for name in [*drafts, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    run_lock.sweep(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(others)
    assert not (tmp_path / "weights/.best.a1_z0kx9").exists()


def test_sweeping_knows_the_names_that_savers_give_to_drafts(tmp_path, monkeypatch):
    class KilledError(BaseException):
        pass

    def kill(*_: object) -> None:
        raise KilledError

    for module in (weights, checkpoint):  # neither clears up, as after SIGKILL
        monkeypatch.setattr(module, "write_tensors", kill)
        monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
    recipe = Recipe(classes=("disc",), category_ids=(1,))
    with pytest.raises(KilledError):
        weights.save_weights(tmp_path / "weights/best", {}, recipe, {})
    with pytest.raises(KilledError):
        checkpoint.save(tmp_path / "checkpoints", 3, {"model": {}}, {}, keep=1)
    monkeypatch.undo()
    with files.atomic_write(tmp_path / "metrics.jsonl") as draft:
        draft.touch()
        run_lock.sweep(tmp_path)
        draft.touch()
        assert list((tmp_path / "weights").iterdir()) == list((tmp_path / "checkpoints").iterdir()) == []
        assert run_lock.DRAFT.fullmatch(draft.name)
