"""COCO scores: equal to the published numbers and to pycocotools, and careful with what people bring."""

import contextlib
import copy
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hotcoco import mask as rle

from maskrcnn.data.formats import coco as formats
from maskrcnn.evaluate import coco
from maskrcnn.evaluate.hotcoco_engine import Truth
from maskrcnn.evaluate.results import read

HEIGHT, WIDTH = 30, 50


def square(left, top, right, bottom):
    """Polygon of a box, clockwise on the screen."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(number, image, category, left, top, right, bottom, **more):
    box = [left, top, right - left, bottom - top]
    area = float(box[2] * box[3])
    polygons = square(left, top, right, bottom)
    return (
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": 0}
        | {"segmentation": polygons}
        | more
    )


@pytest.fixture
def truth():
    """Two pictures 30 high and 50 wide: a cat and a dog on the first, a cat on the second."""
    return {
        "images": [{"id": number, "height": HEIGHT, "width": WIDTH, "file_name": f"{number}.jpg"} for number in (1, 2)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "bird"}],
        "annotations": [
            annotation(1, 1, 3, 5, 4, 15, 24),
            annotation(2, 1, 7, 20, 2, 44, 12),
            annotation(3, 2, 3, 10, 10, 30, 16),
        ],
    }


def perfect(truth):
    """The annotations as results."""
    keys = ("image_id", "category_id", "bbox")
    return [
        {key: entry[key] for key in keys} | {"score": 0.9, "segmentation": compress(entry["segmentation"])}
        for entry in truth["annotations"]
    ]


def compress(polygons):
    encoded = rle.merge(rle.frPyObjects(polygons, HEIGHT, WIDTH))
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def published(folder, kind):
    """The twelve numbers of one IoU type in COCO's own example output."""
    text = (folder / "val2014_fake_eval_res.txt").read_text().split(f"type={kind}")[1].split("----")[0]
    return [float(number) for number in re.findall(r"\] = (-?\d\.\d+)", text)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_the_numbers_published_with_coco(shared_data, kind):
    folder = shared_data / "coco_golden"
    results = folder / f"instances_val2014_fake{kind}100_results.json"
    metrics = coco.score_files(folder / "instances_val2014_100.json", results)
    assert list(coco.headline(metrics)) == [kind]
    assert [round(metrics[kind][name], 3) for name in coco.NAMES] == published(folder, kind)


def jittered(annotations, rng):
    """Results with boxes and masks that are near the objects, of sometimes another class, and with tied scores."""
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        reader = COCO(str(annotations))
    categories = reader.getCatIds()
    results = []
    for entry in reader.anns.values():
        mask = reader.annToMask(entry)
        for _ in range(int(rng.integers(0, 4))):
            moved = np.roll(mask, rng.integers(-4, 5, size=2), axis=(0, 1))
            encoded = rle.encode(np.asfortranarray(moved))
            category = entry["category_id"] if rng.random() < 0.8 else int(rng.choice(categories))
            box = (np.array(entry["bbox"]) + rng.normal(0, 3, size=4)).round(2).tolist()
            segmentation = {"size": list(moved.shape), "counts": encoded["counts"].decode()}
            score = round(float(rng.random()), 2)
            results.append(
                {"image_id": entry["image_id"], "category_id": category, "bbox": box, "score": score}
                | {"segmentation": segmentation}
            )
    return results


def referee(annotations, results, kind):
    """pycocotools' twelve numbers; masks are given without boxes, as every peer does."""
    pycocotools = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        reader = pycocotools.COCO(str(annotations))
        keys = ("image_id", "category_id", "score", {"bbox": "bbox", "segm": "segmentation"}[kind])
        evaluation = COCOeval(reader, reader.loadRes([{key: entry[key] for key in keys} for entry in results]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_equals_pycocotools_on_real_photos_with_crowds(shared_data):
    annotations = shared_data / "coco_mini" / "annotations" / "instances_val2017.json"
    results = jittered(annotations, np.random.default_rng(5))
    metrics = coco.score(annotations, results)
    for kind in ("bbox", "segm"):
        ours = [metrics[kind][name] for name in coco.NAMES]
        assert ours == pytest.approx(list(referee(annotations, results, kind)), abs=1e-12)
    assert 0.1 < metrics["segm"]["AP"] < 0.9


@pytest.mark.parametrize("num_processes", [1, 3])
def test_images_may_come_in_any_order_and_be_shared_between_processes(shared_data, num_processes):
    annotations = shared_data / "coco_mini" / "annotations" / "instances_val2017.json"
    results = jittered(annotations, np.random.default_rng(6))
    truth = Truth(formats.read(annotations))
    images = np.random.default_rng(7).permutation(truth.image_ids).tolist()
    first, *others = [coco.Evaluation(truth) for _ in range(num_processes)]
    for number in range(0, len(images), 5):
        batch = images[number : number + 5]
        mine = [result for image in batch for result in results if result["image_id"] == image]
        [first, *others][number % num_processes].add(batch, mine)
    first.merge(other.to_bytes() for other in others)
    assert first.metrics() == coco.score(annotations, results)


def test_images_that_never_come_do_not_count(truth):
    evaluation = coco.Evaluation(Truth(formats.parse(truth)))
    evaluation.add([2], perfect(truth)[2:])
    metrics = evaluation.metrics()
    assert (metrics["segm"]["AR100"], metrics["errors"]["missed"]) == (pytest.approx(1), 0)
    assert metrics["images"] == [{"id": 2, "found": 1, "wrong": 0, "missed": 0, "f1": 1.0}]
    assert coco.Evaluation(Truth(formats.parse(truth))).metrics()["images"] == []


def test_perfect_results_score_one_and_absent_sizes_are_none(truth):
    metrics = coco.score(truth, perfect(truth))
    for kind in ("bbox", "segm"):
        assert metrics[kind]["AP"] == pytest.approx(1)
        assert metrics[kind]["APs"] == pytest.approx(1)
        assert metrics[kind]["APl"] is None
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_no_results_score_zero(truth, tmp_path):
    assert coco.score(truth, [])["segm"]["AP"] == 0
    files = write(tmp_path / "truth.json", truth), write(tmp_path / "results.json", [])
    assert [coco.score_files(*files)[kind]["AP"] for kind in ("bbox", "segm")] == [0, 0]


def test_objects_of_a_picture_without_results_are_missed(truth):
    first_picture = [entry for entry in perfect(truth) if entry["image_id"] == 1]
    cat = coco.score(truth, first_picture)["per_class"][0]
    assert cat["segm"]["AR100"] == pytest.approx(0.5)


def test_per_class_rows_follow_category_ids_and_a_class_without_objects_has_none(truth):
    truth["categories"].reverse()
    rows = coco.score(truth, perfect(truth)[1:])["per_class"]
    assert [(row["id"], row["name"], row["objects"]) for row in rows] == [(3, "cat", 2), (7, "dog", 1), (9, "bird", 0)]
    assert rows[0]["bbox"]["AP"] == pytest.approx(0.504950, abs=1e-6)  # 51 of 101 recall points
    assert rows[1]["bbox"]["AP75"] == pytest.approx(1)
    assert rows[2]["segm"] == {"AP": None, "AP50": None, "AP75": None, "AR100": None}


def test_classes_of_the_same_name_keep_their_own_rows(truth):
    truth["categories"][1]["name"] = "cat"
    rows = coco.score(truth, perfect(truth)[::2])["per_class"]
    assert [row["bbox"]["AP50"] for row in rows[:2]] == [pytest.approx(1), 0]


def test_a_mask_is_sized_by_its_own_area_not_by_its_box(truth):
    truth["annotations"] = truth["annotations"][:1]
    truth["annotations"][0]["area"] = 2000.0  # medium
    wrong = (
        perfect(truth)[0] | {"segmentation": compress(square(40, 20, 44, 24)), "bbox": [0, 0, 50, 30]} | {"score": 0.99}
    )
    # The unmatched mask of 16 pixels is small, so it does not count among medium objects; its box of 1500 would.
    results = [wrong, perfect(truth)[0]]
    assert coco.score(truth, results)["segm"]["APm"] == pytest.approx(1)


def test_results_inside_a_crowd_are_neither_right_nor_wrong(truth):
    truth["annotations"][1]["iscrowd"] = 1
    results = perfect(truth)
    results[1] |= {"segmentation": compress(square(22, 4, 30, 10)), "bbox": [22, 4, 8, 6]}
    metrics = coco.score(truth, results)
    assert metrics["segm"]["AP"] == metrics["bbox"]["AP"] == pytest.approx(1)
    assert metrics["per_class"][1]["objects"] == 0
    assert metrics["confusion"]["counts"] == [[0, 0, 2]]
    assert metrics["images"][0] == {"id": 1, "found": 1, "wrong": 0, "missed": 0, "f1": 1.0}


def test_the_stored_box_of_a_crowd_is_used_not_its_mask(truth):
    """COCO's crowd boxes differ from their masks: here the box covers the result, the mask does not."""
    truth["annotations"][1] |= {"iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}}
    results = perfect(truth)
    results[1]["score"] = 0.95
    assert coco.score(truth, results, ["bbox"])["bbox"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize("form", ["bytes", "uncompressed", "polygons"])
def test_every_form_of_mask_scores_the_same(truth, form):
    compressed = coco.score(truth, perfect(truth))["segm"]
    results = perfect(truth)
    for entry, annotated in zip(results, truth["annotations"], strict=True):
        if form == "bytes":
            entry["segmentation"]["counts"] = entry["segmentation"]["counts"].encode()
        elif form == "polygons":
            entry["segmentation"] = annotated["segmentation"]
        else:
            flat = rle.decode(entry["segmentation"]).T.ravel()
            starts = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
            entry["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *starts, flat.size]).tolist()}
    assert coco.score(truth, results)["segm"] == compressed


def test_a_missing_area_of_an_annotation_is_measured(truth):
    without = copy.deepcopy(truth)
    for entry in without["annotations"]:
        entry["area"] = 2000.0
    assert coco.score(without, perfect(truth))["segm"]["APs"] is None
    for entry in without["annotations"]:
        del entry["area"]
    without["annotations"][0]["segmentation"] = square(0, 0, 50, 30)  # 1500 pixels: medium
    measured = coco.score(without, perfect(truth)[1:])["segm"]
    assert measured["APs"] == pytest.approx(1)
    assert measured["APm"] == 0


def test_box_files_give_box_scores_only_and_mask_files_mask_scores_only(truth, tmp_path):
    annotations = write(tmp_path / "truth.json", truth)
    for field, kind in (("bbox", "segm"), ("segmentation", "bbox")):
        results = [{key: value for key, value in entry.items() if key != field} for entry in perfect(truth)]
        assert kind in coco.headline(coco.score_files(annotations, write(tmp_path / "results.json", results)))
        assert len(coco.headline(coco.score_files(annotations, tmp_path / "results.json"))) == 1


def test_confusion_names_what_was_taken_for_what(truth):
    results = perfect(truth)
    results[1]["category_id"] = 3  # the dog is called a cat
    results[2]["score"] = 0.2  # too unsure to be shown
    confusion = coco.score(truth, results)["confusion"]
    assert confusion["classes"] == ["cat", "dog", "bird"]
    assert sorted(confusion["counts"]) == [[0, 0, 1], [0, 3, 1], [1, 0, 1]]


def test_quality_of_pictures_counts_results_a_person_is_shown(truth):
    results = perfect(truth)
    results[2]["score"] = 0.2
    results.append(perfect(truth)[0] | {"image_id": 2, "score": 0.6})
    assert coco.score(truth, results)["images"] == [
        {"id": 1, "found": 2, "wrong": 0, "missed": 0, "f1": 1.0},
        {"id": 2, "found": 0, "wrong": 1, "missed": 1, "f1": 0.0},
    ]


def test_a_missed_object_is_an_error_of_its_kind(truth):
    errors = coco.score(truth, perfect(truth)[:2])["errors"]
    assert errors["missed"] == pytest.approx(0.5 * (1 - 51 / 101))
    assert errors["class"] == errors["location"] == errors["background"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999}, r"result 1 \(image 999\) is of an image that is not among the 2 annotated ones"),
        ({"category_id": 4}, r"result 1 \(image 1\) has category 4, expected one of 3, 7, 9"),
        ({"score": float("nan")}, r"result 1 \(image 1\) has score nan, expected a finite number"),
        ({"score": "high"}, r"Expected `float`, got `str` - at `\$\[1\].score`"),
        ({"bbox": [1, 2, 3]}, r"length 4, got 3 - at `\$\[1\].bbox`"),
        ({"bbox": None}, r"result 1 \(image 1\) has bbox None, expected four finite numbers"),
        ({"segmentation": None}, r"result 1 \(image 1\) has a segmentation that is neither RLE nor polygons"),
        (
            {"segmentation": [[10**400] * 6]},
            r"result 1 \(image 1\) has a segmentation that is neither RLE nor polygons",
        ),
        ({"segmentation": [[1, 2]]}, r"result 1 \(image 1\) has a segmentation that is neither RLE nor polygons"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "\x01"}}, r"result 1 \(image 1\) .* invalid RLE"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "Th[1"}}, r"result 1 \(image 1\) .* RLE"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "T3h["}}, r"result 1 \(image 1\) .* ends within a run"),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": "a"}}, r"size is \[50, 30\], the image's \[30, 50\]"),
    ],
)
def test_a_result_that_cannot_be_scored_is_named(truth, change, message):
    results = perfect(truth)
    results[1] |= change
    with pytest.raises(ValueError, match=message) as error:
        coco.score(truth, results)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"image_id": 1, "categ', "results.json: not a COCO result file .* truncated"),
        (
            '[{"image_id": 1, "category_id": 3, "score": 1, "segmentation": ' + "[" * 100_000,
            "results.json: not a COCO result file .* recursion",
        ),
        ('{"images": []}', "results.json: not a COCO result file .* Expected `array`, got `object`"),
        ('[{"image_id": 1, "score": 1, "category_id": 3}]', "results.json: expected bbox in every result, or segm"),
        (None, "results.json: there is no such result file"),
    ],
)
def test_a_file_that_holds_no_results_is_refused_in_a_sentence(truth, tmp_path, content, message):
    if content is not None:
        write(tmp_path / "results.json", content)
    with pytest.raises(ValueError, match=message):
        coco.score_files(write(tmp_path / "truth.json", truth), tmp_path / "results.json")


