"""Files of labelling tools: what we write as others read it, and what others write as we read it."""

import importlib
import json

import hotcoco
import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import coco, cvat, labelme, via, yolo
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.shapes import generate
from maskrcnn.masks import bitmap_from_rings

DRAWN = 0.8
"""Least IoU with a peer that also draws the pixels that an outline, or the bridge to another part, only touches."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = generate(tmp_path_factory.mktemp("data") / "shapes", num_train=10, num_val=0, side=192)
    return coco.read(root / "annotations/instances_train2017.json", root / "train2017")


def peer(name):
    """A package that is not among our own."""
    pytest.importorskip(name.partition(".")[0], reason=f"{name} is not installed", exc_type=ImportError)
    return importlib.import_module(name)


def read_one(form, folder) -> Dataset:
    [source] = form.find(Folder(folder))
    faults = Faults()
    data = form.read(source, faults)
    faults.refuse(source.labels)
    return data


def masks(data, name):
    """(class, mask) of each object of an image."""
    image = [one.rpartition("/")[2] for one in data.file_names].index(name)
    height, width = data.sizes[image].tolist()
    chosen = data.objects(image)
    return [
        (data.category_names[data.labels[index] - 1], bitmap_from_rings(data.outline(index), (0, 0, height, width)))
        for index in range(chosen.start, chosen.stop)
    ]


def least_overlap(ours, theirs):
    """The smallest IoU of one of our masks with the best of theirs of its class."""
    assert len(ours) == len(theirs)
    worst = 1.0
    for label, mask in ours:
        overlaps = [(mask & other).sum() / (mask | other).sum() for name, other in theirs if name == label]
        worst = min(worst, max(overlaps))
    return worst


def names_of(data):
    return [one.rpartition("/")[2] for one in data.file_names]


def of_supervision(found):
    """Name of each image -> (class, mask) of its objects."""
    return {
        str(path).replace("\\", "/").rpartition("/")[2]: [
            (found.classes[number], mask)
            for number, mask in zip(one.class_id, one.mask if one.mask is not None else [], strict=True)
        ]
        for path, _, one in found
    }


def test_labelme_draws_the_masks_that_we_write(shapes, tmp_path):
    package, drawing = peer("labelme._label_file"), peer("labelme.utils.shape")
    labelme.write({"": shapes}, tmp_path)
    for name in names_of(shapes):
        found = package.read_label_file(str((tmp_path / name).with_suffix(".json")))
        size = Image.open(tmp_path / name).size[::-1]
        theirs: dict = {}
        for number, shape in enumerate(found.shapes):
            mask = np.zeros(size, bool)
            if shape["shape_type"] == "mask":
                (left, top), (right, bottom) = np.array(shape["points"]).astype(int)
                mask[top : bottom + 1, left : right + 1] = shape["mask"]
            else:
                mask = drawing.shape_to_mask(size, shape["points"], shape["shape_type"])
            key = shape["label"], shape["group_id"] or -number
            theirs[key] = theirs.get(key, False) | mask
        assert least_overlap(masks(shapes, name), [(key[0], mask) for key, mask in theirs.items()]) > DRAWN


def test_we_read_what_labelme_writes(tmp_path):
    package = peer("labelme._label_file")
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    mask = np.array([[1, 1, 1], [1, 0, 1]], bool)
    shape = {"label": "cat", "points": [[2.5, 1.0], [10.0, 1.0], [10.0, 4.0]], "group_id": 3, "shape_type": "polygon"}
    shape |= {"flags": {"left": True}, "description": "big", "mask": None}
    image_utils = peer("labelme.utils.image")
    masked = {**shape, "shape_type": "mask", "points": [[4, 2], [6, 3]], "group_id": None}
    masked["mask"] = image_utils.img_arr_to_b64(mask.astype(np.uint8))
    package.write_label_file(
        str(tmp_path / "a.json"), shapes=[shape, masked], image_path="a.png", image_height=10, image_width=20
    )
    data = read_one(labelme, tmp_path)
    (_, polygon), (_, window) = masks(data, "a.png")
    assert data.boxes[0].tolist() == [2.5, 1, 10, 4]
    assert polygon.any()
    np.testing.assert_array_equal(window[2:4, 4:7], mask)
    assert json.loads(data.attributes[0]) == {"group_id": 3, "flags": {"left": True}, "description": "big"}


def test_supervision_reads_the_yolo_labels_that_we_write(shapes, tmp_path):
    supervision = peer("supervision")
    yolo.write({"train": shapes}, tmp_path)
    found = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images/train"), str(tmp_path / "labels/train"), str(tmp_path / "data.yaml"), force_masks=True
    )
    theirs = of_supervision(found)
    ours = read_one(yolo, tmp_path)
    assert min(least_overlap(masks(ours, name), theirs[name]) for name in names_of(shapes)) > DRAWN


def test_we_read_the_yolo_labels_that_supervision_writes(shapes, tmp_path):
    supervision = peer("supervision")
    yolo.write({"train": shapes}, tmp_path / "ours")
    root = tmp_path / "theirs"
    found = supervision.DetectionDataset.from_yolo(
        *(str(tmp_path / "ours" / name) for name in ("images/train", "labels/train", "data.yaml")), force_masks=True
    )
    found.as_yolo(*(str(root / name) for name in ("images", "labels", "data.yaml")))
    again = supervision.DetectionDataset.from_yolo(
        *(str(root / name) for name in ("images", "labels", "data.yaml")), force_masks=True
    )
    data = read_one(yolo, root)
    theirs = of_supervision(again)
    assert min(least_overlap(masks(data, name), theirs[name]) for name in names_of(data)) > DRAWN


def test_supervision_reads_the_labelme_files_that_we_write(shapes, tmp_path):
    supervision = peer("supervision")
    labelme.write({"": shapes}, tmp_path)
    theirs = of_supervision(supervision.DetectionDataset.from_labelme(str(tmp_path), str(tmp_path), force_masks=True))
    for name in names_of(shapes):  # it passes over shapes of type `mask`, as which we write holes
        shown = json.loads((tmp_path / name).with_suffix(".json").read_text())["shapes"]
        groups = {(one["label"], one["group_id"] or -number) for number, one in enumerate(shown) if not one["mask"]}
        assert len(theirs[name]) == len(groups)
        whole = [one for one in masks(shapes, name) if any(_iou(one[1], mask) > DRAWN for _, mask in theirs[name])]
        assert len(whole) == len(groups)


def _iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_we_read_the_labelme_files_that_supervision_writes(shapes, tmp_path):
    supervision = peer("supervision")
    labelme.write({"": shapes}, tmp_path / "ours")
    found = supervision.DetectionDataset.from_labelme(*[str(tmp_path / "ours")] * 2, force_masks=True)
    found.as_labelme(*[str(tmp_path / "theirs")] * 2)
    again = supervision.DetectionDataset.from_labelme(*[str(tmp_path / "theirs")] * 2, force_masks=True)
    data = read_one(labelme, tmp_path / "theirs")
    theirs = of_supervision(again)
    assert min(least_overlap(masks(data, name), theirs[name]) for name in names_of(data)) > DRAWN


def test_datumaro_reads_the_cvat_file_that_we_write(shapes, tmp_path):
    datumaro = peer("datumaro")
    cvat.write({"train": shapes}, tmp_path)
    found = datumaro.Dataset.import_from(str(tmp_path), "cvat")
    labels = [one.name for one in found.categories()[datumaro.AnnotationType.label]]
    items = {item.id: item for item in found}
    for name in names_of(shapes):
        theirs: dict = {}
        height, width = Image.open(tmp_path / "images/Train" / name).size[::-1]
        for number, one in enumerate(items[name.rpartition(".")[0]].annotations):
            key = labels[one.label], one.group or -1 - number
            theirs[key] = theirs.get(key, False) | _datumaro_mask(datumaro, one, height, width)
        assert least_overlap(masks(shapes, name), [(key[0], mask) for key, mask in theirs.items()]) == 1


def _datumaro_mask(datumaro, one, height, width):
    if isinstance(one, datumaro.Mask):
        return np.asarray(one.image, bool)
    from pycocotools import mask as referee

    return referee.decode(referee.frPyObjects([list(one.points)], height, width))[..., 0].astype(bool)


def test_we_read_the_cvat_file_that_datumaro_writes(shapes, tmp_path):
    datumaro = peer("datumaro")
    cvat.write({"train": shapes}, tmp_path / "ours")
    found = datumaro.Dataset.import_from(str(tmp_path / "ours"), "cvat")
    found.export(str(tmp_path / "theirs"), "cvat", save_media=True)
    data = read_one(cvat, tmp_path / "theirs")
    assert min(least_overlap(masks(data, name), masks(shapes, name)) for name in names_of(data)) > 0.98


def test_hotcoco_reads_the_polygons_of_cvat_that_we_write(shapes, tmp_path):
    cvat.write({"": shapes}, tmp_path)
    with pytest.warns(UserWarning, match="unsupported shape"):  # masks, as which we write holes
        found = hotcoco.COCO.from_cvat(str(tmp_path / "annotations.xml")).dataset
    expected = [one for image in range(len(shapes.image_ids)) for one in coco.segmentations(shapes, image)]
    ours = sorted(ring for one in _polygons(shapes, expected) for ring in one)
    assert sorted(ring for one in found["annotations"] for ring in one["segmentation"]) == ours


def _polygons(shapes, segmentations):
    """Those that need no run lengths, as polygons: crowd regions without holes are written as such too."""
    for index, one in enumerate(segmentations):
        outline = shapes.outline(index)
        rings = np.split(outline.points, outline.first[1:-1])
        if isinstance(one, list):
            yield one
        elif not _has_hole(rings):
            yield [ring.ravel().tolist() for ring in rings]


def _has_hole(rings):
    return any(
        np.dot(ring[:, 0], np.roll(ring[:, 1], -1)) < np.dot(ring[:, 1], np.roll(ring[:, 0], -1)) for ring in rings
    )


def test_we_read_the_cvat_file_that_hotcoco_writes(shapes, tmp_path):
    coco.write(shapes, tmp_path / "coco.json")
    hotcoco.COCO(str(tmp_path / "coco.json")).to_cvat(str(tmp_path / "annotations.xml"))
    for name in shapes.file_names:
        Image.open(shapes.images / name).save(tmp_path / name)
    data = read_one(cvat, tmp_path)
    assert set(data.category_names) >= set(shapes.category_names)
    whole = sum(
        1 for image in range(len(shapes.image_ids)) for one in coco.segmentations(shapes, image) if len(one) == 1
    )
    again = [mask for name in names_of(shapes) for _, mask in masks(data, name)]
    exact = [
        any((mask == other).all() for _, other in masks(shapes, name))
        for name in names_of(shapes)
        for _, mask in masks(data, name)
    ]
    assert len(again) >= whole
    assert sum(exact) >= whole


def test_globox_reads_the_boxes_that_we_write(shapes, tmp_path):
    globox = peer("globox")
    yolo.write({"train": shapes}, tmp_path)
    found = globox.AnnotationSet.from_yolo_seg(
        tmp_path / "labels/train", image_folder=tmp_path / "images/train", relative=True, image_extension=".png"
    )
    ours = read_one(yolo, tmp_path)
    theirs = sorted(
        (one.image_id, int(box.label), *(round(edge, 3) for edge in (box.xmin, box.ymin, box.xmax, box.ymax)))
        for one in found
        for box in one.boxes
    )
    expected = sorted(
        (name, int(ours.labels[index]) - 1, *(round(float(edge), 3) for edge in ours.boxes[index]))
        for image, name in enumerate(ours.file_names)
        for index in range(ours.objects(image).start, ours.objects(image).stop)
    )
    assert theirs == expected


def test_we_read_the_files_of_via_that_globox_writes(tmp_path):
    globox = peer("globox")
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    box = globox.BoundingBox(label="cat", xmin=2, ymin=1, xmax=10, ymax=4)
    found = globox.AnnotationSet([globox.Annotation("a.png", (20, 10), [box])])
    found.save_via_json(tmp_path / "via.json", image_folder=tmp_path, label_key="class", confidence_key="score")
    data = read_one(via, tmp_path)
    assert data.category_names == ("cat",)
    assert data.stated_boxes.tolist() == [[2, 1, 8, 3]]
