"""Errors, confusion and the quality of images: by hand, and equal to hotcoco's of all results at once."""

import hotcoco
import numpy as np
import pytest

from maskrcnn.evaluate import coco
from maskrcnn.evaluate.diagnosis import average_precision

HERE, THERE = [0, 0, 10, 10], [50, 30, 10, 10]
NEAR, BESIDE = [4, 0, 10, 10], [0, 4, 10, 10]
"""IoU 60 / 140 with `HERE`."""
AWAY = [20, 20, 10, 10]
NAMES = {"class": "Cls", "location": "Loc", "both": "Both", "duplicate": "Dupe", "background": "Bkg", "missed": "Miss"}
HALF = 51 / 101
"""AP of one object found of two."""


def scene(objects, found):
    """Annotations and results of an image 60 high and 80 wide, from (class, box) and (class, box, score)."""
    truth = {
        "images": [{"id": 1, "height": 60, "width": 80}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for number, (category, box) in enumerate(objects, 1)
        ],
    }
    results = [{"image_id": 1, "category_id": category, "bbox": box, "score": score} for category, box, score in found]
    return truth, results


CATS, CAT_AND_DOG = [(1, HERE), (1, THERE)], [(1, HERE), (2, THERE)]


@pytest.mark.parametrize(
    ("objects", "found", "gains"),
    [
        (CATS, [(1, HERE, 0.9), (1, THERE, 0.8)], {}),
        (CATS, [(1, NEAR, 0.9)], {"location": HALF}),
        (CATS, [(1, NEAR, 0.9), (1, BESIDE, 0.8)], {"location": HALF}),  # only the better one would be right
        (CATS, [(1, NEAR, 0.9), (1, HERE, 0.8)], {"location": HALF / 2, "missed": 0.5 - HALF / 2}),
        (CATS, [(1, AWAY, 0.9), (1, HERE, 0.8), (1, THERE, 0.7)], {"background": 1 - 2 / 3}),
        (CATS, [(1, HERE, 0.9), (1, HERE, 0.8), (1, THERE, 0.7)], {"duplicate": 1 - (51 + 50 * 2 / 3) / 101}),
        (CAT_AND_DOG, [(2, HERE, 0.9)], {"class": 0.5}),  # it would be a cat
        (CAT_AND_DOG, [(2, HERE, 0.9), (1, HERE, 0.8)], {}),  # the cat is found
        (CAT_AND_DOG, [(1, HERE, 0.9), (1, [53, 30, 10, 10], 0.8), (2, THERE, 0.7)], {}),  # nor that dog
        (CAT_AND_DOG, [(2, NEAR, 0.9), (1, HERE, 0.8), (2, THERE, 0.7)], {"both": 0.25}),
    ],
)
def test_the_price_of_errors(objects, found, gains):
    errors = coco.score(*scene(objects, found), ["bbox"])["errors"]
    assert {name: gain for name, gain in errors.items() if gain > 1e-12} == pytest.approx(gains)


@pytest.mark.parametrize(
    ("right", "number", "expected"),
    [([], 2, 0.0), ([True], 2, HALF), ([False, True], 1, 0.5), ([True, False, True], 2, (51 + 50 * 2 / 3) / 101)],
)
def test_average_precision_is_the_mean_of_the_best_precision_from_each_recall_on(right, number, expected):
    assert average_precision(np.array(right, bool), number) == pytest.approx(expected)


def test_nobody_looks_at_results_after_the_first_hundred_of_a_class():
    found = [(1, AWAY, 0.9)] * 100 + [(1, HERE, 0.8)] + [(2, THERE, 0.7)]
    metrics = coco.score(*scene(CAT_AND_DOG, found), ["bbox"])
    assert metrics["images"] == [{"id": 1, "found": 1, "wrong": 100, "missed": 1, "f1": 2 / 103}]
    assert metrics["per_class"][0]["bbox"]["AP50"] == 0


def crowded(seed):
    """Some images with objects, crowds and results near them, with ties, in whole pixels."""
    random = np.random.default_rng(seed)
    images = [{"id": 10 - number, "height": 40, "width": 60} for number in range(random.integers(1, 4))]
    annotations, results = [], []
    numbers = random.permutation(100).tolist()  # files are not in order of the ids
    for image in images:
        for box in np.column_stack([random.integers(0, 30, (5, 2)), random.integers(4, 16, (5, 2))]):
            category = int(random.integers(1, 4))
            about = {"image_id": image["id"], "category_id": category}
            annotations.append(
                about
                | {"id": numbers[len(annotations)], "bbox": box.tolist(), "area": float(box[2] * box[3])}
                | {"segmentation": polygon(box), "iscrowd": int(random.random() < 0.15)}
            )
            for _ in range(random.integers(0, 4)):
                moved = np.maximum(box + random.integers(-3, 4, 4), [0, 0, 2, 2])
                label = category if random.random() < 0.6 else int(random.integers(1, 4))
                results.append(
                    about
                    | {"category_id": label, "bbox": moved.tolist(), "score": round(float(random.random()), 1)}
                    | {"segmentation": polygon(moved)}
                )
    random.shuffle(results)
    categories = [{"id": number, "name": f"class {number}"} for number in (1, 2, 3)]
    return {"images": images, "categories": categories, "annotations": annotations}, results


def polygon(box):
    left, top, width, height = (float(value) for value in box)
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_all_is_equal_to_what_hotcoco_tells_of_all_results_at_once(kind):
    field = {"bbox": "bbox", "segm": "segmentation"}[kind]
    for seed in range(40):
        content, results = crowded(seed)
        metrics = coco.score(content, results, [kind])
        truth = hotcoco.COCO(content)
        kept = [{key: one[key] for key in ("image_id", "category_id", "score", field)} for one in results]
        referee = hotcoco.COCOeval(truth, truth.load_res(kept), kind)
        referee.evaluate()
        gains = referee.tide_errors()["delta_ap"]
        for name, key in NAMES.items():
            assert metrics["errors"][name] == pytest.approx(max(0.0, gains[key]), abs=1e-12), (seed, name)
        told = referee.image_diagnostics(iou_thr=0.5)
        status = told["dt_status"]
        shown = {number: one for number, one in enumerate(kept, 1) if one["score"] >= 0.5 and number in status}
        matrix = hotcoco.COCOeval(truth, truth.load_res(list(shown.values())), kind).confusion_matrix(iou_thr=0.5)[
            "matrix"
        ]
        assert metrics["confusion"]["counts"] == [
            [true, predicted, int(matrix[true, predicted])] for true, predicted in np.argwhere(matrix).tolist()
        ], seed
        assert sum(row["found"] for row in metrics["images"]) == [status[number] for number in shown].count("tp"), seed
        assert {row["id"]: row["found"] + row["missed"] for row in metrics["images"]} == {
            image: summary["tp"] + summary["fn"] for image, summary in told["img_summary"].items()
        }, seed
