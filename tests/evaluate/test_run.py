"""Evaluation: every picture once, whatever the number of processes, and numbers that are what was found."""

import json
from dataclasses import replace

import msgspec
import pytest
import torch
from msgspec.structs import replace as replace_settings
from torch import nn

from maskrcnn.config import RPN, Backbone, BoxHead, Data, Evaluate, MaskHead, Model, Neck, Recipe
from maskrcnn.data.buckets import resized_size
from maskrcnn.data.split import open_split
from maskrcnn.evaluate import run
from maskrcnn.evaluate.coco import Evaluation
from maskrcnn.evaluate.hotcoco_engine import Truth
from maskrcnn.evaluate.save import IN_DETAILS
from maskrcnn.models.mask_rcnn import build
from maskrcnn.recipes import read_recipe
from maskrcnn.runtime.distributed import World
from maskrcnn.structures import Detections
from maskrcnn.weights import Weights, load_weights, save_weights

from .conftest import BOXES, SHADES, SIZES

LABELS = {3: 1, 7: 2}


class Oracle(nn.Module):
    """Knows each picture by its shade, and finds what was annotated on it; `moved` boxes are wrong by some pixels."""

    def __init__(self, data: Data, moved: float = 0.0) -> None:
        super().__init__()
        self.data, self.moved = data, moved

    def forward(self, batch):
        found = Detections(
            boxes=torch.zeros(len(batch.sizes), 3, 4),
            labels=torch.zeros(len(batch.sizes), 3, dtype=torch.int64),
            scores=torch.zeros(len(batch.sizes), 3),
            valid=torch.zeros(len(batch.sizes), 3, dtype=torch.bool),
            masks=torch.ones(len(batch.sizes), 3, 28, 28),
        )
        for slot, (pixels, size) in enumerate(zip(batch.pixels, batch.sizes, strict=True)):
            shade = float(pixels[0, 0, 0]) * self.data.std[0] + self.data.mean[0]
            number = min(SHADES, key=lambda number: abs(SHADES[number] - shade))
            scale = (size / torch.tensor(SIZES[number])).flip(0).repeat(2)
            for place, (category, *box) in enumerate(BOXES[number]):
                found.boxes[slot, place] = (torch.tensor(box) + self.moved) * scale
                found.labels[slot, place], found.scores[slot, place] = LABELS[category], 0.9
                found.valid[slot, place] = True
        return found


class Recorded(World):
    """The first of several processes, which is given what the others found."""

    def gather_bytes(self, content):
        return [content, *self.others]


def watched(function, name, events):
    """The same function, which says that it was called."""

    def called(*arguments):
        events.append(name)
        return function(*arguments)

    return called


@pytest.fixture
def dataset(recipe):
    return open_split(recipe.data, "val")


@pytest.fixture
def alone():
    return World(device=torch.device("cpu"))


def test_finding_what_was_annotated_scores_one_in_the_frame_of_the_original_pictures(recipe, dataset, alone, tmp_path):
    metrics = run.evaluate(Oracle(recipe.data), dataset, recipe, alone, tmp_path / "out")
    assert metrics["bbox"]["AP"] == pytest.approx(1)
    assert metrics["segm"]["AP"] == pytest.approx(1)
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    found = sorted((entry["image_id"], entry["category_id"], *map(round, entry["bbox"])) for entry in predictions)
    annotated = [
        (number, category, x1, y1, x2 - x1, y2 - y1)
        for number, objects in BOXES.items()
        for category, x1, y1, x2, y2 in objects
    ]
    assert found == sorted(annotated)
    assert all(entry["segmentation"]["size"] == list(SIZES[entry["image_id"]]) for entry in predictions)


def test_boxes_that_are_moved_score_less(recipe, dataset, alone):
    assert run.evaluate(Oracle(recipe.data, moved=3.0), dataset, recipe, alone)["bbox"]["AP"] < 0.6


def test_other_numbers_of_results_and_lvis_are_scored_where_they_are_asked_for(recipe, dataset, alone):
    assert not {"max_dets", "lvis"} & run.evaluate(Oracle(recipe.data), dataset, recipe, alone).keys()
    content = json.loads(dataset.annotations.read_text())
    for category in content["categories"]:
        category["frequency"] = "r" if category["name"] == "cat" else "f"
    for image in content["images"]:
        image["neg_category_ids"] = []
    dataset.annotations.write_text(json.dumps(content))
    more = replace_settings(recipe, evaluate=replace_settings(recipe.evaluate, max_dets=1))
    metrics = run.evaluate(Oracle(recipe.data), dataset, more, alone)
    assert metrics["max_dets"]["segm"]["AP@1"] == pytest.approx(1)  # no class is on an image twice
    assert [metrics["lvis"]["bbox"][name] for name in ("APr", "APc", "APf")] == [
        pytest.approx(1),
        None,
        pytest.approx(1),
    ]


