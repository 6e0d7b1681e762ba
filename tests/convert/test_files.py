"""Files of every make give named tensors; files that carry code give a sentence, and nothing runs."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from maskrcnn.convert.files import read_file
from maskrcnn.convert.mindspore_file import write_ckpt

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


def same(tensors):
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("is_zip", [True, False])
def test_pth_files_of_both_formats_hold_tensors_at_the_top_or_under_the_usual_names(tmp_path, wrap, is_zip):
    path = tmp_path / "weights.pth"
    torch.save(wrap(STATE), path, _use_new_zipfile_serialization=is_zip)
    assert same(read_file(path).tensors)


def test_safetensors_and_mindspore_files_hold_tensors_at_the_top(tmp_path):
    save_file(STATE, tmp_path / "weights.safetensors")
    write_ckpt(tmp_path / "weights.ckpt", STATE)
    assert same(read_file(tmp_path / "weights.safetensors").tensors)
    assert same(read_file(tmp_path / "weights.ckpt").tensors)


@pytest.mark.parametrize("name", ["model", "blobs"])
def test_pickles_of_arrays_hold_them_under_the_names_of_detectron(tmp_path, name):
    arrays = {key: tensor.numpy() for key, tensor in STATE.items()}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({name: arrays, "__author__": "somebody"}))
    assert same(read_file(tmp_path / "zoo.pkl").tensors)


def test_names_of_parallel_wrappers_lose_their_prefix(tmp_path):
    torch.save({f"module.{name}": tensor for name, tensor in STATE.items()}, tmp_path / "w.pth")
    assert same(read_file(tmp_path / "w.pth").tensors)


def test_the_hint_is_the_name_and_the_configuration_that_the_file_carries(tmp_path):
    torch.save({"meta": {"cfg": "model = dict(style='caffe')"}, "state_dict": STATE}, tmp_path / "mask-rcnn_r50.pth")
    assert read_file(tmp_path / "mask-rcnn_r50.pth").hint == "mask-rcnn_r50 model = dict(style='caffe')"
    torch.save({"meta": {"CLASSES": ("cat", "dog")}, "state_dict": STATE}, tmp_path / "two.pth")
    torch.save({"meta": {"dataset_meta": {"CLASSES": ["cat"]}}, "state_dict": STATE}, tmp_path / "three.pth")
    assert [read_file(tmp_path / f"{name}.pth").classes for name in ("two", "three")] == [("cat", "dog"), ("cat",)]
    torch.save(STATE, tmp_path / "plain.pth")
    assert read_file(tmp_path / "plain.pth").hint == "plain"


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".ckpt", ".safetensors"])
def test_a_file_that_carries_code_runs_none_whatever_its_ending(tmp_path, suffix):
    ran = tmp_path / "ran"
    content = {"model": {"a": np.zeros(3)}, "also": Attack(ran)}
    path = tmp_path / f"weights{suffix}"
    for protocol in (0, 2, 4):
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(ValueError, match=str(path)):
            read_file(path)
    for is_zip in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
        with pytest.raises(ValueError, match=str(path)):
            read_file(path)
    assert not ran.exists()


def test_archives_with_names_that_leave_their_folder_write_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("../outside", "x")
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(ValueError, match=r"w\.pth"):
        read_file(tmp_path / "w.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"x", b"\x80", b"PK\x03\x04 cut", b"not weights at all" * 100])
def test_a_file_that_is_something_else_gives_a_sentence(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        read_file(path)


def test_a_file_without_tensors_and_one_that_is_missing_are_told(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth holds no named tensors"):
        read_file(tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.pth .* expected \.pth, \.pt, \.pkl, \.ckpt"):
        read_file(tmp_path / "absent.pth")
