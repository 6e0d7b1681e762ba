"""Several data sets as one."""

import json
from dataclasses import replace

import numpy as np
from PIL import Image

from maskrcnn.data.formats import coco
from maskrcnn.data.join import join


def part(folder, ids, names, size, box):
    """A data set of one image of some size (height, width) with one object for each name, in a folder of its own."""
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", size[::-1]).save(folder / "images/a.png")
    rows = [
        {"id": id, "image_id": 5, "category_id": k, "bbox": box, "iscrowd": 0, "segmentation": [], "area": 9.0}
        for k, id in enumerate(ids, 1)
    ]
    content = {
        "images": [{"id": 5, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "annotations": rows,
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return coco.read(folder / "a.json", folder / "images")


def test_images_keep_their_files_and_objects_their_classes(tmp_path):
    one = part(tmp_path / "one", [1, 2], ["cat", "dog"], (40, 60), [1, 2, 3, 4])
    two = part(tmp_path / "two", [8], ["dog"], (50, 30), [5, 6, 7, 8])
    whole = join([one, replace(two, known_files=["a_mask.png"])])
    assert whole.images == tmp_path
    assert whole.known_files == ["two/images/a_mask.png"]
    assert list(whole.file_names) == ["one/images/a.png", "two/images/a.png"]
    assert whole.image_ids.tolist() == [1, 2]  # both were 5
    assert whole.annotation_ids.tolist() == [1, 2, 8]
    assert [whole.category_names[label - 1] for label in whole.labels] == ["cat", "dog", "dog"]
    assert whole.first_object.tolist() == [0, 2, 3]
    assert whole.boxes_xywh(slice(2, 3)).tolist() == [[5, 6, 7, 8]]
    np.testing.assert_array_equal(whole.outline(2).points, two.outline(0).points)


def test_one_data_set_stays_as_it_is(tmp_path):
    one = part(tmp_path / "one", [1], ["cat"], (40, 60), [1, 2, 3, 4])
    assert join([one]) is one


def test_images_that_two_data_sets_hold_are_told(tmp_path):
    parts = [part(tmp_path / name, [1, 2], ["cat", "dog"], (40, 60), [1, 2, 3, 4]) for name in ("one", "two", "three")]
    (told,) = join(parts).remarks
    assert told == (
        "2 images have the name, the size and the objects of one in another data set that is joined: "
        f"{tmp_path}/two/images/a.png and {tmp_path}/one/images/a.png and 1 more; is one a copy of the other?"
    )
    other = part(tmp_path / "other", [1, 2], ["cat", "dog"], (40, 60), [1, 2, 3, 5])
    assert join([parts[0], other]).remarks == ()