def test_boundaries_are_scored_unless_they_are_not_wanted(recipe, dataset, alone):
    metrics = run.evaluate(Oracle(recipe.data), dataset, recipe, alone)
    assert metrics["boundary"]["segm"]["AP"] == pytest.approx(1)
    without = replace_settings(recipe, evaluate=replace_settings(recipe.evaluate, boundary=False))
    assert "boundary" not in run.evaluate(Oracle(recipe.data), dataset, without, alone)


def test_speed_and_versions_are_told(recipe, dataset, alone, tmp_path):
    run.evaluate(Oracle(recipe.data), dataset, recipe, alone, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["speed"]["images"] == len(SIZES)
    assert metrics["speed"]["predict"] > metrics["speed"]["evaluate"] > 0
    assert metrics["versions"]["device"] == "1 x CPU"
    assert set(json.loads((tmp_path / "details.json").read_text())) == set(IN_DETAILS)


def test_a_signal_leaves_what_was_found_under_another_name_until_an_evaluation_is_whole(
    recipe, dataset, alone, tmp_path
):
    said = []

    def interrupted(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.evaluate(Oracle(recipe.data), dataset, recipe, alone, tmp_path / "out", interrupted, say=said.append)
    path = tmp_path / "out" / "predictions.partial.json"
    assert list(path.parent.iterdir()) == [path]
    part = json.loads(path.read_text())
    assert said == [
        f"stopped after 4 of 5 images: results of these are in {path}, without scores, which would be of a part"
    ]
    run.evaluate(Oracle(recipe.data), dataset, recipe, alone, tmp_path / "out")
    whole = json.loads((path.parent / "predictions.json").read_text())
    assert not path.exists()
    assert len(part) < len(whole)
    assert all(entry in whole for entry in part)


def test_progress_counts_to_all_pictures(recipe, dataset, alone):
    calls = []
    run.evaluate(Oracle(recipe.data), dataset, recipe, alone, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 5), (4, 5), (5, 5)]


def share_of(world, model, dataset, recipe):
    """What one of several processes gives to the first, as bytes."""
    evaluation = Evaluation(Truth(dataset), boundary=recipe.evaluate.boundary)
    share = run.predict_share(model, dataset, recipe, world, evaluation, keep=True)
    share.scored = evaluation.to_bytes()
    return share


@pytest.mark.parametrize("size", [2, 3, 8])
def test_several_processes_find_the_same_as_one(recipe, dataset, alone, tmp_path, size):
    model, cpu = Oracle(recipe.data, moved=1.0), torch.device("cpu")
    whole = run.evaluate(model, dataset, recipe, alone, tmp_path / "one")
    shares = [share_of(World(cpu, rank, size), model, dataset, recipe) for rank in range(1, size)]
    assert 0 < len(shares[0].image_ids) < len(SIZES)
    Recorded.others = [msgspec.msgpack.encode(share) for share in shares]
    together = run.evaluate(model, dataset, recipe, Recorded(cpu, rank=0, size=size), tmp_path / "many")
    for name in set(whole) - {"speed", "versions"}:
        assert together[name] == whole[name], name
    assert (tmp_path / "one/predictions.json").read_bytes() == (tmp_path / "many/predictions.json").read_bytes()


@pytest.mark.parametrize("change", ["dropped", "doubled"])
def test_an_image_that_is_dropped_or_doubled_on_the_way_is_noticed(recipe, dataset, change):
    model, cpu = Oracle(recipe.data), torch.device("cpu")
    share = share_of(World(cpu, 1, 2), model, dataset, recipe)
    share.image_ids = share.image_ids[1:] if change == "dropped" else [*share.image_ids, share.image_ids[0]]
    Recorded.others = [msgspec.msgpack.encode(share)]
    with pytest.raises(AssertionError, match="every image is predicted exactly once"):
        run.evaluate(model, dataset, recipe, Recorded(cpu, rank=0, size=2))


def test_more_processes_than_batches_leave_some_without_pictures(recipe, dataset):
    share = share_of(World(torch.device("cpu"), rank=7, size=8), Oracle(recipe.data), dataset, recipe)
    assert (share.image_ids, share.predictions, share.predicted) == ([], {}, 0)


def test_results_are_scored_while_the_model_predicts(recipe, dataset, alone, monkeypatch):
    """A batch is handed over when the next one is under way; here the last two would otherwise wait for their turn."""
    monkeypatch.setattr(run, "AHEAD", 0)
    monkeypatch.setattr(Oracle, "forward", watched(Oracle.forward, "predicted", events := []))
    monkeypatch.setattr(Evaluation, "add", watched(Evaluation.add, "scored", events))
    run.evaluate(Oracle(recipe.data), dataset, recipe, alone)
    assert events == ["predicted", "predicted", "scored", "predicted", "scored", "scored"]


def test_results_are_not_kept_where_nobody_wants_the_file(recipe, dataset, alone):
    evaluation = Evaluation(Truth(dataset), boundary=recipe.evaluate.boundary)
    share = run.predict_share(Oracle(recipe.data), dataset, recipe, alone, evaluation, keep=False)
    assert (len(share.image_ids), share.predictions) == (len(SIZES), {})


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ("cat",),
            "have 1 classes and .* has 2 categories, only the weights know none, only the data set knows <b>dog",
        ),
        (("cat", "bird"), "only the weights know bird, only the data set knows <b>dog</b>"),
    ],
)
def test_classes_that_do_not_fit_are_named(recipe, dataset, tmp_path, classes, message):
    trained = msgspec.structs.replace(recipe, classes=classes, category_ids=tuple(range(1, len(classes) + 1)))
    with pytest.raises(ValueError, match=message):
        run.check_classes(Weights({}, trained, "weights"), dataset)