def test_annotations_that_share_an_id_count_each(truth):
    expected = coco.score(truth, perfect(truth)[:2])
    truth["annotations"][2]["id"] = 1
    assert coco.score(truth, perfect(truth)[:2]) == expected
    assert expected["per_class"][0]["objects"] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "truth.json: is not complete JSON .* export it again"),
        ("[]", "truth.json: .* expected a COCO instances file"),
        ({"images": [], "annotations": [], "categories": []}, "truth.json: `images` is empty"),
        (None, "truth.json does not exist"),
    ],
)
def test_a_file_that_holds_no_annotations_is_refused_in_a_sentence(tmp_path, content, message):
    if content is not None:
        write(tmp_path / "truth.json", content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        coco.score(Path(tmp_path / "truth.json"), [])


def test_the_table_shows_percent_and_a_dash_where_nothing_could_be_scored(truth):
    lines = coco.table(coco.score(truth, perfect(truth))).splitlines()
    assert lines[0].split() == ["%", *coco.NAMES]
    assert lines[1].split()[:7] == ["box", "100.0", "100.0", "100.0", "100.0", coco.DASH, coco.DASH]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    "file",
    [
        "coco_mini/annotations/instances_train2017.json",
        "coco_mini/annotations/instances_val2017.json",
        "coco_golden/instances_val2014_100.json",
        "nuclei/annotations/instances_train.json",
        "nuclei/annotations/instances_val.json",
    ],
)
def test_every_object_is_what_pycocotools_makes_of_the_file(shared_data, file):
    pycocotools = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        reader = pycocotools.COCO(str(shared_data / file))
    truth = Truth(formats.read(shared_data / file))
    assert truth.image_ids == sorted(reader.getImgIds())
    for place, image in enumerate(truth.image_ids):
        ours, theirs = truth.annotations(place, with_masks=True), reader.imgToAnns[image]
        assert [one["id"] for one in ours] == [one["id"] for one in theirs], "in the order that ties go by"
        for one, other in zip(ours, theirs, strict=True):
            assert (one["bbox"], one["area"], one["iscrowd"]) == (other["bbox"], other["area"], other["iscrowd"])
            assert truth.category_ids[one["category_id"]] == other["category_id"]
            mask = reader.annToRLE(other)
            counts = mask["counts"].decode() if isinstance(mask["counts"], bytes) else mask["counts"]
            assert one["segmentation"] == {"size": mask["size"], "counts": counts}


