"""Repaired copies: what was wrong is gone, what was right is as it was."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.faults import Kind, Severity
from maskrcnn.data.formats import coco
from maskrcnn.data.health import boxes, classes, copies, images, objects
from maskrcnn.data.health.check import Health, entries
from maskrcnn.data.health.findings import Finding
from maskrcnn.data.health.repaired_copy import write_repaired


@pytest.fixture
def fix(clean, check, tmp_path):
    """Writes a repaired copy; gives its training split, its validation split, the faults before and after."""

    def run(**options):
        health = clean.check(**options)
        lines = write_repaired(health, tmp_path / "copy")
        assert (tmp_path / "copy" / "repairs.txt").read_text().splitlines() == lines
        train, val = (
            coco.read(*coco.find_split(tmp_path / "copy", f"{part}2017", f"annotations/instances_{part}2017.json"))
            for part in ("train", "val")
        )
        before, after = (
            {one.kind: one.count for one in entries(found)} for found in (health, check(tmp_path / "copy", **options))
        )
        assert not any(kind.severity is Severity.REFUSED for kind in after)
        assert not [kind.name for kind in before.keys() & after.keys() if kind.repair]
        return train, val, before, after

    return run


def change(one, box, ring, **fields):
    one |= {"bbox": box, "segmentation": [ring] if ring else [], **fields}


def box_of(data, id):
    return data.boxes_xywh()[data.annotation_ids.tolist().index(id)].tolist()


def test_nothing_changes_in_a_clean_data_set(clean, fix):
    train, val, before, after = fix()
    assert before == after == {}
    source = coco.read(clean.train.file, clean.train.folder)
    for name in ("image_ids", "sizes", "boxes", "labels", "annotation_ids", "areas", "flags"):
        assert np.array_equal(getattr(train, name), getattr(source, name))
    assert np.array_equal(train.rings.points, source.rings.points)
    assert (train.images / "3.png").read_bytes() == (clean.train.folder / "3.png").read_bytes()
    assert val.category_names == ("cat", "cup")


@pytest.mark.parametrize("kept", [0, 1])
def test_outlines_too_short_are_told_as_gone(kept, clean, fix, tmp_path):
    row = clean.train.annotations[0]
    row["segmentation"] = [*row["segmentation"][:kept], [1, 2, 3, 4]]
    _, _, before, after = fix()
    assert (before[objects.SHORT], objects.SHORT in after) == (1, False)
    assert "1 object has an outline of fewer than three points" in (tmp_path / "copy/repairs.txt").read_text()


def test_broken_and_missing_images_are_left_out(clean, fix):
    (clean.train.folder / "4.png").unlink()
    (clean.train.folder / "5.png").write_bytes(b"<html>")
    (clean.train.folder / "6.png").write_bytes((clean.train.folder / "6.png").read_bytes()[:2000])
    train, *_ = fix()
    assert train.image_ids.tolist() == [1, 2, 3, 7, 8, 9, 10, 11]
    assert len(train.labels) == 16


def test_sizes_are_those_of_the_files_where_objects_fit(clean, fix):
    clean.train.images[0] |= {"height": 60, "width": 40}
    clean.train.images[1] |= {"height": 80, "width": 120}
    clean.train.images[2] |= {"height": 80, "width": 120}
    change(clean.train.annotations[4], [50, 50, 40, 20], [50, 50, 90, 50, 90, 70, 50, 70])
    train, _, before, _ = fix()
    assert (before[images.SWAPPED], before[images.DIFFERS]) == (1, 2)
    assert train.image_ids.tolist() == [1, 2, *range(4, 12)]
    assert train.sizes[:2].tolist() == [[40, 60], [40, 60]]


def test_one_object_drawn_upright_makes_all_turned_images_upright(clean, fix):
    turned = Image.Exif()
    turned[0x0112] = 6
    for one in clean.train.images[:2]:
        one["file_name"] = f"{one['id']}.jpg"
        clean.noise(50 + one["id"]).save(clean.train.folder / one["file_name"], exif=turned)
        (clean.train.folder / f"{one['id']}.png").unlink()
    change(clean.train.annotations[0], [5, 30, 20, 25], [5, 30, 25, 30, 25, 55, 5, 55], area=500)
    train, _, before, after = fix()
    assert (before[images.TURNED], before[images.FITS_UPRIGHT]) == (2, 1)
    assert train.sizes[:3].tolist() == [[60, 40], [60, 40], [40, 60]]
    assert after == {}


def test_boxes_come_from_outlines(clean, fix):
    rows = clean.train.annotations
    rows[0]["bbox"] = [35, 4, 20, 10]
    rows[2]["bbox"] = [5, 4, 25, 14]
    rows[4]["bbox"] = [70, 4, 20, 10]
    change(rows[6], [30, 10, 50, 30], None, area=400)  # corners, and no outline
    train, _, before, _ = fix()
    assert [before[kind] for kind in (boxes.AWAY, boxes.CORNERS, objects.OUTSIDE)] == [1, 2, 1]
    assert [box_of(train, id) for id in (10, 20, 30)] == [[5, 4, 20, 10]] * 3
    assert box_of(train, 40) == [30, 10, 20, 20]


def test_boxes_stay_where_outlines_are_wrong_throughout(clean, fix):
    rows = [*clean.train.annotations, *clean.val.annotations]
    change(rows[0], [40, 4, 20, 10], [40, 4, 60, 4, 60, 14, 40, 14])
    for one in rows:
        ring = np.array(one["segmentation"][0]).reshape(-1, 2)
        change(one, one["bbox"], ring[:, ::-1].ravel().tolist())
    train, val, before, after = fix()
    assert before[boxes.EXCHANGED] == len(rows) == after[boxes.EXCHANGED]
    assert (box_of(train, 10), box_of(val, 1011)) == ([40, 4, 20, 10], [26, 15, 12, 20])
    assert train.outline(0).points.max() == 60, "not cut to 40 pixels of height"


def test_boxes_stay_where_many_contradict_their_outline(clean, fix):
    for one in clean.train.annotations[:6:2]:
        one["bbox"] = [35, 4, 20, 10]
    train, _, before, after = fix()
    assert before[boxes.CONTRADICTED] == after[boxes.CONTRADICTED] == 3
    assert box_of(train, 10) == [35, 4, 20, 10]


def test_fractions_become_pixels(clean, fix):
    for one in (*clean.train.annotations, *clean.val.annotations):
        one["bbox"] = (np.array(one["bbox"]) / [60, 40, 60, 40]).tolist()
        ring = np.array(one["segmentation"][0]).reshape(-1, 2) / [60, 40]
        change(one, one["bbox"], ring.ravel().tolist())
    train, _, _, after = fix()
    assert np.allclose(train.boxes[:2], [[5, 4, 25, 14], [26, 15, 38, 35]], atol=1e-4)
    assert np.allclose(train.outline(0).points, [[5, 4], [25, 4], [25, 14], [5, 14]], atol=1e-4)
    assert after == {}


def test_outlines_alone_that_are_fractions_become_pixels(clean, fix):
    for one in (*clean.train.annotations, *clean.val.annotations):
        ring = np.array(one["segmentation"][0]).reshape(-1, 2) / [60, 40]
        change(one, one["bbox"], ring.ravel().tolist())
    train, _, before, after = fix()
    assert before == {boxes.OUTLINE_FRACTIONS: 26}
    assert box_of(train, 10) == [5, 4, 20, 10]
    assert np.allclose(train.outline(0).points, [[5, 4], [25, 4], [25, 14], [5, 14]], atol=1e-4)
    assert after == {}


def test_objects_are_cut_to_their_image(clean, fix):
    change(clean.train.annotations[0], [50, 4, 20, 10], [50, 4, 70, 4, 70, 14, 50, 14])
    change(clean.train.annotations[2], [30, -10, 20, 20], [30, 10, 40, -10, 50, 10], area=200)
    train, *_ = fix()
    assert (box_of(train, 10), box_of(train, 20)) == ([50, 4, 10, 10], [30, 0, 20, 10])
    assert train.outline(0).points.tolist() == [[50, 4], [60, 4], [60, 14], [50, 14]]
    assert sorted(map(tuple, train.outline(2).points.tolist())) == [(30, 10), (35, 0), (45, 0), (50, 10)]


def test_objects_that_cannot_be_used_are_left_out(clean, fix):
    rows = clean.train.annotations
    change(rows[0], [5, 4, 0, 10], None)
    change(rows[2], [25, 14, -20, -10], None)
    change(rows[4], [70, 4, 20, 10], [70, 4, 90, 4, 90, 14, 70, 14])
    change(rows[6], [5, 4, 0.5, 0.5], [5, 4, 5.5, 4, 5.5, 4.5, 5, 4.5], area=0.25)
    change(rows[8], [5, 4, 20, 10], [5, 4, 25, 14, 15, 9])
    rows.append({**rows[10], "id": 900})
    train, *_ = fix()
    assert set(train.annotation_ids.tolist()) == {one["id"] for one in rows} - {10, 20, 30, 40, 50, 900}


def test_crowd_marks_on_every_object_go_and_far_areas_are_measured(clean, fix):
    for one in clean.train.annotations:
        one["iscrowd"] = 1
    clean.train.annotations[0]["area"] = 9000
    train, *_ = fix()
    assert not train.crowd.any()
    assert train.areas[0] == 200


def test_entries_of_one_file_are_joined_and_copies_go(clean, fix):
    train = clean.train
    train.images.append({**train.images[1], "id": 99})
    train.annotations += [{**train.annotations[2], "id": 901, "image_id": 99}]  # as in the first entry
    train.annotations += [{**train.annotations[0], "id": 902, "image_id": 99, "category_id": 7, "bbox": [30, 4, 20, 9]}]
    train.annotations[-1]["segmentation"] = [[30, 4, 50, 4, 50, 13, 30, 13]]
    (train.folder / "6.png").write_bytes((train.folder / "5.png").read_bytes())
    train.annotations = [one for one in train.annotations if one["id"] != 50]  # 6.png has more objects than 5.png
    (clean.val.folder / "101.png").write_bytes((train.folder / "7.png").read_bytes())
    found, _, before, _ = fix()
    assert [before[kind] for kind in (copies.SAME_FILE, copies.TWIN, copies.TWIN_ACROSS)] == [1, 1, 1]
    assert found.image_ids.tolist() == [1, 2, 3, 4, 6, 8, 9, 10, 11]
    assert found.annotation_ids[found.objects(1)].tolist() == [20, 21, 902]


def test_a_training_split_of_which_validation_has_all_stays(clean, tmp_path):
    for id in range(1, 12):
        (clean.train.folder / f"{id}.png").write_bytes((clean.val.folder / "101.png").read_bytes())
    copy = tmp_path / "copy"
    write_repaired(clean.check(), copy)
    assert len(coco.read(copy / "annotations/instances_train2017.json", copy / "train2017").image_ids) == 1


def test_categories_are_united_by_name(clean, fix):
    clean.train.categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "cup"}, {"id": 8, "name": " "}]
    clean.val.categories = [{"id": 3, "name": "cup"}, {"id": 7, "name": "cat"}, {"id": 9, "name": "cat"}]
    for one in clean.val.annotations:
        one["category_id"] = 3 if one["category_id"] == 7 else 9
    train, val, before, _ = fix()
    assert {classes.BLANK, classes.SAME_NAME, classes.OTHER_IDS, classes.OTHER_NAMES} <= before.keys()
    assert train.category_names == val.category_names == ("cat", "cup", "class 8")
    assert train.category_ids == val.category_ids
    assert val.labels.tolist() == [1, 2, 1, 2]


def test_names_are_written_as_the_files_are_called(clean, fix):
    for one in clean.train.images[:2]:
        one["file_name"] = f"images\\{one['file_name']}"
    train, *_ = fix()
    assert train.file_names[:3] == ["1.png", "2.png", "3.png"]


def test_what_a_file_says_besides_is_in_the_copy(clean, fix, tmp_path):
    clean.train.images[0]["license"] = clean.train.images[1]["license"] = 4
    clean.train.categories[1]["supercategory"] = "kitchen"
    (clean.train.folder / "2.png").write_bytes(b"")
    fix()
    content = json.loads((tmp_path / "copy" / "annotations" / "instances_train2017.json").read_text())
    assert [image.get("license") for image in content["images"][:2]] == [4, None]  # of images 1 and 3
    assert {row["name"]: row.get("supercategory") for row in content["categories"]} == {"cat": None, "cup": "kitchen"}


def test_ids_are_numbers_once_those_that_were_none_are_gone(clean, fix):
    clean.train.images.append({**clean.train.images[1], "id": "z"})
    clean.val.images[0]["id"] = "y"
    train, val, *_ = fix()
    assert (train.image_ids.tolist(), train.stated_ids) == (list(range(1, 12)), None)
    assert list(val.stated_ids) == ["y", "102"]


def test_what_was_done_is_listed_for_programs(clean, tmp_path):
    clean.train.annotations[0]["bbox"] = [35, 4, 20, 10]
    write_repaired(clean.check(), tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "repairs.json").read_text()) == [
        {
            "split": "train",
            "kind": "boxes-beside-outlines",
            "count": 1,
            "done": "given their outline's box",
            "examples": ["annotation 10 of image 1"],
        }
    ]


def test_a_folder_that_holds_something_is_not_written_to(clean):
    with pytest.raises(ValueError, match="is not empty"):
        write_repaired(clean.check(), clean.root)


def test_a_split_of_which_nothing_is_left_is_refused(clean, tmp_path):
    for path in clean.val.folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no image of the val split can be used"):
        write_repaired(clean.check(), tmp_path / "copy")


def test_where_no_split_can_be_read_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="no split could be read"):
        write_repaired(Health({}, {"train": [], "val": []}), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_lines_that_could_not_be_read_are_told_as_gone(check, tmp_path):
    source = tmp_path / "yolo"
    (source / "images").mkdir(parents=True)
    (source / "labels").mkdir()
    Image.new("RGB", (60, 40)).save(source / "images" / "1.png")
    (source / "labels" / "1.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n0 0.1\n7 2 3 4 5 6 7\n")
    lines = write_repaired(check(source), tmp_path / "copy")
    assert [line for line in lines if "left out" in line] == [
        "train: 1 line cannot be read: 1.txt line 2: they are left out",
        "train: 1 line is not in 0..1: 1.txt line 3: they are left out",
    ]


def test_what_reading_refuses_and_nobody_repairs_is_told(clean, tmp_path):
    health = clean.check()
    kind = Kind("odd", "files", Severity.REFUSED, "cannot be understood")
    read = {**health.read, "train": [*health.read.get("train", []), Finding(kind, 1, ["a.txt"])]}
    lines = write_repaired(replace(health, read=read), tmp_path / "copy")
    assert any(line.startswith("train: 1 file cannot be understood: a.txt: not repaired") for line in lines)
