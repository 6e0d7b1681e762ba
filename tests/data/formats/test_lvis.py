import json
from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.data.classes import choose_classes
from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.formats import coco_folders, lvis
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.source import Folder
from tests.data.formats.raster_data import add_mask, draw_data, draw_ids, pixels_of, put_image, read_all

HOST = "http://images.cocodataset.org"
CATEGORIES = [
    {"id": 3, "name": "aerosol_can", "synset": "aerosol.n.02", "frequency": "c", "def": "a can", "image_count": 64},
    {"id": 7, "name": "zebra", "frequency": "f"},
    {"id": 9, "name": "yak", "frequency": "r"},
]
BOTH = ["animal=zebra", "animal=yak"]


def image(id, name, negative=(), partly=()):
    return {
        "id": id,
        "coco_url": f"{HOST}/{name}",
        "height": 20,
        "width": 30,
        "neg_category_ids": list(negative),
        "not_exhaustive_category_ids": list(partly),
    }


def annotation(id, image_id, category_id):
    outline = [[1, 2, 9, 2, 9, 8, 1, 8]]
    return {
        "id": id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [1, 2, 8, 6],
        "area": 48,
        "segmentation": outline,
    }


def put_lvis(root):
    """Images of both of COCO's splits in one file, as LVIS's validation has them."""
    images = [image(5, "train2017/1.jpg", [9], [7]), image(6, "val2017/1.jpg")]
    content = {"info": {}, "annotations": [annotation(1, 5, 7), annotation(2, 6, 3)], "images": images}
    (root / "lvis").mkdir(parents=True)
    (root / "lvis/lvis_v1_val.json").write_text(json.dumps({**content, "licenses": [], "categories": CATEGORIES}))
    for seed, one in enumerate(images):
        put_image(root / one["coco_url"].removeprefix(f"{HOST}/"), seed=seed)


def test_images_are_found_in_the_folders_of_their_addresses(tmp_path):
    put_lvis(tmp_path)
    (source,) = lvis.find(Folder(tmp_path))
    assert (source.part, source.images, coco_folders.find(Folder(tmp_path))) == ("val", tmp_path, [])
    data = lvis.read(source, Faults())
    assert (list(data.file_names), data.image_ids.tolist()) == (["train2017/1.jpg", "val2017/1.jpg"], [5, 6])
    assert [data.category_names[label - 1] for label in data.labels] == ["zebra", "aerosol_can"]


def test_images_that_are_missing_are_named_and_left_out(tmp_path):
    put_lvis(tmp_path)
    (tmp_path / "val2017/1.jpg").rename(tmp_path / "val2017/2.jpg")
    (source,) = lvis.find(Folder(tmp_path))
    faults = Faults()
    data = lvis.read(source, faults)
    assert (data.image_ids.tolist(), len(data.labels)) == ([5], 1)
    with pytest.raises(ValueError, match=r"val2017/1.jpg"):
        faults.refuse(source.labels)
    (tmp_path / "train2017/1.jpg").unlink()
    with pytest.raises(ValueError, match="none of its 2 images"):
        lvis.read(source, Faults())


def test_an_object_with_nan_is_refused_and_the_others_are_read(tmp_path):
    put_lvis(tmp_path)
    path = tmp_path / "lvis/lvis_v1_val.json"
    path.write_text(path.read_text().replace("[[1, 2,", "[[NaN, 2,", 1))
    (source,) = lvis.find(Folder(tmp_path))
    faults = Faults()
    assert len(lvis.read(source, faults).labels) == 1
    assert [fault.kind.name for fault in faults if fault.kind.severity is Severity.REFUSED] == ["malformed-outline"]


def test_names_in_a_code_page_are_read(tmp_path):
    put_lvis(tmp_path)
    path = tmp_path / "lvis/lvis_v1_val.json"
    path.write_bytes(path.read_bytes().replace(b"zebra", b"zebr\xe9"))
    (source,) = lvis.find(Folder(tmp_path))
    assert lvis._extras(source.labels).categories[1]["name"] == "zebré"


def test_what_lvis_says_of_categories_comes_back(tmp_path):
    put_lvis(tmp_path / "from")
    data = read_all(lvis, tmp_path / "from")["val"]
    assert lvis.write({"val": data}, tmp_path / "to") == []
    written = json.loads((tmp_path / "to/lvis_v1_val.json").read_text())
    assert [(one["neg_category_ids"], one["not_exhaustive_category_ids"]) for one in written["images"]] == [
        ([9], [7]),
        ([], []),
    ]
    assert [one["frequency"] for one in written["categories"]] == ["c", "f", "r"]
    assert written["categories"][0]["synset"] == "aerosol.n.02"
    back = read_all(lvis, tmp_path / "to")["val"]
    assert pixels_of(back) == {f"val2017/{name}": masks for name, masks in pixels_of(data).items()}
    assert (back.category_ids, back.category_names) == (data.category_ids, data.category_names)


def test_what_lvis_says_of_a_category_follows_it_under_another_name(tmp_path):
    put_lvis(tmp_path / "from")
    data = read_all(lvis, tmp_path / "from")["val"]
    for classes, negative, partly in ((["can=aerosol_can", "ox=yak"], [9], []), (["can=aerosol_can", *BOTH], [], [7])):
        lvis.write({"val": choose_classes(data, classes)}, tmp_path / "to")
        written = json.loads((tmp_path / "to/lvis_v1_val.json").read_text())
        assert written["categories"][0]["synset"] == "aerosol.n.02"
        row = written["images"][0]
        assert (row["neg_category_ids"], row["not_exhaustive_category_ids"]) == (negative, partly)


def test_another_data_set_is_annotated_in_full(tmp_path):
    data = draw_data(tmp_path / "from")
    assert lvis.write({"train": data}, tmp_path / "to") == []
    written = json.loads((tmp_path / "to/lvis_v1_train.json").read_text())
    assert [one["neg_category_ids"] for one in written["images"]] == [[], [1], [1, 2]]
    assert [(one["frequency"], one["image_count"], one["instance_count"]) for one in written["categories"]] == [
        ("r", 1, 1),
        ("r", 2, 3),
    ]
    assert [one["area"] for one in written["annotations"]] == [(draw_ids() == id).sum() for id in (1, 2, 3)] + [17]
    back = read_all(lvis, tmp_path / "to")["train"]
    assert list(pixels_of(back).values()) == list(pixels_of(data).values())


def test_a_crowd_region_leaves_its_category_not_exhaustive(tmp_path):
    put_image(tmp_path / "images/a.png")
    builder = Builder(tmp_path / "x", tmp_path / "images", Faults(), ["cat", "dog"])
    builder.add_image("a.png", (20, 30))
    add_mask(builder, 0, "dog", np.ones((20, 30)), crowd=True)
    told = lvis.write({"": builder.dataset()}, tmp_path / "to")
    assert told == ["1 crowd region is left out; its category is not exhaustively annotated in its image"]
    written = json.loads((tmp_path / "to/lvis_v1.json").read_text())
    assert (written["images"][0]["not_exhaustive_category_ids"], written["annotations"]) == ([2], [])


def test_keypoints_are_counted_as_lost_and_areas_are_kept(tmp_path):
    data = draw_data(tmp_path / "before")
    points = np.ones((len(data.labels), 1, 3), np.float32)
    data = replace(data, keypoints=points, keypoint_names=("nose",), areas=np.full(len(data.labels), 9.0))
    said = lvis.write({"": data}, tmp_path / "after")
    assert said == [
        f"{len(points)} objects lose their keypoints, for which LVIS has no place",
        "keypoints of classes have no place in LVIS: nose",
    ]
