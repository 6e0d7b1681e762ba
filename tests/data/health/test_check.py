"""Each kind of fault: a data set that has it alone is told to have it, how often, and where first."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.formats import coco
from maskrcnn.data.health import boxes, classes, contents, copies, images, objects, survey
from maskrcnn.data.health import check as check_module
from maskrcnn.data.health.check import entries
from maskrcnn.data.shapes import generate
from maskrcnn.storage.location import at

TURNED = Image.Exif()
TURNED[0x0112] = 6
UPSIDE_DOWN = Image.Exif()
UPSIDE_DOWN[0x0112] = 3
EACH = {}
"""Kind -> (what brings it about, how often it then is, the first that has it)."""


def fault(kind, count, first, **options):
    def remember(change):
        EACH[kind] = (change, count, first, options)
        return change

    return remember


def replace_file(split, id, content):
    (split.folder / f"{id}.png").write_bytes(content)


@fault(coco.MISSING_IMAGE, 1, "4.png of image 4")
def remove_a_file(data):
    (data.train.folder / "4.png").unlink()


@fault(survey.EMPTY, 1, "4 (4.png)")
def empty_a_file(data):
    replace_file(data.train, 4, b"")


@fault(survey.PAGE, 2, "4 (4.png)")
def save_web_pages(data):
    replace_file(data.train, 4, b"<!DOCTYPE html><html><body>not found</body></html>")
    replace_file(data.train, 5, b"\n<html></html>")


@fault(survey.POINTER, 1, "102 (102.png)")
def leave_a_pointer(data):
    replace_file(data.val, 102, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


@fault(survey.UNREADABLE, 1, "4 (4.png)")
def write_other_bytes(data):
    replace_file(data.train, 4, bytes(range(1, 200)))


@fault(survey.CUT_OFF, 1, "4 (4.png)")
def cut_a_file(data):
    replace_file(data.train, 4, (data.train.folder / "4.png").read_bytes()[:3000])


@fault(images.SWAPPED, 13, "1 (1.png): stated 60 x 40, is 40 x 60")
def swap_sizes(data):
    for one in (*data.train.images, *data.val.images):
        one["height"], one["width"] = one["width"], one["height"]


@fault(images.DIFFERS, 1, "2 (2.png): stated 80 x 120, is 40 x 60")
def double_a_size(data):
    data.train.images[1] |= {"height": 80, "width": 120}


@fault(images.TURNED, 2, "1 (1.jpg)")
def turn_files(data):
    for one in data.train.images[:2]:
        one["file_name"] = f"{one['id']}.jpg"
        data.noise(50 + one["id"]).save(data.train.folder / one["file_name"], exif=TURNED)
        (data.train.folder / f"{one['id']}.png").unlink()


@fault(images.FITS_UPRIGHT, 1, "1 (1.jpg)", also={images.TURNED, objects.BEYOND, boxes.BEYOND})
def turn_a_file_whose_objects_were_drawn_upright(data):
    turn_files(data)
    data.train.annotations[0] |= {
        "bbox": [5, 30, 20, 25],
        "segmentation": [[5, 30, 25, 30, 25, 55, 5, 55]],
        "area": 500,
    }
    data.train.annotations[1] |= {"bbox": [5, 5, 12, 20], "segmentation": [[5, 5, 17, 25, 5, 25]]}


@fault(images.UNTOLD, 1, "1 (1.jpg)")
def turn_a_file_upside_down(data):
    data.train.images[0]["file_name"] = "1.jpg"
    data.noise(50).save(data.train.folder / "1.jpg", exif=UPSIDE_DOWN)
    (data.train.folder / "1.png").unlink()


@fault(images.MIXED, 2, "1 (1.png): gray")
def mix_bands(data):
    data.noise(50).convert("L").save(data.train.folder / "1.png")
    data.noise(51).convert("RGBA").save(data.train.folder / "2.png")


@fault(images.PAGES, 1, "1 (1.tif)")
def add_pages(data):
    data.train.images[0]["file_name"] = "1.tif"
    (data.train.folder / "1.png").unlink()
    data.noise(50).save(data.train.folder / "1.tif", save_all=True, append_images=[data.noise(51)])


@fault(images.LARGE, 1, "3 (3.png)")
def enlarge_a_file(data):
    data.train.images[2] |= {"height": 400, "width": 300}
    data.noise(50, 400, 300).save(data.train.folder / "3.png")


@fault(images.REDUCED, 1, "3 (3.png)", also={images.LARGE}, max_rowsize=1)
def enlarge_a_file_beyond_what_is_decoded(data):
    data.train.images[2] |= {"height": 700, "width": 600}
    Image.new("L", (600, 700)).convert("RGB").save(data.train.folder / "3.png")


@fault(contents.FEW_LEVELS, 2, "1 (1.png): 6.2 % of the range", also={images.MIXED})
def use_12_bits(data):
    for id in (1, 2):
        values = np.random.default_rng(id).integers(0, 4096, data.size).astype(np.uint16)
        Image.fromarray(values).save(data.train.folder / f"{id}.png")


@fault(contents.BLANK, 2, "1 (1.png)", deep=True)
def paint_files_black(data):
    Image.new("RGB", data.size[::-1]).save(data.train.folder / "1.png")
    Image.new("RGB", data.size[::-1], "white").save(data.train.folder / "2.png")


@fault(copies.SAME_FILE, 1, "99 (5.png) is 5 (5.png)")
def list_a_file_twice(data):
    data.train.images.append({**data.train.images[4], "id": 99})
    data.train.annotations.append({**data.train.annotations[0], "id": 999, "image_id": 99})


@fault(copies.TWIN, 1, "6 (6.png) is 3 (3.png)")
def copy_a_file(data):
    shutil.copy(data.train.folder / "3.png", data.train.folder / "6.png")


@fault(copies.TWIN_ACROSS, 1, "101 (101.png) is 3 (3.png)")
def copy_a_file_to_the_other_split(data):
    shutil.copy(data.train.folder / "3.png", data.val.folder / "101.png")


@fault(copies.NEAR, 1, "6 (6.png) is 3 (3.png)", deep=True)
def save_a_file_darker(data):
    darker(data.train.folder / "3.png").save(data.train.folder / "6.png")


@fault(copies.NEAR_ACROSS, 1, "102 (102.png) is 3 (3.png)", deep=True)
def save_a_file_darker_in_the_other_split(data):
    darker(data.train.folder / "3.png").save(data.val.folder / "102.png")


def darker(path):
    return Image.open(path).point(lambda value: value * 0.9)


@fault(objects.NEGATIVE, 1, "annotation 10 of image 1")
def make_a_box_negative(data):
    data.train.annotations[0] |= {"bbox": [25, 14, -20, -10], "segmentation": []}


@fault(objects.FLAT, 1, "annotation 10 of image 1")
def flatten_a_box(data):
    data.train.annotations[0] |= {"bbox": [5, 4, 0, 10], "segmentation": []}


@fault(objects.OUTSIDE, 1, "annotation 10 of image 1")
def move_an_object_out(data):
    data.train.annotations[0] |= {"bbox": [70, 4, 20, 10], "segmentation": [[70, 4, 90, 4, 90, 14, 70, 14]]}


@fault(boxes.CORNERS, 13, "annotation 10 of image 1")
def write_corners(data):
    for one in (*data.train.annotations, *data.val.annotations):
        if one["category_id"] == 3:
            one["bbox"] = [5, 4, 25, 14]


@fault(boxes.FRACTIONS, 26, "annotation 10 of image 1", also={objects.AREA})
def divide_by_the_size(data):
    for one in (*data.train.annotations, *data.val.annotations):
        one["bbox"] = (np.array(one["bbox"]) / [60, 40, 60, 40]).tolist()
        one["segmentation"] = [
            (np.array(ring).reshape(-1, 2) / [60, 40]).ravel().tolist() for ring in one["segmentation"]
        ]


@fault(boxes.AWAY, 1, "annotation 30 of image 3")
def move_a_box(data):
    data.train.annotations[4]["bbox"] = [35, 4, 20, 10]


@fault(boxes.CONTRADICTED, 3, "annotation 10 of image 1")
def move_three_boxes(data):
    for one in data.train.annotations[:6:2]:
        one["bbox"] = [35, 4, 20, 10]


@fault(boxes.EXCHANGED, 26, "annotation 10 of image 1")
def exchange_x_and_y(data):
    for one in (*data.train.annotations, *data.val.annotations):
        ring = np.array(one["segmentation"][0]).reshape(-1, 2)
        one["segmentation"] = [ring[:, ::-1].ravel().tolist()]


@fault(boxes.OUTLINE_FRACTIONS, 26, "annotation 10 of image 1")
def divide_outlines_by_the_size(data):
    for one in (*data.train.annotations, *data.val.annotations):
        ring = np.array(one["segmentation"][0]).reshape(-1, 2) / [60, 40]
        one["segmentation"] = [ring.ravel().tolist()]


@fault(boxes.BEYOND, 1, "annotation 30 of image 3")
def move_an_object_over_the_edge(data):
    data.train.annotations[4] |= {"bbox": [50, 4, 20, 10], "segmentation": [[50, 4, 70, 4, 70, 14, 50, 14]]}


@fault(objects.BEYOND, 1, "annotation 30 of image 3")
def move_a_corner_over_the_edge(data):
    data.train.annotations[4] |= {"bbox": [40, 4, 20, 10], "segmentation": [[40, 4, 61.8, 4, 61.8, 14, 40, 14]]}


@fault(objects.TINY, 1, "annotation 30 of image 3")
def shrink_an_object(data):
    ring = [9, 4, 9.5, 4, 9.5, 4.5, 9, 4.5]
    data.train.annotations[4] |= {"bbox": [9, 4, 0.5, 0.5], "segmentation": [ring], "area": 0.25}


@fault(objects.SHORT, 1, "annotation 30 of image 3")
def shorten_an_outline(data):
    data.train.annotations[4]["segmentation"].append([5, 4, 9, 9])


@fault(objects.BARE, 1, "annotation 30 of image 3")
def drop_an_outline(data):
    data.train.annotations[4]["segmentation"] = []


@fault(objects.CROSSED, 1, "annotation 30 of image 3")
def cross_an_outline(data):
    data.train.annotations[4] |= {"segmentation": [[5, 4, 25, 14, 25, 4, 5, 14]]}  # its halves cancel out


@fault(objects.THIN, 1, "annotation 30 of image 3")
def flatten_an_outline(data):
    data.train.annotations[4] |= {"segmentation": [[5, 4, 25, 14, 15, 9]]}


@fault(objects.TWICE, 2, "annotation 901 of image 3")
def repeat_objects(data):
    data.train.annotations += [{**data.train.annotations[4], "id": 901}, {**data.train.annotations[5], "id": 902}]


@fault(objects.TWO_CLASSES, 1, "annotation 901 of image 3")
def repeat_an_object_as_another_class(data):
    data.train.annotations.append({**data.train.annotations[4], "id": 901, "category_id": 7})


@fault(objects.AREA, 1, "annotation 30 of image 3")
def state_another_area(data):
    data.train.annotations[4]["area"] = 2400


@fault(objects.ALL_CROWD, 4, "annotation 1010 of image 101", also={classes.NEVER_SCORED})
def mark_all_as_crowd(data):
    for one in data.val.annotations:
        one["iscrowd"] = 1


@fault(objects.CROWDED, 1, "2 (2.png)")
def crowd_an_image(data):
    for number in range(99):
        x, y = 2 * (number % 10), 20 + 2 * (number // 10)
        ring = [x, y, x + 2, y, x + 2, y + 1.5, x, y + 1.5]
        box = {"bbox": [x, y, 2, 1.5], "area": 3, "segmentation": [ring]}
        data.train.annotations.append({**data.train.annotations[2], **box, "id": 900 + number})


@fault(objects.WITHOUT, 2, "51 (bare.png)")
def list_images_without_objects(data):
    for split in (data.train, data.val):
        id = split.images[0]["id"] + 50
        split.images.insert(0, {**split.images[0], "id": id, "file_name": "bare.png"})
        data.noise(id + 500).save(split.folder / "bare.png")


@fault(objects.SCORES, 2, "annotation 10 of image 1")
def give_objects_a_score(data):
    for one, score in zip(data.train.annotations, ("0.9", 1, "high", None), strict=False):
        one["score"] = score


@fault(classes.ALIKE, 2, "'cup' and 'CUP'", also={classes.UNUSED})
def repeat_a_name_in_another_case(data):
    for split in (data.train, data.val):
        split.categories.append({"id": 9, "name": "CUP"})


@fault(classes.UNTIDY, 2, r"'left  \ncup '")
def name_a_class_on_two_lines(data):
    for split in (data.train, data.val):
        split.categories[1]["name"] = "left  \ncup "


@fault(classes.BLANK, 2, "id 7")
def blank_a_name(data):
    for split in (data.train, data.val):
        split.categories[1]["name"] = " "


@fault(classes.SAME_NAME, 4, "cat (id 3)")
def repeat_a_name(data):
    for split in (data.train, data.val):
        split.categories[1]["name"] = "cat"


@fault(classes.UNUSED, 1, "dog")
def list_a_class_without_objects(data):
    for split in (data.train, data.val):
        split.categories.append({"id": 9, "name": "dog"})


@fault(classes.RARE, 1, "cup (9)")
def leave_few_objects(data):
    del data.train.annotations[1:4:2]


@fault(classes.OTHER_IDS, 1, "cup (id 7, 8)")
def number_a_class_otherwise(data):
    data.val.categories[1]["id"] = 8
    for one in data.val.annotations:
        one["category_id"] = 8 if one["category_id"] == 7 else 3


@fault(classes.OTHER_NAMES, 2, "cup (training)", also={classes.NEVER_LEARNT, classes.NEVER_SCORED, classes.ALIKE})
def name_a_class_otherwise(data):
    data.val.categories[1]["name"] = "Cup"


@fault(classes.ONE_SIDED, 1, "dog (validation)", united=True)
def list_a_class_in_one_split(data):
    data.val.categories.append({"id": 9, "name": "dog"})


@fault(classes.NEVER_LEARNT, 1, "cup", also={classes.UNUSED})
def take_a_class_from_training(data):
    data.train.annotations = data.train.annotations[::2]


@fault(classes.NEVER_SCORED, 1, "cup")
def take_a_class_from_validation(data):
    data.val.annotations = data.val.annotations[::2]


@fault(check_module.NOTHING, 1, "val", also={objects.WITHOUT, classes.NEVER_SCORED})
def take_all_objects(data):
    data.val.annotations = []


@fault(check_module.ONE_IMAGE, 1, "val")
def leave_one_image(data):
    (data.val.folder / "102.png").unlink()
    data.val.images, data.val.annotations = data.val.images[:1], data.val.annotations[:2]


@fault(check_module.UNNAMED, 1, "new.JPG")
def add_a_file(data):
    data.noise(77).save(data.train.folder / "new.JPG")
    (data.train.folder / "notes.txt").write_text("no image")


@pytest.mark.parametrize("kind", EACH, ids=lambda kind: kind.name)
def test_a_fault_is_told_once_with_its_count_and_the_first(clean, kind):
    change, count, first, options = EACH[kind]
    also = options.pop("also", set()) if "also" in options else set()
    change(clean)
    found = {one.kind: one for one in entries(clean.check(**options))}
    assert kind in found, [one.name for one in found]
    assert (found[kind].count, found[kind].examples[0]) == (count, first)
    assert set(found) - {kind} - also == set()


def test_a_file_that_is_not_annotated_is_told_by_its_name_below_the_images(clean):
    (clean.train.folder / "deep").mkdir()
    for seed, name in enumerate(("deep/1.png", "deep/2.png"), 900):
        clean.noise(seed).save(clean.train.folder / name)
    clean.train.images[0]["file_name"] = "deep/1.png"
    found = {one.kind: one.examples for one in entries(clean.check())}
    assert found == {check_module.UNNAMED: ["1.png", "deep/2.png"]}


def test_box_and_area_of_what_lies_in_the_image_are_right(clean):
    ring = [40, 4, 140, 4, 140, 14, 40, 14]
    clean.train.annotations[4] |= {"bbox": [40, 4, 20, 10], "segmentation": [ring], "area": 200}
    assert [one.kind for one in entries(clean.check())] == [objects.BEYOND]


@pytest.mark.parametrize("deep", [False, True])
def test_a_clean_data_set_has_no_fault(clean, deep):
    assert entries(clean.check(deep=deep)) == []


def test_every_kind_of_this_room_is_tested():
    rooms = (boxes, check_module, classes, contents, copies, images, objects, survey)
    kinds = {value for room in rooms for value in vars(room).values() if isinstance(value, objects.Kind)}
    assert kinds - EACH.keys() == {
        check_module.UNREAD,
        check_module.NOTHING_READ,
        check_module.NO_TRAINING,
        check_module.NO_VALIDATION,
        check_module.REMOTE,
    }
    assert len(kinds) >= 40


def test_a_split_that_is_not_there_is_told_with_what_it_means(clean, check):
    clean.save()
    clean.val.file.unlink()
    found = {one.kind: one for one in entries(check(clean.root))}
    assert found.keys() == {check_module.NO_VALIDATION}
    assert "data.val_share" in check_module.NO_VALIDATION.claim
    assert "train.evaluate_every=0" in check_module.NO_VALIDATION.claim
    clean.save()
    clean.train.file.unlink()
    assert check_module.NO_TRAINING in {one.kind for one in entries(check(clean.root))}


def test_images_in_a_store_are_told_and_not_looked_at(clean):
    clean.save()
    data = coco.read(clean.val.file)
    remote = replace(data, images=at("s3://bucket/val2017"))
    found = {one.kind: one.count for one in entries(check_module.examine({"val": remote}, {"val": Faults()}, {}))}
    assert found == {check_module.REMOTE: 2}


def test_the_worst_come_first(clean):
    for change in (drop_an_outline, copy_a_file, remove_a_file):
        change(clean)
    assert [one.kind.severity for one in entries(clean.check())] == list(reversed(Severity))


def test_real_photos_give_no_warning(shared_data, check):
    found = entries(check(shared_data / "coco_mini"))
    assert {one.kind.severity for one in found} <= {Severity.NOTE}


def test_drawn_shapes_give_no_warning(tmp_path, check):
    generate(tmp_path, num_train=12, num_val=4, side=64)
    found = entries(check(tmp_path, deep=True))
    assert {one.kind.severity for one in found} <= {Severity.NOTE}


def test_progress_counts_all_images(clean):
    told = []
    clean.check(deep=True, progress=lambda *given: told.append(given))
    for doing, number in (("train: reading headers", 11), ("val: reading headers", 2), ("val: decoding", 2)):
        assert [done[1:] for done in told if done[0] == doing] == [(k, number) for k in range(1, number + 1)]
