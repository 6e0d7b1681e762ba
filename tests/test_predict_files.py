"""Files in, drawings and predictions.json out; a stand-in for the network finds one square in each image."""

import json
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn import predict_files
from maskrcnn.config import Recipe
from maskrcnn.data.pages import Page
from maskrcnn.instances import Instances
from maskrcnn.predict import Predictor
from maskrcnn.predict_files import FreeNames, Targets, predict_paths
from maskrcnn.sentences import Note, speaking, typed


class OneSquare(Predictor):
    """Finds a dog in the upper left of each image, and remembers how many images came at once."""

    def __init__(self):
        object.__setattr__(self, "recipe", Recipe(name="x", classes=("cat", "dog"), category_ids=(3, 7)))
        object.__setattr__(self, "seen", [])

    def predict_levels(self, images, score=0.5):
        self.seen.append(len(images))
        box = np.array([[2, 3, 12, 9]], np.float32)
        probabilities = torch.ones(1, 28, 28)
        return [
            Instances(box, np.array([2]), ["dog"], np.float32([0.75]), probabilities, image.shape[:2], (3, 7), image)
            for image in images
        ]


@pytest.fixture
def predictor():
    return OneSquare()


def picture(path, size=(40, 24), value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 20, 30)).save(path)
    return path


def stack(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = [Image.new("RGB", (40, 24), (20 * index, 0, 9)) for index in range(number)]
    first.save(path, save_all=True, append_images=rest)
    return path


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_each_page_is_an_image_with_a_drawing_and_results_of_its_own(predictor, tmp_path):
    path, seen = stack(tmp_path / "in" / "cells.tif", 3), []
    picture(tmp_path / "in" / "a.jfif")
    assert predict_paths(predictor, [tmp_path / "in"], tmp_path / "out", progress=lambda *one: seen.append(one)) == []
    drawings = ["a.jpg", *(f"cells-page-{number}.png" for number in (1, 2, 3))]
    assert written(tmp_path / "out") == [*drawings, "predictions.json"]
    assert [str(page) for page, _ in seen][1:] == [f"{path}, page {number}" for number in (1, 2, 3)]
    assert [found.image[20, 30, 0] for _, found in seen][1:] == [0, 20, 40]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [(entry["image_id"], Path(entry["file_name"]).name, entry.get("page")) for entry in entries] == [
        (1, "a.jfif", None), (2, "cells.tif", 1), (3, "cells.tif", 2), (4, "cells.tif", 3),
    ]  # fmt: skip


def test_a_long_stack_is_worked_on_a_few_pages_at_a_time(predictor, tmp_path):
    predict_paths(predictor, [stack(tmp_path / "a.tif", 11)], tmp_path / "out")
    assert predictor.recipe.evaluate.batch == 1
    assert predictor.seen == [4, 4, 3]


def test_drawings_of_subfolders_keep_their_folders(predictor, tmp_path):
    for name in ("a.png", "day/a.png", "day/two/a.png"):
        picture(tmp_path / "in" / name)
    out = tmp_path / "in" / "drawn"
    for _ in range(2):  # the second time, drawings lie in the folder that is searched
        assert predict_paths(predictor, [tmp_path / "in"], out, recursive=True) == []
    assert written(out) == ["a.png", "day/a.png", "day/two/a.png", "predictions.json"]


def test_a_cut_off_file_a_stack_that_breaks_off_and_a_missing_one_do_not_stop_the_others(predictor, tmp_path):
    whole = stack(tmp_path / "b.tif", 3)
    picture(tmp_path / "a.png")
    whole.write_bytes(whole.read_bytes()[:-2000])
    gone = picture(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"<html>")

    def lose(page, found):
        gone.unlink(missing_ok=True)

    failures = predict_paths(predictor, [tmp_path], tmp_path / "out", progress=lose)
    assert len(failures) >= 2
    assert any("d.png is a web page" in sentence for sentence in failures)
    assert "a.png" in written(tmp_path / "out")


def test_dim_images_are_told_once_with_their_number(predictor, tmp_path):
    for number in range(3):
        Image.fromarray(np.full((4, 6), 4000, np.uint16)).save(tmp_path / f"{number}.png")
    with pytest.warns(Note) as told:
        predict_paths(predictor, [tmp_path], tmp_path / "out")
    (note,) = [str(one.message) for one in told]
    assert note.startswith(f"{tmp_path / '0.png'} uses 6 % of its 16 bits and is read nearly black, as with 2 more;")


def test_a_signal_leaves_what_was_found_under_another_name_until_all_is_found(predictor, tmp_path):
    for name in "abc":
        picture(tmp_path / "in" / f"{name}.png")

    def interrupted(page, result):
        if page.path.name == "b.png":
            raise KeyboardInterrupt

    out = tmp_path / "out"
    said = pytest.warns(Note, match=r"2 objects in 2 images are in .*predictions\.partial\.json")
    with said, pytest.raises(KeyboardInterrupt):
        predict_paths(predictor, [tmp_path / "in"], out, progress=interrupted)
    assert written(out) == ["a.png", "b.png", "predictions.partial.json"]
    part = json.loads((out / "predictions.partial.json").read_text())
    predict_paths(predictor, [tmp_path / "in"], out)
    assert written(out) == ["a.png", "b.png", "c.png", "predictions.json"]
    assert json.loads((out / "predictions.json").read_text())[:2] == part


def test_names_of_drawings_are_free_whatever_their_case_ending_and_folders():
    names = {Path(f"/in/{name}"): PurePosixPath(name) for name in ("a.png", "A.PNG", "a.tga", "a.jpg", "a.png/b.png")}
    targets = Targets(names, Path("/out"))
    found = [targets._targets[path].as_posix() for path in names]
    assert found == ["/out/a-2.png", "/out/A-3.png", "/out/a-4.png", "/out/a.jpg", "/out/a.png/b.png"]


def test_a_page_gets_no_name_that_another_drawing_or_a_source_has(tmp_path):
    stacked, other = tmp_path / "in" / "a.tif", tmp_path / "in" / "a-page-1.png"
    names = {stacked: PurePosixPath("a.tif"), other: PurePosixPath("a-page-1.png")}
    assert Targets(names, tmp_path / "out").of(Page(stacked, 1)).name == "a-page-1-2.png"
    alone, source = {stacked: PurePosixPath("a.tif")}, tmp_path / "in" / "b.gif"
    targets = Targets(alone | {source: PurePosixPath("b.gif")}, tmp_path / "out")
    targets._sources.add((tmp_path / "out" / "a-page-1.png").resolve())
    assert targets.of(Page(stacked, 1)).name == "a-page-1-2.png"
    assert targets.of(Page(stacked, 2)).name == "a-page-2.png"


def test_long_names_are_cut_and_still_differ():
    free = FreeNames()
    first, second = (free.claim(PurePosixPath("ü" * 300 + ".png")) for _ in range(2))
    assert first != second
    assert max(len(name.name.encode()) for name in (first, second)) <= 255


def test_a_drawing_on_a_source_is_refused(predictor, tmp_path):
    with pytest.raises(ValueError, match=r"the drawing of .*a\.png would overwrite .*choose another output folder"):
        predict_paths(predictor, [picture(tmp_path / "a.png")], tmp_path)


def test_images_of_a_tar_are_drawn_below_a_folder_of_its_name(predictor, tmp_path):
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        tar.add(picture(tmp_path / "in" / "a.jpg"), "x/a.jpg")
    assert predict_paths(predictor, [tmp_path / "some.tar"], tmp_path / "out") == []
    assert written(tmp_path / "out") == ["predictions.json", "some/x/a.jpg"]
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert entry["file_name"] == str(tmp_path / "some.tar" / "x" / "a.jpg")


def test_images_are_decoded_ahead_in_the_words_of_the_program_that_runs():
    with speaking({"data.max_pixels": "--max-pixels"}):
        told = predict_files._ahead(((Page(Path("a")), typed("data.max_pixels")) for _ in range(3)), 2)
        assert [one for _, one in told] == ["--max-pixels"] * 3
