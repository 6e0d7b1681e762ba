"""LVIS's scores, worked out by hand: images are annotated in full for some categories only."""

import json
from dataclasses import replace

import pytest

from maskrcnn.data.formats import coco as formats
from maskrcnn.evaluate import coco
from maskrcnn.evaluate.extra_scores import LVIS_NAMES
from maskrcnn.evaluate.hotcoco_engine import Truth
from maskrcnn.evaluate.lvis import federated_in, federated_of
from maskrcnn.sentences import Note

HEIGHT, WIDTH = 40, 90
LEFT, RIGHT = [5.0, 4.0, 20.0, 10.0], [50.0, 20.0, 30.0, 15.0]
AXE, BAT, CAP = 12, 5, 30
"""Category ids of a rare, a common and a frequent class."""


def square(box):
    left, top, width, height = box
    return [[left, top, left + width, top, left + width, top + height, left, top + height]]


def entry(image, category, box, **more):
    return {"image_id": image, "category_id": category, "bbox": box, "segmentation": square(box)} | more


@pytest.fixture
def truth():
    """An axe, perhaps one of several, and a cap on the first image, where no bat is; a bat on the second."""
    objects = [entry(8, AXE, LEFT), entry(8, CAP, RIGHT), entry(3, BAT, LEFT)]
    names = {AXE: ("axe", "r"), BAT: ("bat", "c"), CAP: ("cap", "f")}
    size = {"height": HEIGHT, "width": WIDTH}
    return {
        "images": [
            {"id": 8, **size, "neg_category_ids": [BAT], "not_exhaustive_category_ids": [AXE]},
            {"id": 3, **size, "neg_category_ids": [], "not_exhaustive_category_ids": []},
        ],
        "categories": [{"id": id, "name": name, "frequency": often} for id, (name, often) in names.items()],
        "annotations": [{**one, "id": n, "area": one["bbox"][2] * one["bbox"][3]} for n, one in enumerate(objects, 1)],
    }


@pytest.fixture
def results():
    """Every object, exactly, and before it in each class one where nothing is annotated."""
    return [
        entry(8, AXE, LEFT, score=0.5),
        entry(8, AXE, RIGHT, score=0.9),  # may be an axe that nobody annotated: does not count
        entry(3, BAT, LEFT, score=0.5),
        entry(8, BAT, LEFT, score=0.9),  # wrong: there is no bat on this image
        entry(8, CAP, RIGHT, score=0.5),
        entry(3, CAP, RIGHT, score=0.9),  # nobody looked for caps on this image: does not count
    ]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "lvis.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_what_was_not_annotated_in_full_does_not_count(truth, results, write):
    for metrics in (coco.score(truth, results), coco.score(write(truth), results)):
        for kind in ("bbox", "segm"):
            assert metrics[kind]["AP"] == pytest.approx(0.5)  # COCO's: a wrong result before each right one
            scores = metrics["lvis"][kind]
            assert tuple(scores) == LVIS_NAMES
            assert [scores[name] for name in ("APr", "APc", "APf")] == pytest.approx([1, 0.5, 1])
            assert [scores[name] for name in ("AP", "AP75", "AR@300")] == pytest.approx([2.5 / 3, 2.5 / 3, 1])
            assert scores["APl"] is None


def test_300_results_of_an_image_count_whatever_their_classes(truth, results):
    truth["images"][1]["neg_category_ids"] = [AXE]
    more = [entry(3, CAP, RIGHT, score=0.9) for _ in range(299)]
    assert coco.score(truth, results[:3] + more)["lvis"]["bbox"]["APc"] == pytest.approx(1)
    assert coco.score(truth, [*results[:3], *more, more[0]])["lvis"]["bbox"]["APc"] == 0


def test_processes_together_find_what_one_finds(truth, results):
    data = formats.parse(truth)
    prepared = Truth(data, federated_in(truth, data))
    first, second = (coco.Evaluation(prepared, max_dets=300) for _ in range(2))
    for evaluation, image in ((first, 8), (second, 3)):
        evaluation.add([image], [one for one in results if one["image_id"] == image])
    first.merge([second.to_bytes()])
    assert first.metrics() == coco.score(truth, results, max_dets=300)


def test_the_table_names_them(truth, results):
    lines = coco.table(coco.score(truth, results)).splitlines()
    assert lines[3].startswith("LVIS's scores, with 300 results of an image")
    assert lines[4].split()[1:] == list(LVIS_NAMES)
    assert lines[6].split()[7:10] == ["100.0", "50.0", "100.0"]


@pytest.mark.parametrize("field", ["frequency", "lists"])
def test_files_of_coco_have_no_such_scores(truth, results, write, field):
    for record in truth["categories"] if field == "frequency" else truth["images"]:
        for name in ("frequency", "neg_category_ids", "not_exhaustive_category_ids"):
            record.pop(name, None)
    assert "lvis" not in coco.score(truth, results)
    assert "lvis" not in coco.score(write(truth), results)


def test_lists_do_not_fit_other_classes_or_images(truth, write):
    data = formats.read(write(truth))
    assert federated_of(data).negative == {8: [BAT], 3: []}
    assert federated_of(replace(data, category_names=("bat", "axe", "hat"))) is None
    assert federated_of(replace(data, image_ids=data.image_ids + 1)) is None
    assert federated_of(replace(data, stated_ids=["a", "b"])) is None
    assert federated_of(replace(data, annotations=data.annotations.parent)) is None


def test_lists_that_cannot_be_read_are_told(truth, write):
    truth["images"][0]["neg_category_ids"] = ["bat"]
    with pytest.warns(Note, match=r"lvis.json: LVIS's scores are not computed, since .*neg_category_ids"):
        assert federated_of(formats.read(write(truth))) is None
