"""More results of an image than COCO counts: scored where asked for, told where not."""

import contextlib
import io
import json

import numpy as np
import pytest

from maskrcnn.data.formats.coco import parse
from maskrcnn.evaluate import coco
from maskrcnn.evaluate.extra_scores import names_with
from maskrcnn.evaluate.hotcoco_engine import Truth

HEIGHT, WIDTH = 60, 240


def cells(number):
    """Cells of 6 x 8 pixels in rows, as [x, y, width, height]."""
    return [[10.0 * (n % 24), 10.0 * (n // 24), 8.0, 6.0] for n in range(number)]


def square(box):
    left, top, width, height = box
    return [[left, top, left + width, top, left + width, top + height, left, top + height]]


def entries(boxes, image=1, category=1):
    return [
        {"image_id": image, "category_id": category, "bbox": box, "segmentation": square(box)}
        | {"score": round(0.9 - 0.001 * n, 3)}
        for n, box in enumerate(boxes)
    ]


@pytest.fixture
def truth():
    """120 cells on the first image, two on the second."""
    objects = entries(cells(120)) + entries(cells(2), image=2)
    return {
        "images": [{"id": number, "height": HEIGHT, "width": WIDTH} for number in (1, 2)],
        "categories": [{"id": 1, "name": "cell"}, {"id": 5, "name": "dust"}],
        "annotations": [{**one, "id": n, "area": 48.0, "iscrowd": 0} for n, one in enumerate(objects, 1)],
    }


@pytest.fixture
def results():
    """All cells, exactly, and 130 specks of dust on the first image, which has none."""
    return entries(cells(120)) + entries(cells(2), image=2) + entries(cells(130), category=5)


def test_scores_with_more_results_stand_beside_the_twelve_which_stay(truth, results):
    usual, metrics = coco.score(truth, results), coco.score(truth, results, max_dets=120)
    assert "max_dets" not in usual
    assert coco.headline(metrics) == coco.headline(usual)
    assert metrics["bbox"]["AR100"] == pytest.approx(102 / 122)
    for kind in ("bbox", "segm"):
        assert list(metrics["max_dets"][kind]) == names_with(120)
        assert metrics["max_dets"][kind]["AP@120"] == metrics["max_dets"][kind]["AR@120"] == pytest.approx(1)
        assert metrics["max_dets"][kind]["APl@120"] is None


@pytest.mark.parametrize("number", [1, 7, 110])
def test_scores_with_another_number_are_pycocotools(truth, tmp_path, number):
    pycocotools = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(4)
    moved = [[*(np.array(box[:2]) + rng.integers(0, 3, 2)).tolist(), *box[2:]] for box in cells(120)]
    results = entries(moved) + entries(cells(1), image=2)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        reader = pycocotools.COCO(str(tmp_path / "truth.json"))
        boxes = [{key: value for key, value in one.items() if key != "segmentation"} for one in results]
        referee = COCOeval(reader, reader.loadRes(boxes), "bbox")
        referee.params.maxDets = [number]
        referee.evaluate()
        referee.accumulate()
    precision, recall = referee.eval["precision"][..., 0, 0], referee.eval["recall"][..., 0, 0]
    scores = coco.score(truth, results, max_dets=number)["max_dets"]["bbox"]
    assert scores[f"AP@{number}"] == pytest.approx(precision[precision > -1].mean(), abs=1e-12)
    assert scores[f"AP75@{number}"] == pytest.approx(precision[5][precision[5] > -1].mean(), abs=1e-12)
    assert scores[f"AR@{number}"] == pytest.approx(recall[recall > -1].mean(), abs=1e-12)


def test_errors_and_images_look_at_as_many_results_as_are_asked_for(truth, results):
    usual, metrics = coco.score(truth, results), coco.score(truth, results, max_dets=120)
    assert [row["found"] for row in usual["images"]] == [100, 2]
    assert [row["found"] for row in metrics["images"]] == [120, 2]
    assert (usual["errors"]["missed"] > 0.1, metrics["errors"]["missed"]) == (True, 0)
    assert [row["found"] for row in coco.score(truth, results, max_dets=5)["images"]] == [100, 2]


@pytest.mark.parametrize(
    ("number", "uncounted"),
    [
        (100, {"counted": 100, "results": 20 + 30, "among": 120 + 130, "images": 1, "most": 130}),
        (5, {"counted": 100, "results": 20 + 30, "among": 120 + 130, "images": 1, "most": 130}),
        (120, {"counted": 120, "results": 10, "among": 130, "images": 1, "most": 130}),
        (130, None),
    ],
)
def test_results_that_nobody_looked_at_are_counted(truth, results, number, uncounted):
    assert coco.score(truth, results, max_dets=number).get("uncounted") == uncounted


def test_processes_together_find_what_one_finds(truth, results):
    prepared = Truth(parse(truth))
    first, second = (coco.Evaluation(prepared, max_dets=110) for _ in range(2))
    first.add([2], [one for one in results if one["image_id"] == 2])
    second.add([1], [one for one in results if one["image_id"] == 1])
    first.merge([second.to_bytes()])
    assert first.metrics() == coco.score(truth, results, max_dets=110)


def test_the_table_names_other_scores_below_the_twelve(truth, results):
    lines = coco.table(coco.score(truth, results, max_dets=120)).splitlines()
    assert [line.split()[0] for line in lines] == ["%", "box", "mask", "The", "%", "box", "mask"]
    assert lines[3].endswith("the number after @ says:")
    assert lines[4].split()[1:4] == ["AP@120", "AP50@120", "AP75@120"]
    assert lines[5].split()[1] == "100.0"
    assert len({len(line) for line in lines[4:]}) == 1
