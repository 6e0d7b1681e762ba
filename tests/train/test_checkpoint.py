import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from maskrcnn.files import with_digest
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


def rewritten(path: Path, **values: object) -> Path:
    """A checkpoint whose state says something else, with sums that agree."""
    state = json.loads((path / "state.json").read_text())
    del state["sha256"]
    (path / "state.json").write_text(with_digest({**state, **values}))
    return path


def test_of_older_ones_those_that_are_told_are_kept_besides(tmp_path):
    for step in (2, 4, 6, 8):
        checkpoint.save(tmp_path, step, TENSORS, {}, keep=1, besides=[2, 5])
    assert [path.name for path in checkpoint.find(tmp_path)] == ["step-8", "step-2"]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(tmp_path, value, monkeypatch):
    spoilt = {**TENSORS, "model": {"a.weight": torch.tensor([1.0, value])}}
    with pytest.raises(FloatingPointError, match=r"step 5 is not kept: a\.weight of the model hold numbers"):
        checkpoint.save(tmp_path, 5, spoilt, {}, keep=2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "not_finite", lambda tensors: [])
        path = checkpoint.save(tmp_path, 5, spoilt, {}, keep=2)
    with pytest.raises(checkpoint.Damaged, match=r"step-5: model\.safetensors holds numbers that are not finite"):
        checkpoint.read(path)


def test_other_peoples_folders_are_passed_over_and_left_alone(tmp_path):
    (tmp_path / "step-9").mkdir()
    (tmp_path / "step-9/notes.txt").touch()
    (tmp_path / "step-7").write_text("a file")
    (tmp_path / "step-x").mkdir()
    save(tmp_path, 5, keep=1)
    told = []
    assert checkpoint.read_newest(tmp_path, told.append).step == 5
    assert "step-9: state.json cannot be read (No such file or directory); it holds notes.txt" in told[0]
    assert "step-7: state.json cannot be read (Not a directory); a checkpoint is a folder" in told[1]
    save(tmp_path, 6, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-6", "step-7", "step-9", "step-x"]
    with pytest.raises(FileExistsError, match="step-9 is none of this program's checkpoints"):
        save(tmp_path, 9, keep=1)
    assert [path.name for path in (tmp_path / "step-9").iterdir()] == ["notes.txt"]


def test_a_checkpoint_that_may_not_be_read_is_not_passed_over(tmp_path, monkeypatch):
    save(tmp_path, 5)
    save(tmp_path, 6)

    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PermissionError):
        checkpoint.read_newest(tmp_path, print)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "[]", "3", '"text"', "", "{}", '{"sha256": 1}', '{"files": [], "sha256": "a"}'],
)
def test_a_state_of_another_kind_is_damage_with_a_sentence(tmp_path, text):
    path = save(tmp_path, 5)
    (path / "state.json").write_text(text)
    with pytest.raises(checkpoint.Damaged, match=r"step-5: state\.json is n(ot what was written|ested deeper)"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"step": 8}, "step-5 holds step 8; call it step-8 again"),
        ({"step": "5"}, "names no step or no files"),
        ({"files": {}}, "names no step or no files"),
        (
            {"files": {"../step-4/model.safetensors": {}}},
            r"names \.\./step-4/model\.safetensors, which no",
        ),
        ({"files": {"state.json": {}}}, r"names state\.json, which"),
    ],
)
def test_a_state_that_contradicts_its_surroundings_is_damage(tmp_path, values, sentence):
    with pytest.raises(checkpoint.Damaged, match=sentence):
        checkpoint.read(rewritten(save(tmp_path, 5), **values))


def test_a_flipped_bit_or_a_cut_anywhere_is_never_used_in_silence(tmp_path):
    whole = save(tmp_path / "whole", 5)
    choose = random.Random(1)
    for number in range(80):
        copy = Path(shutil.copytree(whole, tmp_path / str(number) / "step-5"))
        file = choose.choice(sorted(copy.iterdir()))
        content = bytearray(file.read_bytes())
        place = choose.randrange(len(content))
        if number < 60:
            content[place] ^= 1 << choose.randrange(8)
        else:
            del content[place:]
        file.write_bytes(content)
        with pytest.raises(checkpoint.Damaged, match="step-5"):
            checkpoint.read(copy)
