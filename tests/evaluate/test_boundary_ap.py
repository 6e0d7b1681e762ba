"""Boundary AP, against the paper's definition in plain numpy, and against COCO's AP where no boundary counts."""

import numpy as np
import pytest

from maskrcnn.data.formats.coco import parse
from maskrcnn.evaluate import boundary_ap, coco
from maskrcnn.evaluate.boundaries import boundaries, boundary_width
from maskrcnn.evaluate.boundary_ap import BOUNDARY_NAMES
from maskrcnn.evaluate.hotcoco_engine import Truth
from maskrcnn.evaluate.overlaps import runs_from_strings
from maskrcnn.masks import bitmap_from_counts, counts_from_bitmap, counts_from_string, string_from_counts

HEIGHT, WIDTH = 60, 90
REACH = 2
"""boundary_width(HEIGHT, WIDTH): 0.02 of the diagonal, 108.2, to whole pixels."""


def string(bitmap):
    return string_from_counts(counts_from_bitmap(bitmap))


def eroded(bitmap, reach):
    """A pixel at a time: what has a neighbour outside is gone, and beyond the image everything is outside."""
    for _ in range(reach):
        padded = np.pad(bitmap, 1)
        height, width = bitmap.shape
        bitmap = np.all([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)
    return bitmap


def boundary_of(bitmap, reach):
    return bitmap & ~eroded(bitmap, reach)


def bitmap_of(runs, height, width, mask):
    pixels = np.zeros(height * width, bool)
    for start, stop in runs.edges[runs.stops[mask] : runs.stops[mask + 1]].reshape(-1, 2):
        pixels[start:stop] = True
    return pixels.reshape(width, height).T


def blobs(random, number, height=HEIGHT, width=WIDTH):
    """Discs, some with holes, some whole images, at random places."""
    y, x = np.indices((height, width)) + 0.5
    found = []
    for _ in range(number):
        cy, cx, r = random.uniform(0, height), random.uniform(0, width), random.uniform(1, 40)
        distance = np.hypot(y - cy, (x - cx) / random.uniform(0.5, 2))
        found.append((distance < r) & (distance >= random.choice([0.0, 0.3 * r])))
    return found


def test_the_width_of_boundaries_is_two_hundredths_of_the_diagonal_and_at_least_a_pixel():
    assert [boundary_width(480, 640), boundary_width(HEIGHT, WIDTH), boundary_width(3, 5)] == [16, REACH, 1]


def test_the_boundary_of_a_rectangle_is_its_frame():
    mask = np.zeros((9, 12), bool)
    mask[1:8, 2:10] = True
    mask[4, 6] = False  # a hole has a boundary, too
    found = boundaries(runs_from_strings([string(mask)], [9 * 12]), np.array([0]), 9, 1)
    expected = mask.copy()
    expected[2:7, 3:9] = False
    expected[3:6, 5:8] = mask[3:6, 5:8]
    assert np.array_equal(bitmap_of(found, 9, 12, 0), expected)
    assert found.areas.tolist() == [expected.sum()]


def test_a_mask_that_touches_the_images_border_has_a_boundary_there():
    whole = np.ones((9, 12), bool)
    found = boundaries(runs_from_strings([string(whole)], [9 * 12]), np.array([0]), 9, 2)
    assert found.areas.tolist() == [9 * 12 - 5 * 8]


@pytest.mark.parametrize("reach", [1, 2, 3, 5, 8])
def test_boundaries_are_what_erosion_takes_away(reach):
    random = np.random.default_rng(reach)
    masks = [*blobs(random, 12), random.random((HEIGHT, WIDTH)) < 0.9, np.zeros((HEIGHT, WIDTH), bool)]
    rows = np.array([13, 12, *range(12)])
    found = boundaries(runs_from_strings(list(map(string, masks)), [HEIGHT * WIDTH] * 14), rows, HEIGHT, reach)
    for number, row in enumerate(rows):
        expected = boundary_of(masks[row], reach)
        assert np.array_equal(bitmap_of(found, HEIGHT, WIDTH, number), expected)
        assert found.areas[number] == expected.sum()


def entry(mask, **more):
    rle = {"size": [HEIGHT, WIDTH], "counts": string(mask)}
    return {"segmentation": rle, "bbox": [0.0, 0.0, 1.0, 1.0], "area": float(mask.sum()), **more}


def annotated(objects, num_images=1):
    """objects   (image, category, mask, whether a crowd)"""
    return {
        "images": [{"id": 1 + n, "height": HEIGHT, "width": WIDTH} for n in range(num_images)],
        "categories": [{"id": 1, "name": "pear"}, {"id": 2, "name": "plum"}],
        "annotations": [
            entry(mask, id=1 + n, image_id=image, category_id=category, iscrowd=int(crowd))
            for n, (image, category, mask, crowd) in enumerate(objects)
        ],
    }


def results_of(found):
    """found   (image, category, mask, score)"""
    return [entry(mask, image_id=image, category_id=category, score=score) for image, category, mask, score in found]


def scored(truth, results):
    return coco.score(truth, results, boundary=True)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def rectangle(top, left, bottom, right):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_large_mask_that_is_two_pixels_off_counts_as_its_boundary_does():
    truth, found = rectangle(5, 10, 55, 80), rectangle(7, 10, 57, 80)
    of_masks, of_boundaries = iou(truth, found), iou(boundary_of(truth, REACH), boundary_of(found, REACH))
    assert of_masks == pytest.approx(48 / 52)
    assert of_boundaries == pytest.approx((2 * 48 * 2) / (2 * 464 - 192))  # two columns at each side are shared
    assert of_boundaries < 0.5
    metrics = scored(annotated([(1, 1, truth, False)]), results_of([(1, 1, found, 0.9)]))
    assert metrics["segm"]["AP"] == pytest.approx(0.9)  # up to IoU 0.90
    assert metrics["boundary"]["segm"] == dict.fromkeys(BOUNDARY_NAMES, 0.0) | {"APs": None, "APl": None}


def test_the_lower_of_both_ious_counts():
    """One pixel off: masks overlap to 49 / 51, boundaries to less, which decides."""
    truth, found = rectangle(5, 10, 55, 80), rectangle(6, 10, 56, 80)
    lower = iou(boundary_of(truth, REACH), boundary_of(found, REACH))
    assert lower < iou(truth, found)
    metrics = scored(annotated([(1, 1, truth, False)]), results_of([(1, 1, found, 0.9)]))
    assert metrics["boundary"]["segm"]["AP"] == pytest.approx(sum(lower >= boundary_ap.IOUS) / 10)
    hole = truth.copy()
    hole[12:48, 17:73] = False  # the same boundary outside, but far less mask, and a boundary of its own inside
    metrics = scored(annotated([(1, 1, truth, False)]), results_of([(1, 1, hole, 0.9)]))
    assert iou(truth, hole) < 0.5
    assert metrics["boundary"]["segm"]["AP"] == 0.0


def random_case(seed):
    """Objects of two classes on three images, some crowds; results that are shifted copies, doubles and strangers."""
    random = np.random.default_rng(seed)
    objects = [
        (int(random.integers(1, 4)), int(random.integers(1, 3)), mask, random.random() < 0.15)
        for mask in blobs(random, 24)
        if mask.any()
    ]
    found = [
        (image, category if random.random() < 0.8 else 3 - category, np.roll(mask, shift, (0, 1)), score)
        for image, category, mask, _ in objects * 2
        for shift, score in [(random.integers(-3, 4, 2), round(float(random.random()), 1))]
    ]
    return annotated(objects, num_images=3), results_of(found)


@pytest.mark.parametrize("seed", range(6))
def test_where_boundaries_are_whole_masks_it_is_cocos_mask_ap(seed, monkeypatch):
    monkeypatch.setattr(boundary_ap, "boundary_width", lambda height, width: height)
    metrics = scored(*random_case(seed))
    for name in BOUNDARY_NAMES:
        assert metrics["boundary"]["segm"][name] == pytest.approx(metrics["segm"][name], abs=1e-12)


def expected_ap(truth, results):
    """The mean over classes and IoUs of images and results without crowds, in plain loops."""
    precisions = []
    for category in (1, 2):
        objects = [one for one in truth["annotations"] if one["category_id"] == category]
        found = sorted((one for one in results if one["category_id"] == category), key=lambda one: -one["score"])
        for least in boundary_ap.IOUS:
            taken, hits = set(), []
            for one in found:
                best = max(
                    ((overlap(one, other), other["id"]) for other in objects if is_open(one, other, taken)),
                    default=(0.0, 0),
                )
                hits.append(best[0] >= least)
                taken |= {best[1]} if hits[-1] else set()
            precisions.append(interpolated(np.array(hits), len(objects)))
    return np.mean(precisions)


def is_open(one, other, taken):
    return one["image_id"] == other["image_id"] and other["id"] not in taken


def overlap(one, other):
    masks = [bitmap_from_counts(counts_from_string(it["segmentation"]["counts"]), HEIGHT, WIDTH) for it in (one, other)]
    return min(iou(*masks), iou(*(boundary_of(mask.astype(bool), REACH) for mask in masks)))


def interpolated(hits, num_objects):
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / num_objects
    return np.mean([max(precision[recall >= r - 1e-12], default=0.0) for r in np.linspace(0, 1, 101)])


@pytest.mark.parametrize("seed", range(2))
def test_it_is_what_the_definition_gives(seed):
    truth, results = random_case(seed)
    truth["annotations"] = [one for one in truth["annotations"] if not one["iscrowd"]]
    results = [one | {"score": 1 - 0.01 * n} for n, one in enumerate(results)]
    metrics = scored(truth, results)
    assert metrics["boundary"]["segm"]["AP"] == pytest.approx(expected_ap(truth, results))


def test_processes_that_share_images_find_what_one_does():
    truth, results = random_case(7)
    whole = scored(truth, results)["boundary"]
    first, second = (coco.Evaluation(Truth(parse(truth)), boundary=True) for _ in range(2))
    first.add([2], [one for one in results if one["image_id"] == 2])
    second.add([3, 1], [one for number in (3, 1) for one in results if one["image_id"] == number])
    first.merge([second.to_bytes()])
    assert first.metrics()["boundary"] == whole


def test_boxes_alone_have_no_boundaries_and_nobody_is_forced_to_look_at_them():
    truth, results = random_case(8)
    assert "boundary" not in coco.score(truth, results, ("bbox",), boundary=True)
    assert "boundary" not in coco.score(truth, results)
