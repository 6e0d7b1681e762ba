import json
from pathlib import Path

import pytest
import torch

from maskrcnn.train import checkpoint

TENSORS = {"model": {"a.weight": torch.arange(6.0).reshape(2, 3)}, "optimizer": {"a.weight/step": torch.tensor(3.0)}}


def save(folder: Path, step: int, keep: int = 2) -> Path:
    return checkpoint.save(folder, step, TENSORS, {"recipe": {"sides": (3, 4), "ema": 0.1}}, keep=keep)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_is_read_is_what_was_written(tmp_path):
    path = save(tmp_path, 12)
    found = checkpoint.read(path)
    assert (path.name, found.step, found.state["recipe"]) == ("step-12", 12, {"sides": [3, 4], "ema": 0.1})
    assert {group: list(tensors) for group, tensors in found.tensors.items()} == {
        "model": ["a.weight"],
        "optimizer": ["a.weight/step"],
    }
    assert torch.equal(found.tensors["model"]["a.weight"], TENSORS["model"]["a.weight"])
    assert found.tensors["optimizer"]["a.weight/step"].shape == ()


def test_it_is_made_of_safetensors_and_json_alone(tmp_path):
    assert {file.name for file in save(tmp_path, 1).iterdir()} == {
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    }


def test_the_newest_are_kept_by_number_not_by_name(tmp_path):
    for step in (2, 9, 10, 11):
        save(tmp_path, step)
    assert [path.name for path in checkpoint.find(tmp_path)] == ["step-11", "step-10"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_changed_byte_is_told_and_the_one_before_is_taken(tmp_path, name):
    save(tmp_path, 5)
    damage(save(tmp_path, 6) / name)
    told = []
    found = checkpoint.read_newest(tmp_path, told.append)
    assert found.step == 5
    assert len(told) == 1
    assert f"step-6: {name} is not what was written" in told[0]


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_a_missing_or_cut_file_is_damage(tmp_path, name):
    path = save(tmp_path, 6)
    (path / name).write_bytes((path / name).read_bytes()[:-9])
    with pytest.raises(checkpoint.Damaged, match="step-6"):
        checkpoint.read(path)
    (path / name).unlink()
    with pytest.raises(checkpoint.Damaged, match="step-6"):
        checkpoint.read(path)


def test_a_state_that_somebody_edited_is_damage(tmp_path):
    path = save(tmp_path, 6)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "step": 7}))
    with pytest.raises(checkpoint.Damaged, match=r"state\.json is not what was written"):
        checkpoint.read(path)


def test_a_half_written_folder_is_never_seen_and_is_cleared_away(tmp_path, monkeypatch):
    save(tmp_path, 5)

    def crash(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sync", crash)
        with pytest.raises(OSError, match="disk full"):
            save(tmp_path, 6)
    assert checkpoint.read_newest(tmp_path, print).step == 5
    save(tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-5", "step-7"]


def test_saving_replaces_damaged_steps_at_and_after_it_and_keeps_whole_ones(tmp_path):
    save(tmp_path, 5, keep=1)
    for step in (6, 9):
        (tmp_path / f"step-{step}").mkdir()
    save(tmp_path, 6, keep=1)
    assert [path.name for path in checkpoint.find(tmp_path)] == ["step-6"]
    assert checkpoint.read(tmp_path / "step-6").step == 6


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert checkpoint.read_newest(tmp_path / "checkpoints", print) is None