def test_equals_pycocotools_on_nuclei(shared_data):
    annotations = shared_data / "nuclei" / "annotations" / "instances_val.json"
    results = jittered(annotations, np.random.default_rng(8))
    metrics = coco.score(annotations, results)
    for kind in ("bbox", "segm"):
        expected = [None if value < 0 else value for value in referee(annotations, results, kind)]
        assert [metrics[kind][name] for name in coco.NAMES] == expected


@pytest.mark.parametrize(
    "missing", [None, [], [[]], [[3, 4, 9, 9]], {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}]
)
def test_an_object_without_an_outline_has_its_box_as_mask(truth, missing):
    results = perfect(truth)
    for entry in truth["annotations"]:
        entry["segmentation"] = missing
    assert coco.score(truth, results)["segm"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"segmentation": {"size": [32, 32], "counts": "PQ4f0"}},
            r"annotation 1 of image 1 has run lengths for .*32, 32",
        ),
        (
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "b'PQ4f0'"}},
            "annotation 1 of image 1 has malformed run",
        ),
        ({"category_id": 4}, "annotation 1 of image 1 names category 4, which the file does not list"),
        ({"image_id": 4}, "annotation 1 of image 4 names image 4, which the file does not list"),
    ],
)
def test_truth_that_cannot_be_read_is_refused_as_before_training(truth, fields, message):
    results = perfect(truth)
    truth["annotations"][0] |= fields
    with pytest.raises(ValueError, match=message):
        coco.score(truth, results)


