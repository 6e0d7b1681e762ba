"""Small valid data sets of every format and of its habits, for others to break."""

import base64
import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from maskrcnn.config import Data
from maskrcnn.data.convert import convert_data
from maskrcnn.data.division import write_split_file
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.shapes import CATEGORIES, generate
from maskrcnn.data.split import divide_all

SIDE = 64
CITY = dict(zip(CATEGORIES.values(), ("person", "car", "bus", "rider", "truck", "train", "bicycle"), strict=False))
"""What the classes of the shapes are called in a data set of Cityscapes, which has others."""
SPLIT, RESULTS = "split.json", "results.json"
"""Files beside a data set that are read on their own."""


def write_sets(root: Path) -> dict[str, Path]:
    """Write all data sets; gives their folders by a name that begins with that of the format."""
    shapes = generate(root / "coco", num_train=3, num_val=2, side=SIDE)
    for form in set(FORMATS) - {"coco", "cityscapes"}:
        list(convert_data(Data(dataset_dir=str(shapes)), form, root / form))
    list(convert_data(Data(dataset_dir=str(_streets(shapes, root / "streets"))), "cityscapes", root / "cityscapes"))
    shutil.rmtree(root / "streets")
    for habit in (_beside, _bare_lines, _polygons, _boxes, _table, _embedded, _old_regions, _divided, _scored):
        habit(root)
    return {path.name: path for path in sorted(root.iterdir())}


def _streets(shapes: Path, dest: Path) -> Path:
    shutil.copytree(shapes, dest)
    for path, content in _jsons(dest):
        for one in content["categories"]:
            one["name"] = CITY.get(one["name"], "motorcycle")
        path.write_text(json.dumps(content))
    return dest


def _jsons(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.rglob("*.json")):
        yield path, json.loads(path.read_bytes())


def _beside(root: Path) -> None:
    """As Roboflow exports it: images and file in one folder, and no validation split."""
    shutil.copytree(root / "coco" / "train2017", root / "coco beside" / "train")
    content = root / "coco" / "annotations" / "instances_train2017.json"
    shutil.copy(content, root / "coco beside" / "train" / "_annotations.coco.json")


def _bare_lines(root: Path) -> None:
    """Without data.yaml."""
    shutil.copytree(root / "yolo", root / "yolo bare")
    (root / "yolo bare" / "data.yaml").unlink()
    (root / "yolo bare" / "classes.txt").write_text("".join(f"{name}\n" for name in CATEGORIES.values()))


def _polygons(root: Path) -> None:
    """Polygons without masks."""
    shutil.copytree(root / "cityscapes", root / "cityscapes polygons")
    for path in (root / "cityscapes polygons").rglob("*_instanceIds.png"):
        with Image.open(path) as mask:
            width, height = mask.size
        shape = {"label": "car", "polygon": [[3, 4], [30, 5], [28, 33], [4, 30]]}
        content = {"imgHeight": height, "imgWidth": width, "objects": [shape, {**shape, "label": "persongroup"}]}
        path.with_name(path.name.replace("instanceIds.png", "polygons.json")).write_text(json.dumps(content))
        path.unlink()


def _boxes(root: Path) -> None:
    """XML files of boxes, with lists."""
    names = []
    for path in sorted((root / "coco" / "train2017").iterdir()):
        names.append(path.stem)
        (root / "voc boxes" / "JPEGImages").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "voc boxes" / "JPEGImages" / path.name)
        (root / "voc boxes" / "Annotations").mkdir(exist_ok=True)
        (root / "voc boxes" / "Annotations" / f"{path.stem}.xml").write_text(
            f"<annotation><filename>{path.name}</filename><size><width>64</width><height>48</height><depth>3</depth>"
            "</size><object><name>cup</name><pose>Left</pose><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30.5</xmax>"
            "<ymax>40</ymax></bndbox></object></annotation>"
        )
    lists = root / "voc boxes" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{name}\n" for name in names[1:]))
    (lists / "val.txt").write_text(f"{names[0]}\n")


def _table(root: Path) -> None:
    """Version 2's export as CSV."""
    shutil.copytree(root / "via", root / "via csv")
    for path, content in _jsons(root / "via csv"):
        with path.with_suffix(".csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["filename", "file_size", "file_attributes", "region_count", "region_id",
                           "region_shape_attributes", "region_attributes"])  # fmt: skip
            for entry in content["_via_img_metadata"].values():
                for number, region in enumerate(entry["regions"]):
                    shape, said = (json.dumps(region[key]) for key in ("shape_attributes", "region_attributes"))
                    rows.writerow([entry["filename"], entry["size"], "{}", len(entry["regions"]), number, shape, said])
        path.unlink()


def _old_regions(root: Path) -> None:
    """Version 1's export: regions by number, and other shapes."""
    shutil.copytree(root / "via", root / "via 1")
    for path, content in _jsons(root / "via 1"):
        entries = content["_via_img_metadata"]
        for entry in entries.values():
            ellipse = {"name": "ellipse", "cx": 20, "cy": 20, "rx": 9, "ry": 4, "theta": 0.4}
            entry["regions"].append({"shape_attributes": ellipse, "region_attributes": {"class": "cup"}})
            entry["regions"] = {str(number): region for number, region in enumerate(entry["regions"])}
        path.write_text(json.dumps(entries))


def _embedded(root: Path) -> None:
    """Images inside their label files, with other shapes."""
    shutil.copytree(root / "labelme", root / "labelme embedded")
    for path, content in _jsons(root / "labelme embedded"):
        image = path.with_name(content["imagePath"])
        content["imageData"] = base64.b64encode(image.read_bytes()).decode()
        circle = {"label": "cup", "points": [[20, 20], [25, 22]], "shape_type": "circle", "group_id": 3, "flags": {}}
        content["shapes"] += [circle, {**circle, "shape_type": "rectangle"}]
        image.unlink()
        path.write_text(json.dumps(content))


def _divided(root: Path) -> None:
    """With a file that says which images are for validation."""
    shutil.copytree(root / "coco beside", root / "split file")
    training, validation = divide_all(Data(dataset_dir=str(root / "split file"), val_share=0.3))
    write_split_file(root / "split file" / SPLIT, training, validation, 0.3, 0)


def _scored(root: Path) -> None:
    """With a file of results, each object found once."""
    shutil.copytree(root / "coco beside", root / "results")
    ((path, content),) = _jsons(root / "results")
    keys = ("image_id", "category_id", "bbox", "segmentation")
    found = [{**{key: one[key] for key in keys}, "score": 0.5} for one in content["annotations"]]
    (path.parent.parent / RESULTS).write_text(json.dumps(found))
