"""A full disk is one sentence with path, needed and free bytes; what was there survives, and nothing half-written."""

import errno
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.cli import run_and_exit
from maskrcnn.cli.options import writable
from maskrcnn.config import Data
from maskrcnn.convert.write import WRITERS, _replace
from maskrcnn.data.convert import convert_data
from maskrcnn.data.formats import place
from maskrcnn.data.formats.id_image import save_ids
from maskrcnn.data.shapes.files import generate
from maskrcnn.data.split import open_split
from maskrcnn.evaluate.save import save_metrics
from maskrcnn.files import DiskFull
from maskrcnn.picture import save_picture
from maskrcnn.report.album import write_album
from maskrcnn.storage import download as downloads
from maskrcnn.train import loop
from tests.end_to_end.test_training import tiny

NOISE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


@contextmanager
def files_of_at_most(size):
    resource = pytest.importorskip("resource", reason="a limit for files is a matter of Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def a_disk_of(monkeypatch):
    usage = shutil.disk_usage(".")
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = generate(tmp_path_factory.mktemp("data") / "shapes", num_train=3, num_val=1, side=64)
    for split in ("train", "val"):  # compiles what reads them, while files may be of any size
        open_split(Data(dataset_dir=str(folder)), split)
    return folder


WRITE = {
    "shapes": lambda folder: generate(folder / "new", num_train=2, num_val=1, side=64),
    "numbers of instances": lambda folder: save_ids(NOISE[..., 0].astype(np.int64) * 200, folder / "new.png"),
    "png": lambda folder: save_picture(Image.fromarray(NOISE), folder / "new.png"),
    "jpeg": lambda folder: save_picture(Image.fromarray(NOISE), folder / "new.jpg", 92),
    "metrics": lambda folder: save_metrics(folder / "new", {"bbox": [0.5] * 500}),
    **{
        ending: lambda folder, ending=ending: _replace(
            folder / f"new{ending}", WRITERS[ending], {"a": torch.zeros(1000)}
        )
        for ending in WRITERS
    },
}


@pytest.mark.parametrize("what", WRITE)
def test_what_finds_no_room_is_named_and_leaves_nothing(what, tmp_path):
    with files_of_at_most(1000), pytest.raises(DiskFull, match=rf"^{tmp_path}/new\S* could not be written \(File too"):
        WRITE[what](tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("form", ["yolo", "coco"])
def test_a_data_set_that_finds_no_room_is_not_left_in_part(form, shapes, tmp_path, a_disk_of, monkeypatch):
    a_disk_of(10)
    monkeypatch.setattr(place, "_copied_bytes", lambda data, folder: 1000)
    with pytest.raises(DiskFull, match=rf"^{tmp_path}/new.* 1,000 bytes needed, 10 bytes free"):
        list(convert_data(Data(dataset_dir=str(shapes)), form, tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_room_for_images_that_cannot_be_linked_is_asked_for_first(shapes, tmp_path, a_disk_of, monkeypatch):
    a_disk_of(1000)
    size = sum(path.stat().st_size for path in (shapes / "train2017").iterdir())
    data = open_split(Data(dataset_dir=str(shapes)), "train")
    place.place(data, tmp_path / "same disk")
    monkeypatch.setattr(place, "_copied_bytes", lambda data, folder: size)
    with pytest.raises(DiskFull, match=f"{size:,} bytes needed, 1,000 bytes free"):
        place.place(data, tmp_path / "other disk")
    assert not (tmp_path / "other disk").exists()


def test_images_on_another_disk_are_counted(shapes, tmp_path, monkeypatch):
    data = open_split(Data(dataset_dir=str(shapes)), "train")
    assert place._copied_bytes(data, tmp_path) == 0
    monkeypatch.setattr(place, "_disk", lambda path: -1)
    assert place._copied_bytes(data, tmp_path) == sum(path.stat().st_size for path in (shapes / "train2017").iterdir())


def test_a_drawing_that_finds_no_room_ends_the_page_of_drawings(shapes, tmp_path, a_disk_of):
    data = open_split(Data(dataset_dir=str(shapes)), "train")
    a_disk_of(10)
    with pytest.raises(DiskFull, match=r"pictures/train-000000\S*\.jpg could not .* 10 bytes free"):
        write_album(data, [0, 1], tmp_path, title="shapes", split="train")


def test_a_download_asks_for_room_and_is_not_tried_again(tmp_path, a_disk_of, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path))

    class Answer:
        status, headers, asked = 200, {"Content-Length": "5000"}, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            Answer.asked += 1

    monkeypatch.setattr(downloads, "ask", lambda *_: Answer())
    a_disk_of(10)
    with pytest.raises(DiskFull, match=r"/weights\.pth\.part could not .*: 5,000 bytes needed, 10 bytes free"):
        downloads.download("https://example.org/weights.pth", "weights.pth", say=str)
    assert Answer.asked == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_on_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(DiskFull, match=f"^{tmp_path}/new could not be written"):
        writable(tmp_path / "new")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "labels.txt"), "labels.txt could not be written (No space"),
        (OSError(errno.ENOSPC, "No space left on device"), "what this command writes found no room (No space left on"),
    ],
)
def test_a_full_disk_that_nobody_explained_is_explained_at_the_door(error, told, capsys):
    def command():
        raise error

    with pytest.raises(SystemExit) as end:
        run_and_exit(command)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_a_run_without_room_for_its_checkpoint_says_what_goes_on_and_that_does(shapes, tmp_path):
    recipe, out = tiny(shapes, epochs=1, evaluate_every=0), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        usage = shutil.disk_usage(".")
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(
            DiskFull, match=rf"make room there, then go on with --resume auto --out {re.escape(str(out))}$"
        ):
            loop.run(recipe, out)
    loop.run(recipe, out, "auto")
    assert (out / "report.html").is_file()