def test_classes_are_known_by_name_and_those_without_annotations_are_left_out(recipe, dataset, alone, tmp_path):
    classes = ("<b>dog</b>", "bird", "cat")
    trained = msgspec.structs.replace(recipe, classes=classes, category_ids=(1, 2, 3))
    run.check_classes(Weights({}, trained, "weights"), dataset)
    run.evaluate(Oracle(recipe.data), dataset, trained, alone, tmp_path)  # its cats are label 1, its dogs label 2
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert {entry["category_id"] for entry in predictions} == {7}
    assert len(predictions) == sum(category == 3 for objects in BOXES.values() for category, *_ in objects)


def test_pictures_are_padded_alone_where_anchors_depend_on_the_padding(recipe, dataset, alone, monkeypatch):
    seen = []
    prepare = run.Ways.prepare
    monkeypatch.setattr(run.Ways, "prepare", lambda *given: (seen.append(given[5]), prepare(*given))[1])
    divided = msgspec.structs.replace(
        recipe, model=Model(rpn=RPN(anchor_strides="divided")), evaluate=Evaluate(batch=1)
    )
    for one in (msgspec.structs.replace(recipe, evaluate=Evaluate(batch=1)), divided):
        run.evaluate(Oracle(recipe.data), dataset, one, alone)
    assert len(set(seen[: len(SIZES)])) <= recipe.data.num_buckets
    sizes = [resized_size(*SIZES[number], 60, 100) for number in SIZES]
    assert sorted(seen[len(SIZES) :]) == sorted((-(-h // 32) * 32, -(-w // 32) * 32) for h, w in sizes)


def test_names_that_repeat_are_told_apart_by_their_place_and_refused_where_they_cannot_be(dataset):
    twins = replace(dataset, category_names=("cell", "cell"), category_ids=(11, 12))
    assert run.label_ids(("cell", "cell"), twins) == [11, 12]
    assert run.label_ids(("N/A", "<b>dog</b>", "N/A"), dataset) == [None, 7, None]
    weights = Weights({}, Recipe(classes=("cell", "other"), category_ids=(1, 2)), "weights")
    with pytest.raises(ValueError, match="has several categories called cell; give each its own name"):
        run.check_classes(weights, twins)


def test_a_weights_folder_is_evaluated_with_its_own_network_and_pixels(recipe, alone, tmp_path):
    small = Model(
        backbone=Backbone(kind="resnet18", width=16, pretrained="", frozen_stages=0),
        neck=Neck(channels=16),
        rpn=RPN(num_test_candidates=40, num_test_proposals=20),
        box_head=BoxHead(hidden=32, num_candidates=50, num_detections=5, score_threshold=0.0),
        mask_head=MaskHead(num_convs=1, channels=8),
    )
    data = msgspec.structs.replace(recipe.data, mean=(100.0, 110.0, 120.0))
    trained = msgspec.structs.replace(recipe, model=small, data=data)
    weights = load_weights(save_weights(tmp_path / "weights", build(small, 2), trained, {}))
    out = tmp_path / "runs" / "eval"
    metrics = run.run(recipe, weights, out, alone)
    assert 0 <= metrics["segm"]["AP"] < 0.5
    assert json.loads((out / "metrics.json").read_text())["segm"] == metrics["segm"]
    used = read_recipe(out)
    assert used.model == small
    assert used.data.mean == (100.0, 110.0, 120.0)
