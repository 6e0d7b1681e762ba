"""Shares of the work: each file is there whole or not at all, and all joined are what one process writes."""

import json
import random
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.cli.predict import _refuse_contradictions
from maskrcnn.config import Data, Evaluate, Recipe
from maskrcnn.data.sources import find_images
from maskrcnn.files import lock
from maskrcnn.models.mask_rcnn import build
from maskrcnn.predict import load
from maskrcnn.predict_shards import Shard, is_done, join, landing, num_together, parse_shard, predict_shard, share
from maskrcnn.prediction_rows import check_form, read_rows, writer
from maskrcnn.storage.location import at
from maskrcnn.weights import save_weights
from tests.end_to_end.test_formats import MODEL
from tests.storage.conftest import cache, clean, store  # noqa: F401

SIZES = [(40, 60), (60, 40), (50, 50), (33, 64)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network that has learnt nothing, and finds something everywhere."""
    torch.manual_seed(3)
    recipe = Recipe(
        name="tiny",
        classes=("cat", "dog"),
        category_ids=(3, 7),
        model=MODEL,
        data=Data(short_sides=(48,), max_side=64, num_buckets=1),
        evaluate=Evaluate(batch=4),
    )
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    return save_weights(folder, build(recipe.model, 2, 3), recipe, {})


@pytest.fixture(scope="module")
def predictor(weights):
    return load(weights, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve images of several sizes, one of which is broken, and one with pages."""
    folder = tmp_path_factory.mktemp("images")
    numbers = np.random.default_rng(1)
    for index in range(12):
        noise = numbers.integers(0, 256, (*SIZES[index % 4], 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{index:02d}.png")
    (folder / "07.png").write_bytes(b"no image")
    first, second = Image.new("RGB", (40, 24), (9, 8, 7)), Image.new("RGB", (40, 24), (200, 8, 7))
    first.save(folder / "11.png.tif", save_all=True, append_images=[second])
    return folder


@pytest.fixture(scope="module")
def whole(predictor, images, tmp_path_factory):
    """What one process writes."""
    place = tmp_path_factory.mktemp("whole")
    predict_shard(predictor, [images], place, Shard(0, 1), score=0.0)
    return (place / "predictions-00000-of-00001.jsonl").read_bytes()


def test_a_line_names_file_page_size_and_objects_or_the_error(whole, images):
    rows = [json.loads(line) for line in whole.splitlines()]
    assert len(rows) == 14
    assert (rows[0]["file"], rows[0]["height"], rows[0]["width"]) == (str(images / "00.png"), 40, 60)
    pages = [(Path(row["file"]).name, row["page"]) for row in rows if "page" in row]
    assert pages == [("11.png.tif", 1), ("11.png.tif", 2)]
    broken = next(row for row in rows if "error" in row)
    assert broken.keys() == {"file", "error"}
    assert broken["file"] in broken["error"]
    thing = rows[0]["objects"][0]
    assert thing.keys() == {"category", "category_id", "bbox", "score", "segmentation"}
    assert (thing["category"], thing["category_id"]) in {("cat", 3), ("dog", 7)}
    assert thing["segmentation"]["size"] == [40, 60]


@pytest.mark.parametrize("total", [3, 10])
def test_all_shards_joined_are_what_one_process_writes(predictor, images, whole, tmp_path, total):
    done = [predict_shard(predictor, [images], tmp_path, Shard(index, total), score=0.0) for index in range(total)]
    assert (sum(one.num_images for one in done), sum(len(one.failures) for one in done)) == (14, 1)
    assert join([images], tmp_path) == ("predictions.jsonl", total)
    assert (tmp_path / "predictions.jsonl").read_bytes() == whole
    files = sorted(tmp_path.glob("predictions-*"))
    assert b"".join(file.read_bytes() for file in files) == whole


@pytest.mark.parametrize("total", [1, 2, 7, 100, 5000, 40_000])
@pytest.mark.parametrize("number", [1, 3, 10, 4099, 1_000_003])
def test_shares_are_whole_groups_that_follow_one_another(number, total):
    parts = [share(number, Shard(index, total)) for index in range(total)]
    assert (parts[0].start, parts[-1].stop) == (0, number)
    assert all(one.stop == other.start for one, other in pairwise(parts))
    assert all(part.start % num_together(number) == 0 for part in parts if part.start < number)


def test_a_group_of_several_images_gives_the_same_in_any_division(predictor, images, tmp_path, monkeypatch):
    monkeypatch.setattr("maskrcnn.predict_shards.GROUPS", 4)  # three files share batches
    for total in (1, 4):
        for index in range(total):
            predict_shard(predictor, [images], tmp_path / str(total), Shard(index, total), score=0.0)
        join([images], tmp_path / str(total))
    one, other = ((tmp_path / name / "predictions.jsonl").read_bytes() for name in ("1", "4"))
    assert one == other


def test_a_process_that_ends_in_the_middle_leaves_no_file(predictor, images, tmp_path, monkeypatch):
    def stop(self, images, score=0.5):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(predictor), "predict_levels", stop)
        with pytest.raises(KeyboardInterrupt):
            predict_shard(predictor, [images], tmp_path, Shard(0, 2))
    assert list(tmp_path.iterdir()) == []
    assert not is_done(tmp_path, Shard(0, 2), "jsonl")


def test_what_a_killed_process_had_begun_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    left, living = tmp_path / ".a.jsonl.1.part", tmp_path / ".a.jsonl.2.part"
    left.write_bytes(b"half")
    with living.open("wb") as stream:
        assert lock(stream)
        with landing(tmp_path, "a.jsonl") as out:
            out.write(b"whole")
        assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "a.jsonl"]


def test_a_missing_shard_a_second_division_and_other_images_are_refused(predictor, images, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no shards of predictions"):
        join([images], tmp_path)
    for index in (0, 2):
        predict_shard(predictor, [images], tmp_path, Shard(index, 4))
    with pytest.raises(FileNotFoundError, match=r"lacks --shard 1/4, --shard 3/4 of 4; repeat them"):
        join([images], tmp_path)
    for index in (1, 3):
        predict_shard(predictor, [images / "0*.png"], tmp_path, Shard(index, 4))
    with pytest.raises(ValueError, match=r"00001-of-00004\.jsonl is not of the images that the sources hold"):
        join([images], tmp_path)
    predict_shard(predictor, [images], tmp_path, Shard(0, 3))
    with pytest.raises(ValueError, match="holds shards of 3, 4; keep those of one division"):
        join([images], tmp_path)
    assert not (tmp_path / "predictions.jsonl").exists()


@pytest.mark.parametrize("text", ["3", "10/10", "-1/4", "1/0", "a/b", "1/4/2", ""])
def test_a_share_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected --shard I/N with I from 0 to N - 1"):
        parse_shard(text)


def test_drawings_are_made_on_request_and_under_the_names_of_their_images(predictor, images, tmp_path):
    predict_shard(predictor, [images], tmp_path, Shard(0, 10), draw=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00.png", Shard(0, 10).name("jsonl")]
    with pytest.raises(ValueError, match="--draw writes to a folder on this machine"):
        predict_shard(predictor, [images], at("obs://bucket/out"), Shard(0, 10), draw=True)


def test_a_store_gets_the_same_file_whole_or_not_at_all(predictor, images, whole, store):  # noqa: F811
    place = at("obs://bucket/out")
    for index in range(2):
        predict_shard(predictor, [images], place, Shard(index, 2), score=0.0)
        assert is_done(place, Shard(index, 2), "jsonl")
    assert join([images], place) == ("predictions.jsonl", 2)
    assert bytes(store.things["bucket", "out/predictions.jsonl"].content) == whole
    with suppress(RuntimeError), landing(place, "x.jsonl") as stream:
        stream.write(b"half")
        raise RuntimeError
    assert ("bucket", "out/x.jsonl") not in store.things


def put_tar(path, folder):
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, f"in/{file.name}")
        header = tarfile.TarInfo("in/notes.txt")
        tar.addfile(header, BytesIO())
    return path


@pytest.mark.parametrize("name", ["x-0.tar", "x-{0..0}.tar", "x-*.tar"])
def test_images_are_predicted_straight_from_a_tar(predictor, images, whole, tmp_path, name):
    put_tar(tmp_path / "x-0.tar", images)
    predict_shard(predictor, [tmp_path / name], tmp_path / "out", Shard(0, 1), score=0.0)
    rows = [json.loads(line) for line in (tmp_path / "out/predictions-00000-of-00001.jsonl").read_bytes().splitlines()]
    assert rows[0]["file"] == str(tmp_path / "x-0.tar/in/00.png")
    assert [row.get("objects") for row in rows] == [json.loads(line).get("objects") for line in whole.splitlines()]


@pytest.mark.parametrize("name", ["x-0.tar", "x-*.tar", "x-{0..0}.tar"])
def test_images_of_a_tar_in_a_store_are_named_by_their_address(predictor, images, store, tmp_path, name):  # noqa: F811
    store.put("tars/x-0.tar", put_tar(tmp_path / "x-0.tar", images).read_bytes())
    found = find_images([f"obs://bucket/tars/{name}"])
    assert len(found) == 13
    assert str(next(iter(found))) == "obs://bucket/tars/x-0.tar/in/00.png"
    done = predict_shard(predictor, [f"obs://bucket/tars/{name}"], tmp_path / "out", Shard(0, 9), score=0.0)
    assert (done.num_images, done.failures) == (1, [])


def test_a_tar_without_images_and_a_range_with_a_gap_are_told(tmp_path):
    (tmp_path / "e").mkdir()
    put_tar(tmp_path / "x-1.tar", tmp_path / "e")
    with pytest.raises(FileNotFoundError, match="no images at"):
        find_images([tmp_path / "x-1.tar"])
    with pytest.raises(FileNotFoundError, match=r"names x-2\.tar, which is missing"):
        find_images([tmp_path / "x-{1..2}.tar"])


def test_parquet_holds_the_same_rows(whole, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'maskrcnn[parquet]'")
    rows = [json.loads(line) for line in whole.splitlines()]
    with (tmp_path / "a.parquet").open("wb") as stream, writer(stream, "parquet") as write:
        for row in rows:
            write(row)
    with (tmp_path / "a.parquet").open("rb") as stream:
        assert list(read_rows(stream, "parquet")) == rows


def test_parquet_without_its_package_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    check_form("jsonl")
    with pytest.raises(ValueError, match=r"needs the package pyarrow: pip install 'maskrcnn\[parquet\]'"):
        check_form("parquet")


def test_a_line_without_an_end_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"file": "a"}')
    with (tmp_path / "a.jsonl").open("rb") as stream, pytest.raises(ValueError, match="expected whole lines of JSON"):
        list(read_rows(stream, "jsonl"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("0/2", None, False, True, None), "--join joins what --shard wrote"),
        (("0/2", None, False, False, "coco"), "--to coco writes one data set"),
        ((None, None, True, False, None), "--draw has no effect without --shard"),
        ((None, "jsonl", False, False, None), "--format jsonl has no effect without --shard"),
    ],
)
def test_options_without_effect_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        _refuse_contradictions(*options)


def test_the_command_says_what_it_wrote_and_that_it_is_done(weights, images, tmp_path, capsys):
    from maskrcnn.cli import main

    def run(*words):
        with pytest.raises(SystemExit) as end:
            main(["predict", str(weights), str(images), "--out", str(tmp_path), *words])
        return end.value.code, capsys.readouterr().out.splitlines()

    code, told = run("--shard", "1/3", "--score", "0", "--device", "cpu")
    assert code == 0
    assert "1 of them could not be read and have a line that says why; written to" in told[-1]
    code, told = run("--shard", "1/3")
    assert (code, "shard 1/3 is done" in told[0]) == (0, True)
    assert run("--join")[0] == 2
    assert run("--shard", "0/3")[0] == run("--shard", "2/3")[0] == 0
    code, told = run("--join")
    assert (code, told) == (0, [f"3 shards joined, in order: {tmp_path / 'predictions.jsonl'}"])


@pytest.mark.exhaustive
def test_ten_processes_of_which_three_are_killed_and_repeated_give_one_result(weights, images, tmp_path):
    command = [sys.executable, "-m", "maskrcnn", "predict", weights, images, "--out", tmp_path, "--score", "0"]
    command = [*map(str, command), "--device", "cpu", "--precision", "fp32"]

    def begin(index):
        return subprocess.Popen([*command, "--shard", f"{index}/10"], stdout=subprocess.DEVNULL)

    dice = random.Random(time.time_ns())
    for start in (0, 5):  # five at once
        tasks = {index: begin(index) for index in range(start, start + 5)}
        for index in dice.sample(sorted(tasks), 2 if start else 1):
            time.sleep(dice.uniform(0.5, 3.0))
            tasks[index].kill()
        for task in tasks.values():
            task.wait()
    for index in range(10):
        assert begin(index).wait() == 0
    assert subprocess.run([*command, "--join"]).returncode == 0
    alone = [one if one != str(tmp_path) else str(tmp_path / "alone") for one in command]
    assert subprocess.run([*alone, "--shard", "0/1"]).returncode == 0
    expected = (tmp_path / "alone/predictions-00000-of-00001.jsonl").read_bytes()
    assert (tmp_path / "predictions.jsonl").read_bytes() == expected
    assert list(tmp_path.glob(".*")) == []