def test_images_without_sizes_are_refused(truth):
    del truth["images"][0]["height"]
    with pytest.raises(ValueError, match="annotations: image 1 states height"):
        coco.score(truth, [])


def test_an_object_without_a_box_has_that_of_its_outline(truth):
    results = perfect(truth)
    for entry in truth["annotations"]:
        entry["bbox"] = None
    assert coco.score(truth, results)["bbox"]["AP"] == pytest.approx(1)


def test_objects_outside_their_image_are_missed_as_pycocotools_has_it(truth, tmp_path):
    truth["annotations"] += [annotation(4, 2, 3, 60, 10, 70, 16), annotation(5, 2, 3, 8, 8, 8, 8, area=1.0)]
    results = perfect(truth)[:3]
    metrics = coco.score(truth, results)
    ours = [metrics["bbox"][name] for name in coco.NAMES]
    expected = referee(write(tmp_path / "truth.json", truth), results, "bbox")
    assert ours == [None if value < 0 else value for value in expected]
    assert metrics["per_class"][0]["objects"] == 4


def test_a_result_file_that_ends_in_zeros_is_refused_unread(tmp_path):
    with (tmp_path / "results.json").open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(ValueError, match=r"results\.json ends in zeros, as an interrupted copy does"):
        read(tmp_path / "results.json")


def test_numbers_of_a_result_file_may_be_written_as_text(truth, tmp_path):
    results = [{**entry, "score": "0.9", "bbox": [str(side) for side in entry["bbox"]]} for entry in perfect(truth)]
    scores = coco.score_files(write(tmp_path / "truth.json", truth), write(tmp_path / "results.json", results))
    assert (scores["bbox"]["AP"], scores["segm"]["AP"]) == (1.0, 1.0)
    assert coco.score(formats.parse(truth), results)["bbox"]["AP"] == 1.0
