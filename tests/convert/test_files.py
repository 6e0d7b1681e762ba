"""Files of every make give named tensors; files that carry code give a sentence, and nothing runs."""

import argparse
import collections
import os
import pickle
import struct
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


def save_zip(path, data, stored=True, extra=()):
    """An archive as torch writes them, around some instructions."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        for name, content in extra:
            archive.writestr(f"archive/{name}", content)
    return path


def save_old(path, data):
    """A file of torch before 1.6, around some instructions."""
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, info)]
    path.write_bytes(b"".join([*parts, data, pickle.dumps([], protocol=2)]))
    return path


def test_a_compressed_archive_is_refused_before_anything_is_inflated(tmp_path):
    path = save_zip(tmp_path / "bomb.pth", pickle.dumps(STATE, protocol=2) + bytes(10**7), stored=False)
    assert path.stat().st_size < 10**5
    with pytest.raises(ValueError, match=r"bomb\.pth is not a file of plain tensors \(a part of it is compressed"):
        read_file(path)


def test_an_archive_whose_parts_lie_on_one_another_is_refused(tmp_path):
    path = save_zip(tmp_path / "w.pth", pickle.dumps({}, protocol=2), extra=[("data/0", bytes(4000)), ("data/1", b"")])
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        first, second = (archive.getinfo(f"archive/data/{i}") for i in range(2))
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(b"archive/data/1"))
    entry = bytearray(content[at:])
    struct.pack_into("<II", entry, 20, first.file_size, first.file_size)
    struct.pack_into("<I", entry, 42, first.header_offset)
    path.write_bytes(content[:at] + entry)
    assert second.file_size == 0
    with pytest.raises(ValueError, match=r"its parts claim more bytes than the [0-9]+ that it has"):
        read_file(path)


@pytest.mark.parametrize("save", [save_zip, save_old])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"}((K\x01K\x02tK\x01u.", "has a key that is neither a number nor text"),
        (b"}q\x01ccollections\nCounter\nh\x01\x85R.", "calls a function with an object that it refers to elsewhere"),
        (b"cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R.", "asks for builtins.bytearray"),
        (b"c__builtin__\nset\n](K\x01e\x85R.", "asks for __builtin__.set"),
        (b"cnumpy.core.multiarray\nscalar\n.", "asks for numpy.core.multiarray.scalar"),
    ],
    ids=["key", "copies", "bytearray", "set", "numpy"],
)
def test_instructions_of_torch_that_could_make_much_of_little_are_refused(tmp_path, save, content, words):
    path = save(tmp_path / "w.pth", b"\x80\x02" + content)
    with pytest.raises(
        ValueError,
        match=rf"w\.pth is not a file of plain tensors: it {words}; nothing of it was run. Where it was made",
    ):
        read_file(path)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_of_torchvisions_training_is_read_with_its_settings(tmp_path, is_zip):
    module = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    sizes = (3, 4)
    content = {
        "model": STATE,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "args": argparse.Namespace(lr=0.1, sizes=[sizes, sizes], device=torch.device("cpu")),
        "epoch": 3,
    }
    path = tmp_path / "model_3.pth"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert same(read_file(path).tensors)
    with pytest.raises(pickle.UnpicklingError):  # whoever loads after us has allowed nothing
        torch.load(path, weights_only=True)


def test_an_archive_that_torch_wrote_without_sums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_file(tmp_path / "w.pth").tensors)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(
    ("extra", "name"),
    [(np.float64(3), r"numpy\.\S*multiarray\.scalar"), (torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear")],
    ids=["numpy", "module"],
)
def test_what_a_file_asks_for_is_named_with_the_way_to_plain_tensors(tmp_path, extra, name, is_zip):
    path = tmp_path / "w.pth"
    torch.save({"model": STATE, "extra": extra}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=rf"w\.pth is not .*: it asks for {name}; nothing of it was run") as caught:
        read_file(path)
    sentence = str(caught.value)
    assert sentence.endswith("Where it was made, save only tensors: torch.save(model.state_dict(), 'weights.pth')")
    assert sentence.isprintable()


@pytest.mark.filterwarnings("ignore:.*TorchScript")
def test_a_program_of_torchscript_is_told_in_a_sentence(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"archive/{name}", pickle.dumps((), protocol=2))
        archive.writestr("archive/version", "3\n")
    with pytest.raises(ValueError, match=r"w\.pt is not a file of plain tensors \(.*TorchScript") as caught:
        read_file(tmp_path / "w.pt")
    assert "False" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_expanded_tensors_are_refused_and_a_few_shared_ones_are_not(tmp_path):
    shared = torch.arange(5000.0)
    torch.save({"a": shared, "b": shared, "c": shared}, tmp_path / "tied.pth")
    assert len(read_file(tmp_path / "tied.pth").tensors) == 3
    torch.save({"a": torch.zeros(1).expand(10000, 10)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: expected tensors of at most 4 times the .* with a they have more"):
        read_file(tmp_path / "w.pth")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(dict.fromkeys("abcdefgh", shared.numpy())))
    with pytest.raises(ValueError, match=r"w\.pkl: expected tensors of at most 4 times the .* with e they have more"):
        read_file(tmp_path / "w.pkl")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (lambda: torch.zeros(2, device="meta"), "one on the device meta"),
        (lambda: torch.eye(2).to_sparse(), "a sparse or nested one"),
        (lambda: torch.eye(2).to_sparse_csr(), "a sparse or nested one"),
        (lambda: torch.nested.nested_tensor([torch.zeros(2)]), "a sparse or nested one"),
        (lambda: torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8), "a quantised one"),
        (lambda: torch.zeros(2, dtype=torch.complex64), r"one of torch\.complex64"),
    ],
    ids=["meta", "sparse", "csr", "nested", "quantised", "complex"],
)
def test_a_tensor_that_is_not_plain_numbers_is_named(tmp_path, tensor, what):
    torch.save({**STATE, "odd": tensor()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"w\.pth: expected odd to be a plain tensor of numbers, received {what}"):
        read_file(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".PTH", ".Pkl", ".CKPT", ".SafeTensors"])
def test_endings_are_read_in_capitals_too(tmp_path, suffix):
    path = tmp_path / f"tv{suffix}"
    if suffix == ".Pkl":
        path.write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in STATE.items()}))
    elif suffix == ".CKPT":
        write_ckpt(path, STATE)
    else:
        (torch.save if suffix == ".PTH" else save_file)(STATE, path)
    assert same(read_file(path).tensors)


EVIL = "\x1b[31mevil\x1b]0;title\x07"


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".ckpt", ".safetensors"])
def test_a_name_with_control_characters_is_refused_in_printable_ones(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({EVIL: np.zeros(2)}))
    else:
        save = {".pth": torch.save, ".safetensors": save_file, ".ckpt": lambda state, at: write_ckpt(at, state)}[suffix]
        save({EVIL: torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"has a tensor named '\\x1b\[31mevil") as caught:
        read_file(path)
    assert str(caught.value).isprintable()


def test_names_of_classes_are_text(tmp_path):
    def classes(meta):
        torch.save({"meta": meta, "state_dict": STATE}, tmp_path / "w.pth")
        return read_file(tmp_path / "w.pth").classes

    assert classes({"CLASSES": ["cat", "猫"]}) == ("cat", "猫")
    nested = "name"
    for _ in range(12):
        nested = (nested, nested)
    assert classes({"CLASSES": [nested]}) == ()
    assert classes({"CLASSES": torch.zeros(2), "dataset_meta": {"classes": ("cat",)}}) == ("cat",)


def test_what_is_not_named_by_text_is_no_tensor_of_a_network(tmp_path):
    torch.save(collections.OrderedDict({**STATE, 7: torch.zeros(2), None: torch.zeros(2)}), tmp_path / "w.pth")
    assert same(read_file(tmp_path / "w.pth").tensors)


@pytest.mark.parametrize("module", ["os", "torch"], ids=["refused by us", "refused by torch"])
def test_what_asks_for_a_name_with_control_characters_is_refused_in_printable_ones(tmp_path, module):
    path = save_zip(tmp_path / "w.pth", b"\x80\x02c" + module.encode() + b"\n\x1b[31mevil\x07\n.")
    with pytest.raises(ValueError, match=rf"it asks for {module}\.\\x1b\[31mevil\\x07; nothing") as caught:
        read_file(path)
    assert str(caught.value).isprintable()
    assert "Where it was made" in str(caught.value)
