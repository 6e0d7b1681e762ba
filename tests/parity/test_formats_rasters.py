"""Formats of pixels against the tools that define them, where they are installed."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import cityscapes, coco_folders, lvis, voc
from maskrcnn.data.formats.source import Folder
from tests.data.formats.raster_data import draw_data, pixels_of, put_image, read_all


def masks_of(items, labels):
    """The class and the mask of all objects of Datumaro's items, by the stem of their image."""
    return {
        item.id: sorted(
            (labels[one.label].name, np.ascontiguousarray(one.image, bool).tobytes())
            for one in item.annotations
            if hasattr(one, "image")
        )
        for item in items
    }


def by_stem(data):
    return {name.rpartition(".")[0]: masks for name, masks in pixels_of(data).items()}


def test_datumaro_reads_the_voc_that_is_written(tmp_path):
    datumaro = pytest.importorskip("datumaro")
    data = draw_data(tmp_path / "from")
    voc.write({"train": data}, tmp_path / "voc")
    theirs = datumaro.Dataset.import_from(str(tmp_path / "voc"), "voc_instance_segmentation")
    labels = theirs.categories()[datumaro.AnnotationType.label].items
    assert [label.name for label in labels] == ["background", "cat", "dog"]
    assert masks_of(theirs, labels) == by_stem(data)


@pytest.mark.parametrize("form", ["voc", "voc_segmentation", "voc_instance_segmentation"])
@pytest.mark.parametrize("apply_colormap", [True, False])
def test_the_voc_of_datumaro_and_cvat_is_read(form, apply_colormap, tmp_path):
    datumaro = pytest.importorskip("datumaro")
    data = draw_data(tmp_path / "from")
    voc.write({"train": data}, tmp_path / "voc")
    theirs = datumaro.Dataset.import_from(str(tmp_path / "voc"), "voc_instance_segmentation")
    theirs.export(str(tmp_path / "theirs"), form, save_media=True, apply_colormap=apply_colormap)
    back = read_all(voc, tmp_path / "theirs")
    assert list(back) == ["train"]
    assert by_stem(back["train"]) == by_stem(data)


@pytest.mark.parametrize("form", ["coco", "coco_instances"])
def test_the_folders_of_datumaros_coco_are_found(form, tmp_path):
    datumaro = pytest.importorskip("datumaro")
    voc.write({part: draw_data(tmp_path / part) for part in ("train", "val")}, tmp_path / "voc")
    theirs = datumaro.Dataset.import_from(str(tmp_path / "voc"), "voc_instance_segmentation")
    theirs.export(str(tmp_path / "theirs"), form, save_media=True)
    found = coco_folders.find(Folder(tmp_path / "theirs"))
    assert [(one.part, one.labels.name, one.images.relative_to(tmp_path / "theirs").as_posix()) for one in found] == [
        ("train", "instances_train.json", "images/train"),
        ("val", "instances_val.json", "images/val"),
    ]


def test_the_scripts_of_cityscapes_read_what_is_written(tmp_path):
    scripts = pytest.importorskip("cityscapesscripts.evaluation.instances2dict")
    data = draw_data(tmp_path / "from", ("car", "person"))
    cityscapes.write({"val": data}, tmp_path / "to")
    path = tmp_path / "to/gtFine/val/city/a_gtFine_instanceIds.png"
    found = scripts.instances2dict([str(path)])[str(path)]
    areas = {name: sorted(one["pixelCount"] for one in objects) for name, objects in found.items() if objects}
    assert areas.pop("unlabeled") == [20 * 30 - 2 - 68 - 16]
    assert areas == {"car": [2], "person": [16, 68]}


def test_polygons_of_cityscapes_are_drawn_as_by_its_scripts(tmp_path):
    drawn = pytest.importorskip("cityscapesscripts.preparation.json2instanceImg")
    square = np.array([[-1, -0.7], [1, -1], [0.8, 1], [-0.9, 0.8]])
    labels = ("car", "pole", "person", "bicyclegroup", "car")
    shapes = [
        {"label": label, "polygon": (square * (60, 50) + (50 + 45 * at, 100 - 10 * at)).round().tolist()}
        for at, label in enumerate(labels)
    ]
    path = tmp_path / "gtFine/train/a/x_gtFine_polygons.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"imgHeight": 200, "imgWidth": 300, "objects": shapes}))
    put_image(tmp_path / "leftImg8bit/train/a/x_leftImg8bit.png", (200, 300))
    drawn.json2instanceImg(str(path), str(tmp_path / "theirs.png"))
    with Image.open(tmp_path / "theirs.png") as image:
        theirs = np.asarray(image)
    (source,) = cityscapes.find(Folder(tmp_path))
    data = cityscapes.read(source, Faults())
    assert [data.category_names[label - 1] for label in data.labels] == ["bicycle", "person", "car", "car"]
    masks = [np.frombuffer(mask, bool).reshape(200, 300) for _, mask in next(iter(pixels_of(data).values()))]
    for mask in masks:
        id = np.bincount(theirs[mask]).argmax()
        assert (mask & (theirs == id)).sum() / (mask | (theirs == id)).sum() > 0.97


def test_the_api_of_lvis_reads_and_scores_what_is_written(tmp_path, monkeypatch):
    api = pytest.importorskip("lvis")
    monkeypatch.setattr(np, "float", float, raising=False)  # which it uses, and NumPy no longer has
    data = draw_data(tmp_path / "from")
    lvis.write({"val": data}, tmp_path / "to")
    theirs = api.LVIS(str(tmp_path / "to/lvis_v1_val.json"))
    found = [
        (theirs.cats[row["category_id"]]["name"], theirs.ann_to_mask(row).astype(bool).tobytes())
        for row in theirs.load_anns(theirs.get_ann_ids())
    ]
    assert sorted(found) == sorted(one for masks in pixels_of(data).values() for one in masks)
    results = [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"],
            "segmentation": row["segmentation"],
            "score": 1.0,
        }
        for row in theirs.dataset["annotations"]
    ]
    scores = api.LVISEval(theirs, api.LVISResults(theirs, results), "segm")
    scores.run()
    assert scores.results["AP"] == pytest.approx(1)
