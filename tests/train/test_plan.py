from pathlib import Path

import numpy as np
import pytest

from maskrcnn.config import Data, Recipe, Train
from maskrcnn.data.formats import coco
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split
from maskrcnn.train.plan import (
    check_categories,
    num_steps,
    plan_steps,
    read_splits,
    share_out,
    with_classes,
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("data") / "shapes", num_train=3, num_val=2, seed=0)


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "shares", "told"),
    [
        (8, 0, 1, (1, 1, 8, 8), "1 x 1 x 8"),
        (8, 0, 2, (2, 1, 4, 4), "2 x 1 x 4"),
        (8, 2, 2, (2, 2, 2, 2), "2 x 2 x 2"),
        (6, 1, 3, (3, 2, 1, 1), "3 x 2 x 1"),
        (8, 0, 3, (3, 1, 3, 2), "3 x 1 x 2 or 3"),
        (12, 5, 1, (1, 3, 4, 4), "1 x 3 x 4"),
        (13, 4, 2, (2, 2, 4, 3), "2 x 2 x 3 or 4"),
    ],
)
def test_a_batch_is_shared_by_processes_and_cut_to_micro_batches(batch, micro, processes, shares, told):
    found = share_out(Train(batch=batch, micro_batch=micro), processes)
    assert (found, str(found)) == (shares, told)


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "sentence"),
    [
        (2, 0, 3, "is 2, fewer images than the 3 processes that share it; set it to 3, or start at most 2$"),
        (8, 1, 3, "have 2 and others 3 images, .* set train.micro_batch to 2, or train.batch to 6 or 9$"),
    ],
)
def test_a_batch_of_which_a_process_would_have_nothing_is_refused(batch, micro, processes, sentence):
    with pytest.raises(ValueError, match=sentence):
        share_out(Train(batch=batch, micro_batch=micro), processes)


def test_the_last_batch_of_an_epoch_counts_and_max_steps_ends_early():
    assert num_steps(Train(batch=4, epochs=3), 9) == (3, 9)
    assert num_steps(Train(batch=4, epochs=3, max_steps=5), 9) == (3, 5)
    assert num_steps(Train(batch=4, epochs=3, max_steps=50), 9) == (3, 9)


def test_an_epoch_of_tiles_is_as_long_as_their_number_with_those_without_objects_that_are_wanted(shapes):
    data = open_split(Data(dataset_dir=str(shapes)), "train")
    tiled = Data(tile=32, short_sides=(32,), max_side=32, tile_empty=0.0)
    recipe = Recipe(data=tiled, train=Train(batch=4, epochs=2))
    plan = plan_steps(recipe, data, share_out(recipe.train, 1))
    with_objects = int((np.diff(plan.data.first_object) > 0).sum())
    assert 3 < with_objects < len(plan.data.image_ids) == len(plan.samples.images)
    assert plan.steps_per_epoch == -(-with_objects // 4)
    assert plan.buckets == [(32, 32)]
    assert plan_steps(Recipe(), data, share_out(Train(batch=3), 1)).data is data


def test_the_recipe_takes_the_classes_of_its_data(shapes):
    data = open_split(Data(dataset_dir=str(shapes)), "train")
    recipe = with_classes(Recipe(), data)
    assert (recipe.classes, recipe.category_ids) == (data.category_names, (1, 3, 4, 8, 9))
    assert with_classes(recipe, data) == recipe


def test_a_recipe_with_other_classes_is_refused(shapes):
    data = open_split(Data(dataset_dir=str(shapes)), "train")
    with pytest.raises(ValueError, match="leave them out to take the annotations'"):
        with_classes(Recipe(classes=("disc",), category_ids=(1,)), data)


def test_validation_must_have_the_same_categories(shapes, tmp_path):
    settings = Data(dataset_dir=str(shapes))
    data = open_split(settings, "train")
    check_categories(open_split(settings, "val"), data)
    file = shapes / "annotations" / "other.json"
    file.write_text((shapes / settings.val_anno_path).read_text().replace('"ring"', '"torus"'))
    other = open_split(Data(dataset_dir=str(shapes), val_anno_path="annotations/other.json"), "val")
    with pytest.raises(ValueError, match=r"must list the same categories; they have .*9 torus, and .*9 ring"):
        check_categories(other, data)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"iscrowd": 1}, r"there is nothing to learn: 1 object: 1 crowd region; set `iscrowd` to 0, if"),
        ({"bbox": [9, 9, 4, 4]}, r"to learn: 1 object: 1 without area in the image; correct their boxes"),
        (None, r"to learn: no image has an object; annotate some"),
    ],
)
def test_data_with_nothing_to_learn_are_refused_after_they_were_described(fields, sentence):
    content = {"images": [{"id": 1, "height": 4, "width": 6}], "categories": [{"id": 1, "name": "a"}]}
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 2], **(fields or {})}
    data, said = coco.parse({**content, "annotations": [row] if fields else []}), []
    with pytest.raises(ValueError, match=sentence):
        read_splits(Recipe(), said.append, lambda settings, split: data)
    assert "there is nothing to learn" in said[0]
    good = coco.parse({**content, "annotations": [{**row, "bbox": [1, 1, 3, 2], "iscrowd": 0}]})
    assert read_splits(Recipe(), said.append, lambda settings, split: good).validation is good
